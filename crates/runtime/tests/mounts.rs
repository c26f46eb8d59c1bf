//! Mounts: overlays, binds, and what a hostile image may try. Needs root.

mod bundle;

use bundle::{Bundle, has_mount_setattr, without};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use serde_json::json;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use wharf_sys::namespace::{self, CLONE_NEWNS};

/// A bundle whose root is an overlay of this many layers; layer 0, the
/// topmost, is the usual root.
fn layered(count: usize, script: &str) -> (Bundle, Vec<PathBuf>) {
    let bundle = Bundle::new(script);
    // As long as real ones: a digest in hexadecimal.
    let layer = |index: usize| bundle.path().join(format!("layers/{index:064x}/fs"));
    let mut lower = vec![bundle.rootfs()];
    for index in 1..count {
        std::fs::create_dir_all(layer(index)).expect("make a layer");
        std::fs::write(layer(index).join(format!("from-{index}")), index.to_string()).expect("fill a layer");
        lower.push(layer(index));
    }
    for directory in ["upper", "work"] {
        std::fs::create_dir_all(bundle.path().join(directory)).expect("make the writable layer");
    }
    (bundle, lower)
}

#[test]
fn an_overlay_of_127_layers_shows_all_and_writes_go_up() {
    for classic in [false, true] {
        let (mut bundle, lower) = layered(127, "ls / | grep -c from-; cat /from-126; echo new >/made; rm /from-1");
        bundle.filter = classic.then(|| without(&["fsopen"]));
        let outcome = bundle.launch(json!({ "lower": lower }));
        assert_eq!(outcome.ok(), "126\n126", "classic: {classic}");
        let made = std::fs::read_to_string(bundle.path().join("upper/made")).expect("in the upper layer");
        assert_eq!(made, "new\n");
        assert!(lower[1].join("from-1").exists());
    }
}

#[test]
fn no_mount_of_the_container_reaches_the_host() {
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let (bundle, lower) = layered(3, "mount | wc -l");
    assert!(
        bundle
            .launch(json!({ "lower": lower }))
            .ok()
            .parse::<u32>()
            .expect("a number")
            > 3
    );
    let after = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let ours = |text: &str| text.matches(&*bundle.path().to_string_lossy()).count();
    assert_eq!(ours(&before), ours(&after));
}

#[test]
fn binds_of_files_and_directories_make_their_targets() {
    let mut bundle = Bundle::new("cat /etc/deep/file; ls /srv/new; touch /srv/new/y && echo written");
    std::fs::write(bundle.path().join("file"), "content").expect("source");
    std::fs::create_dir(bundle.path().join("directory")).expect("source");
    bundle.add_mount(json!({ "destination": "/etc/deep/file", "source": "file", "options": ["bind"] }));
    bundle.add_mount(json!({ "destination": "/srv/new", "source": "directory", "options": ["rbind", "rw"] }));
    assert_eq!(bundle.run().ok(), "contentwritten");
    assert!(bundle.path().join("directory/y").exists());
}

/// A directory that is a private mount, with a mount namespace pinned in it, as snapd does.
struct Pinned(PathBuf);

impl Pinned {
    fn at(directory: PathBuf) -> Self {
        let pin = directory.join("namespace");
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(&pin, "").expect("a file");
        mount_bind(&directory, &directory).expect("a mount");
        mount_change(&directory, MountPropagationFlags::PRIVATE).expect("a private one");
        let make = || {
            namespace::unshare(CLONE_NEWNS).expect("a mount namespace");
            namespace::open(Path::new("/proc/thread-self/ns/mnt")).expect("it")
        };
        // Since Linux 6.18 chance decides whether one is young enough to be pinned.
        let pinned = (0..100).any(|_| {
            let made = std::thread::scope(|scope| scope.spawn(make).join().expect("a thread"));
            mount_bind(format!("/proc/self/fd/{}", made.as_raw_fd()), &pin).is_ok()
        });
        assert!(pinned);
        Self(directory)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let done = unmount(&self.0, UnmountFlags::DETACH);
        assert!(done.is_ok() || std::thread::panicking());
    }
}

