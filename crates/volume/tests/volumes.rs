//! Life of volumes: names, records, mounts, filling, crashes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use wharf_volume::{ANONYMOUS_LABEL, NewVolume, VolumeError, Volumes};

fn named(name: &str) -> NewVolume {
    NewVolume {
        name: name.to_owned(),
        ..NewVolume::default()
    }
}

fn with_options(name: &str, pairs: &[(&str, &str)]) -> NewVolume {
    let options: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    NewVolume { options, ..named(name) }
}

fn fill(volumes: &Volumes, name: &str, image: &Path, path: &str) {
    let root = fs::File::open(image).unwrap();
    volumes.fill(name, root.as_fd(), Path::new(path)).unwrap();
}

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .contains(path.to_str().unwrap())
}

/// Unmounts whatever a failed test leaves.
struct Guard(Volumes);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.unmount_all();
    }
}

#[test]
fn creating_twice_returns_the_first_volume() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    let first = volumes.create(NewVolume { labels, ..named("v1") }).unwrap();
    assert_eq!(volumes.create(named("v1")).unwrap(), first);
    assert!(first.mountpoint.is_dir());
    assert_eq!(first.mountpoint, root.path().join("volumes/v1/data"));
    let again = Volumes::open(root.path()).unwrap();
    assert_eq!(again.inspect("v1").unwrap(), first);
    again.remove("v1").unwrap();
    assert!(matches!(again.inspect("v1"), Err(VolumeError::NotFound(_))));
    assert!(matches!(again.remove("v1"), Err(VolumeError::NotFound(_))));
    assert_eq!(fs::read_dir(root.path().join("volumes")).unwrap().count(), 0);
}

#[test]
fn many_creators_of_one_name_get_one_volume() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| volumes.create(named("same")).unwrap()))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(made.iter().all(|v| *v == made[0]));
    assert_eq!(volumes.list().unwrap().len(), 1);
    assert_eq!(fs::read_dir(root.path().join("volumes")).unwrap().count(), 1);
}

#[test]
fn bad_names_and_options_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    for name in ["a", "-ab", "a/b", "../x", "a b", ".new-1", &"n".repeat(256)] {
        assert!(
            matches!(volumes.create(named(name)), Err(VolumeError::Invalid(_))),
            "{name}"
        );
        assert!(matches!(volumes.inspect(name), Err(VolumeError::NotFound(_))), "{name}");
    }
    assert!(volumes.create(with_options("ok", &[("bogus", "x")])).is_err());
    assert!(
        volumes
            .create(NewVolume {
                driver: "other".to_owned(),
                ..named("ok")
            })
            .is_err()
    );
    assert!(volumes.list().unwrap().is_empty());
}

#[test]
fn a_volume_without_a_name_is_anonymous() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let volume = volumes.create(NewVolume::default()).unwrap();
    assert_eq!(volume.name.len(), 64);
    assert!(volume.anonymous && volume.labels.contains_key(ANONYMOUS_LABEL));
}

#[test]
fn half_made_and_half_removed_volumes_go_at_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    volumes.create(named("kept")).unwrap();
    let dir = root.path().join("volumes");
    fs::create_dir_all(dir.join(".new-1-0/data")).unwrap();
    fs::create_dir_all(dir.join(".gone-1-0/data/deep")).unwrap();
    let again = Volumes::open(root.path()).unwrap();
    assert_eq!(again.list().unwrap().len(), 1);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn a_tmpfs_volume_is_mounted_while_it_is_used() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let _guard = Guard(volumes.clone());
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=33,noexec")];
    volumes.create(with_options("tv", &options)).unwrap();
    let path = volumes.attach("tv").unwrap();
    assert_eq!(volumes.attach("tv").unwrap(), path);
    assert!(is_mounted(&path));
    assert_eq!(path.metadata().unwrap().uid(), 33);
    volumes.release("tv").unwrap();
    assert!(is_mounted(&path), "somebody still uses it");
    volumes.release("tv").unwrap();
    assert!(!is_mounted(&path));
    volumes.attach("tv").unwrap();
    volumes.remove("tv").unwrap();
    assert!(!is_mounted(&path) && !path.exists());
}

#[test]
fn a_restarted_engine_keeps_the_mounts_of_running_containers() {
    let root = tempfile::tempdir().unwrap();
    let before = Volumes::open(root.path()).unwrap();
    let _guard = Guard(before.clone());
    let options = [("type", "tmpfs"), ("device", "tmpfs")];
    for name in ["used", "unused"] {
        before.create(with_options(name, &options)).unwrap();
        fs::write(before.attach(name).unwrap().join("f"), name).unwrap();
    }
    let after = Volumes::open(root.path()).unwrap();
    after.release("used").unwrap();
    let path = after.attach("used").unwrap();
    assert_eq!(
        fs::read_to_string(path.join("f")).unwrap(),
        "used",
        "the same mount, with its data"
    );
    after.unmount_unused().unwrap();
    assert!(is_mounted(&path));
    assert!(!is_mounted(&after.inspect("unused").unwrap().mountpoint));
    after.release("used").unwrap();
    assert!(!is_mounted(&path));
}