#[test]
fn what_pins_a_mount_namespace_below_a_source_is_no_reason_to_refuse_it() {
    let mut bundle = Bundle::new("cat /host/file");
    let host = bundle.path().join("host");
    let _pinned = Pinned::at(host.join("pins"));
    std::fs::write(host.join("file"), "seen").expect("a file");
    bundle.add_mount(json!({ "destination": "/host", "source": host, "options": ["rbind", "rprivate"] }));
    // Since Linux 6.18 chance decides whether the container's mount namespace is the older one.
    for _ in 0..8 {
        assert_eq!(bundle.run().ok(), "seen");
    }
}

#[test]
fn a_missing_source_is_named() {
    let mut bundle = Bundle::new("true");
    bundle.add_mount(json!({ "destination": "/x", "source": "/does/not/exist", "options": ["bind"] }));
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("bind /does/not/exist at /x: no such file"),
        "{outcome:?}"
    );
    assert!(!bundle.has_cgroup());
}

#[test]
fn a_link_in_the_image_cannot_lead_a_mount_out_of_the_root() {
    for way in [None, Some("openat2"), Some("open_tree")] {
        let outside = tempfile::tempdir().expect("a directory of the host");
        let mut bundle = Bundle::new("cat /proc/mounts | grep ' /escape' || true");
        let target = outside.path().join("victim");
        std::fs::create_dir(&target).expect("victim");
        // Absolute, and climbing: both mean a place inside the root.
        symlink(outside.path(), bundle.rootfs().join("escape")).expect("link");
        symlink("../../../../../../etc", bundle.rootfs().join("climb")).expect("link");
        std::fs::create_dir(bundle.path().join("source")).expect("source");
        for destination in ["/escape/victim/made", "/climb/made"] {
            bundle.add_mount(json!({ "destination": destination, "source": "source", "options": ["bind"] }));
        }
        bundle.filter = way.map(|call| without(&[call]));
        bundle.launch(json!({})).ok();
        assert!(!target.join("made").exists(), "{way:?}");
        assert!(!std::path::Path::new("/etc/made").exists(), "{way:?}");
        assert!(bundle.rootfs().join("etc/made").is_dir(), "{way:?}");
    }
}

#[test]
fn proc_is_not_mounted_over_a_link() {
    let bundle = Bundle::new("true");
    std::fs::remove_dir(bundle.rootfs().join("proc")).expect("remove");
    symlink("etc", bundle.rootfs().join("proc")).expect("link");
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .stderr
            .contains("mount proc at /proc: it must be mounted on ordinary directory: not a directory"),
        "{outcome:?}"
    );
}

#[test]
fn files_that_the_runtime_writes_in_proc_cannot_be_covered() {
    let mut bundle = Bundle::new("true");
    std::fs::write(bundle.path().join("fake"), "").expect("source");
    bundle.add_mount(json!({ "destination": "/proc/self/attr/exec", "source": "fake", "options": ["bind"] }));
    assert!(
        bundle
            .run()
            .stderr
            .contains("/proc/self/attr/exec: operation not permitted")
    );
    let mut bundle = Bundle::new("cat /proc/meminfo");
    std::fs::write(bundle.path().join("fake"), "faked").expect("source");
    bundle.add_mount(json!({ "destination": "/proc/meminfo", "source": "fake", "options": ["bind"] }));
    assert_eq!(bundle.run().ok(), "faked");
}

#[test]
fn recursive_attributes_reach_mounts_below() {
    if !has_mount_setattr() {
        return;
    }
    let mut bundle = Bundle::new("touch /dev/shm-ro/x 2>/dev/null || echo refused");
    bundle.add_mount(json!({ "destination": "/dev/shm-ro", "source": "/dev/shm", "options": ["rbind", "rro"] }));
    assert_eq!(bundle.run().ok(), "refused");
}

#[test]
fn a_tmpfs_can_start_with_what_it_covers() {
    let mut bundle = Bundle::new("cat /etc/passwd | wc -l; touch /etc/new; stat -c %a /etc");
    bundle.add_mount(json!({ "destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
    assert_eq!(bundle.run().ok(), "2\n755");
    assert!(!bundle.rootfs().join("etc/new").exists());
}

#[test]
fn the_root_has_the_propagation_asked_for() {
    for (word, expected) in [
        ("private", ""),
        ("shared", "shared:"),
        ("rslave", "master:"),
        ("unbindable", "unbindable"),
    ] {
        let mut bundle = Bundle::new("grep ' / / \\| /.*/rootfs / ' /proc/self/mountinfo | head -1");
        bundle.set("/linux/rootfsPropagation", json!(word));
        let out = bundle.run().ok();
        let optional = out
            .split(" - ")
            .next()
            .expect("fields")
            .split_whitespace()
            .skip(6)
            .collect::<String>();
        // A slave of a private mount is private.
        if word != "rslave" {
            assert!(
                optional.contains(expected) && optional.is_empty() == expected.is_empty(),
                "{word}: {out}"
            );
        }
    }
}

#[test]
fn mounts_of_a_shared_bind_travel_to_the_host_and_of_a_private_one_do_not() {
    for (word, travels) in [("rshared", true), ("rprivate", false)] {
        let mut bundle = Bundle::new("mount -t tmpfs inner /volume/inner");
        std::fs::create_dir_all(bundle.path().join("volume/inner")).expect("source");
        let caps = json!(["CAP_SYS_ADMIN"]);
        bundle.set(
            "/process/capabilities",
            json!({ "bounding": caps, "effective": caps, "permitted": caps }),
        );
        bundle.set(
            "/linux/rootfsPropagation",
            json!(if travels { "rshared" } else { "rprivate" }),
        );
        bundle.add_mount(json!({ "destination": "/volume", "source": "volume", "options": ["rbind", word] }));
        bundle.write();
        // In a mount namespace of its own, where the volume is a shared mount.
        let volume = bundle.path().join("volume");
        let script = format!(
            "mount --bind {v} {v} && mount --make-shared {v} && {} --root {} run -b {} {} && grep -c {v}/inner /proc/self/mountinfo",
            bundle::program("wharf-runtime").display(),
            bundle.path().join("state").display(),
            bundle.path().display(),
            bundle.id,
            v = volume.display(),
        );
        let output = std::process::Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .output()
            .expect("unshare");
        let outcome = bundle::Outcome::from(output);
        assert_eq!(outcome.stdout, u8::from(travels).to_string(), "{word}: {outcome:?}");
    }
}

#[test]
fn the_cgroup_is_visible_read_only() {
    let mut bundle = Bundle::new("ls /sys/fs/cgroup | grep -c .; mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused");
    let options = ["nosuid", "noexec", "nodev", "ro"];
    bundle.add_mount(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options }),
    );
    let out = bundle.run().ok();
    let (count, refused) = out.split_once('\n').expect("two lines");
    assert!(count.parse::<u32>().expect("a number") > 1, "{out}");
    assert_eq!(refused, "refused");
}

#[test]
fn ids_of_a_bind_can_be_mapped() {
    if !has_mount_setattr() {
        return;
    }
    let mut bundle = Bundle::new("stat -c '%u %g' /data/file");
    std::fs::create_dir(bundle.path().join("data")).expect("source");
    std::fs::write(bundle.path().join("data/file"), "").expect("source");
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 100 }]);
    bundle.add_mount(json!({
        "destination": "/data", "source": "data", "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map,
    }));
    assert_eq!(bundle.run().ok(), "5000 5000");
}

/// A bundle with a user namespace whose root is this id of the host.
fn with_user_namespace(script: &str, host_id: u32) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.map_users(host_id, 65_536);
    bundle
}

#[test]
fn a_mapped_bind_without_mappings_takes_those_of_the_container() {
    if !has_mount_setattr() {
        return;
    }
    for (option, owner) in [("bind", "65534"), ("idmap", "0"), ("ridmap", "0")] {
        let mut bundle = with_user_namespace("stat -c %u /data/file", 300_000);
        std::fs::create_dir(bundle.path().join("data")).expect("source");
        std::fs::write(bundle.path().join("data/file"), "").expect("source");
        std::fs::create_dir(bundle.rootfs().join("data")).expect("the mapped root may not make it");
        bundle.add_mount(json!({ "destination": "/data", "source": "data", "options": ["rbind", option] }));
        assert_eq!(bundle.run().ok(), owner, "{option}");
    }
    let mut bundle = Bundle::new("true");
    bundle.add_mount(json!({ "destination": "/data", "source": "/tmp", "options": ["bind", "idmap"] }));
    let outcome = bundle.run();
    assert!(
        outcome.stderr.contains("mounts[4].options: /data: idmap needs"),
        "{outcome:?}"
    );
}