#[test]
fn a_bind_volume_shows_the_host_directory_and_a_bad_one_says_why() {
    let root = tempfile::tempdir().unwrap();
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("f"), "here").unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let _guard = Guard(volumes.clone());
    let device = host.path().to_str().unwrap();
    volumes
        .create(with_options(
            "bv",
            &[("type", "none"), ("device", device), ("o", "bind,ro")],
        ))
        .unwrap();
    let path = volumes.attach("bv").unwrap();
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "here");
    assert!(fs::write(path.join("g"), "x").is_err(), "it is read-only");
    volumes.remove("bv").unwrap();
    assert!(
        host.path().join("f").exists(),
        "removing a volume never removes what it was bound to"
    );
    volumes
        .create(with_options(
            "xv",
            &[("type", "none"), ("device", "/nowhere"), ("o", "bind")],
        ))
        .unwrap();
    let text = volumes.attach("xv").unwrap_err().to_string();
    assert!(
        text.contains("error while mounting volume") && text.contains("/nowhere"),
        "{text}"
    );
}

/// An image directory with everything that copy-up must keep.
fn image() -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    let data = image.path().join("data");
    fs::create_dir_all(data.join("sub/deep")).unwrap();
    fs::write(data.join("sub/f"), "x").unwrap();
    fs::hard_link(data.join("sub/f"), data.join("hard")).unwrap();
    symlink("sub", data.join("l")).unwrap();
    symlink("/etc", data.join("escape")).unwrap();
    std::os::unix::fs::chown(data.join("sub"), Some(33), Some(34)).unwrap();
    fs::set_permissions(data.join("sub"), fs::Permissions::from_mode(0o710)).unwrap();
    fs::set_permissions(data.join("sub/f"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(&data, Some(99), Some(98)).unwrap();
    rustix::fs::setxattr(data.join("sub/f"), "user.k", b"v", rustix::fs::XattrFlags::empty()).ok();
    image
}

#[test]
fn an_empty_volume_is_filled_from_the_image_once() {
    let root = tempfile::tempdir().unwrap();
    let image = image();
    let volumes = Volumes::open(root.path()).unwrap();
    let data = volumes.create(named("fv")).unwrap().mountpoint;
    fill(&volumes, "fv", image.path(), "/data");
    let sub = data.join("sub").metadata().unwrap();
    assert_eq!((sub.uid(), sub.gid(), sub.mode() & 0o7777), (33, 34, 0o710));
    assert_eq!(data.join("sub/f").metadata().unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(
        data.join("sub/f").metadata().unwrap().ino(),
        data.join("hard").metadata().unwrap().ino()
    );
    assert_eq!(fs::read_link(data.join("l")).unwrap(), Path::new("sub"));
    assert_eq!(fs::read_link(data.join("escape")).unwrap(), Path::new("/etc"));
    assert_eq!(
        (data.metadata().unwrap().uid(), data.metadata().unwrap().gid()),
        (99, 98)
    );
    assert!(data.join("sub/deep").is_dir());
    assert_eq!(volumes.size("fv").unwrap(), 1);
    let mut value = [0u8; 8];
    let source_has = rustix::fs::getxattr(image.path().join("data/sub/f"), "user.k", &mut value).is_ok();
    let copy_has = rustix::fs::getxattr(data.join("sub/f"), "user.k", &mut value).is_ok();
    assert_eq!(source_has, copy_has);
    fs::write(image.path().join("data/new"), "later").unwrap();
    fill(&volumes, "fv", image.path(), "/data");
    assert!(!data.join("new").exists(), "a volume with content is not filled");
}

#[test]
fn an_interrupted_fill_is_completed() {
    let root = tempfile::tempdir().unwrap();
    let image = image();
    let volumes = Volumes::open(root.path()).unwrap();
    let data = volumes.create(named("fv")).unwrap().mountpoint;
    fs::create_dir(data.join("sub")).unwrap();
    fs::write(data.join("sub/.wharf-fill-77"), "half").unwrap();
    fs::write(data.join("hard"), "whole").unwrap();
    fs::write(root.path().join("volumes/fv/filling"), "").unwrap();
    fill(&volumes, "fv", image.path(), "/data");
    assert_eq!(fs::read_to_string(data.join("hard")).unwrap(), "whole");
    assert_eq!(fs::read_to_string(data.join("sub/f")).unwrap(), "x");
    assert!(!data.join("sub/.wharf-fill-77").exists());
    assert!(!root.path().join("volumes/fv/filling").exists());
}

#[test]
fn hostile_paths_stay_inside_the_image() {
    let root = tempfile::tempdir().unwrap();
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("secret")).unwrap();
    fs::write(outer.path().join("secret/key"), "k").unwrap();
    let image = outer.path().join("image");
    fs::create_dir(&image).unwrap();
    symlink("../secret", image.join("up")).unwrap();
    symlink(outer.path().join("secret"), image.join("abs")).unwrap();
    symlink("loop", image.join("loop")).unwrap();
    fs::write(image.join("file"), "f").unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let data = volumes.create(named("hv")).unwrap().mountpoint;
    for path in [
        "/up",
        "/abs",
        "/../secret",
        "up/../../secret",
        "/loop",
        "/file",
        "/missing/deep",
    ] {
        fill(&volumes, "hv", &image, path);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "{path}");
    }
}