#[test]
fn mapping_ids_of_a_tree_reaches_mounts_below_only_when_asked() {
    if !has_mount_setattr() {
        return;
    }
    for (option, inner) in [("idmap", "0"), ("ridmap", "4000")] {
        let mut bundle = Bundle::new("stat -c %u /data /data/below | tr '\\n' ' '");
        let map = json!([{ "containerID": 0, "hostID": 4000, "size": 10 }]);
        bundle.add_mount(json!({
            "destination": "/data", "source": "data", "options": ["rbind", option],
            "uidMappings": map, "gidMappings": map,
        }));
        bundle.write();
        let data = bundle.path().join("data");
        std::fs::create_dir_all(data.join("below")).expect("source");
        // Of the same file system: not every kernel maps ids of a tmpfs.
        let inner_tree = bundle.path().join("inner");
        std::fs::create_dir(&inner_tree).expect("what is mounted below");
        let script = format!(
            "mount --bind {} {}; exec {} --root {} run --bundle {} {}",
            inner_tree.display(),
            data.join("below").display(),
            bundle::program("wharf-runtime").display(),
            bundle.path().join("state").display(),
            bundle.path().display(),
            bundle.id
        );
        // In a mount namespace of its own, which takes the mount away with it.
        let output = std::process::Command::new("/bin/busybox")
            .args(["unshare", "-m", "/bin/busybox", "sh", "-c", &script])
            .output();
        let outcome = bundle::Outcome::from(output.expect("run"));
        assert_eq!(outcome.ok(), format!("4000 {inner}"), "{option}");
    }
}

/// Adds a tmpfs at /mnt whose file is the runtime's, and a mapped bind of it at /data.
fn with_mapped_source_inside(bundle: &mut Bundle) {
    let seen_from_outside = bundle.rootfs().join("mnt");
    let tree = bundle.path().join("tree");
    std::fs::create_dir(&tree).expect("source");
    std::fs::write(tree.join("file"), "").expect("source");
    for target in ["mnt", "data"] {
        std::fs::create_dir(bundle.rootfs().join(target)).expect("the mapped root may not make it");
    }
    let map = json!([{ "containerID": 0, "hostID": 7000, "size": 10 }]);
    bundle
        .add_mount(json!({ "destination": "/mnt", "source": tree, "options": ["bind"] }))
        .add_mount(json!({
            "destination": "/data", "source": seen_from_outside, "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map,
        }));
}

#[test]
fn ids_of_a_source_that_an_earlier_mount_brings_can_be_mapped() {
    if !has_mount_setattr() {
        return;
    }
    let mut bundle = Bundle::new("stat -c '%u %g' /mnt/file /data/file | tr '\\n' ' '");
    with_mapped_source_inside(&mut bundle);
    assert_eq!(bundle.run().ok(), "0 0 7000 7000");
    // The filter comes over the same channel, after the answer.
    bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    bundle.set("/hooks", json!({ "prestart": [{ "path": "/bin/true" }] }));
    assert_eq!(bundle.run().ok(), "0 0 7000 7000", "with a hook and a filter");

    let mut bundle = with_user_namespace("stat -c '%u %g' /mnt/file /data/file | tr '\\n' ' '", 7000);
    with_mapped_source_inside(&mut bundle);
    assert_eq!(bundle.run().ok(), "65534 65534 0 0", "in a user namespace");
}

#[test]
fn a_source_inside_whose_ids_cannot_be_mapped_ends_the_container_with_its_reason() {
    if !has_mount_setattr() {
        return;
    }
    let mut bundle = Bundle::new("true");
    with_mapped_source_inside(&mut bundle);
    let mounts = bundle.config["mounts"].as_array().map_or(0, Vec::len);
    // Of proc the kernel maps no ids.
    bundle.config["mounts"][mounts - 1]["source"] = json!(bundle.rootfs().join("proc"));
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("map the ids of /data"), "{outcome:?}");
    assert!(!bundle.path().join("state").join(&bundle.id).exists());
}
