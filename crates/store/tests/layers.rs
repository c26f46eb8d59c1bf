//! Layers through a real overlay: what a container changes, what becomes of it as a layer, and back.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use support::{Entry, Sandbox, dir, entry, file, gzip, names, symlink as link_entry, tar_of};
use wharf_store::{Change, ChangeKind, Layer, LayerSource, changes, export_tree, pack_path};
use wharf_sys::mount::{Parameter, new_filesystem};

/// A merged view that is mounted nowhere.
struct Merged {
    mount: OwnedFd,
}

impl Merged {
    fn new(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Merged {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let lowers: Vec<CString> = lowers.iter().map(|l| text(l)).collect();
        let mut parameters: Vec<Parameter<'_>> = lowers.iter().map(|l| Parameter::Text("lowerdir+", l)).collect();
        let upper = upper.map(|(upper, work)| (text(upper), text(work)));
        if let Some((upper, work)) = &upper {
            parameters.push(Parameter::Text("upperdir", upper));
            parameters.push(Parameter::Text("workdir", work));
        }
        Merged {
            mount: new_filesystem("overlay", &parameters, 0).unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.mount.as_raw_fd()))
    }
}

/// Everything that an image must keep about a tree, by path.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        for name in names(&root.join(&path)) {
            let inner = path.join(name);
            let full = root.join(&inner);
            let meta = fs::symlink_metadata(&full).unwrap();
            let mut text = format!("{:o} {}:{} {}", meta.mode(), meta.uid(), meta.gid(), meta.mtime());
            if meta.is_dir() {
                pending.push(inner.clone());
            } else if meta.is_symlink() {
                text += &format!(" -> {}", fs::read_link(&full).unwrap().display());
            } else {
                text += &format!(" {:?}", fs::read(&full).unwrap_or_default());
                if meta.nlink() > 1 {
                    let first = first_names.entry(meta.ino()).or_insert_with(|| inner.clone());
                    text += &format!(" = {}", first.display());
                }
            }
            found.insert(inner, text);
        }
    }
    found
}

/// What a double walk finds.
fn compare(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) -> Vec<(PathBuf, ChangeKind)> {
    let without_links = |text: &str| text.split(" = ").next().unwrap_or_default().to_owned();
    let without_time = |text: &str| text.rsplitn(2, ' ').last().unwrap_or_default().to_owned();
    let is_dir = |text: &str| text.starts_with('4');
    let mut found = BTreeMap::new();
    for (path, text) in after {
        match before.get(path) {
            None => drop(found.insert(path.clone(), ChangeKind::Added)),
            Some(old) if is_dir(old) && is_dir(text) && without_time(old) == without_time(text) => {}
            Some(old) if without_links(old) == without_links(text) => {}
            Some(_) => drop(found.insert(path.clone(), ChangeKind::Modified)),
        }
    }
    for path in before.keys().filter(|p| !after.contains_key(*p)) {
        let parent = path.parent().unwrap();
        let parent_stays = parent.as_os_str().is_empty() || after.get(parent).is_some_and(|t| is_dir(t));
        if parent_stays {
            found.insert(path.clone(), ChangeKind::Deleted);
        }
    }
    let changed: Vec<PathBuf> = found.keys().cloned().collect();
    for path in changed {
        for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            found.entry(parent.to_owned()).or_insert(ChangeKind::Modified);
        }
    }
    found
        .into_iter()
        .map(|(path, kind)| (Path::new("/").join(path), kind))
        .collect()
}

#[derive(Clone, Debug)]
enum Act {
    Write(usize, u8),
    MakeDir(usize),
    Remove(usize),
    Renew(usize),
    Symlink(usize, usize),
    HardLink(usize, usize),
    Mode(usize, u32),
    Own(usize, u32),
}

const PATHS: [&str; 12] = [
    "a", "b", "a/a", "a/b", "b/a", "b/c", "a/a/a", "a/a/b", "b/c/a", "c", "c/a", "c/a/b",
];

fn act() -> impl Strategy<Value = Act> {
    let path = || 0..PATHS.len();
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(p, v)| Act::Write(p, v)),
        3 => path().prop_map(Act::MakeDir),
        2 => path().prop_map(Act::Remove),
        1 => path().prop_map(Act::Renew),
        1 => (path(), path()).prop_map(|(p, t)| Act::Symlink(p, t)),
        1 => (path(), path()).prop_map(|(p, t)| Act::HardLink(p, t)),
        1 => (path(), prop_oneof![Just(0o700u32), Just(0o4711), Just(0o644)]).prop_map(|(p, m)| Act::Mode(p, m)),
        1 => (path(), 0..3u32).prop_map(|(p, u)| Act::Own(p, u)),
    ]
}

/// Acts as a container would; what does not apply is no matter.
fn perform(root: &Path, act: &Act) {
    let at = |index: &usize| root.join(PATHS[*index]);
    let remove = |path: &Path| -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    };
    let _: io::Result<()> = match act {
        Act::Write(p, value) => fs::write(at(p), vec![*value; usize::from(*value)]),
        Act::MakeDir(p) => fs::create_dir_all(at(p)),
        Act::Remove(p) => remove(&at(p)),
        Act::Renew(p) => remove(&at(p)).and_then(|()| fs::create_dir(at(p))),
        Act::Symlink(p, target) => symlink(PATHS[*target], at(p)),
        Act::HardLink(p, target) => fs::hard_link(at(p), at(target)),
        Act::Mode(p, mode) => match fs::symlink_metadata(at(p)) {
            Ok(meta) if !meta.is_symlink() => fs::set_permissions(at(p), fs::Permissions::from_mode(*mode)),
            _ => Ok(()),
        },
        Act::Own(p, uid) => std::os::unix::fs::lchown(at(p), Some(*uid), Some(*uid)),
    };
}

/// One container's life on top of the layers: its changes become the next layer.
fn live(sandbox: &Sandbox, layers: &mut Vec<Layer>, acts: &[Act], consume: bool) {
    let lease = sandbox.lease();
    let scratch = tempfile::tempdir_in(sandbox.root()).unwrap();
    let (upper, work) = (scratch.path().join("upper"), scratch.path().join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let lowers = sandbox.store.lower_dirs_of(layers).unwrap();
    let merged = Merged::new(&lowers, Some((&upper, &work)));
    let before = snapshot(&merged.path());
    for act in acts {
        perform(&merged.path(), act);
    }
    let after = snapshot(&merged.path());
    drop(merged);
    let found: Vec<(PathBuf, ChangeKind)> = changes(&upper, &lowers)
        .unwrap()
        .into_iter()
        .map(|Change { path, kind }| (path, kind))
        .collect();
    assert_eq!(found, compare(&before, &after));
    let source = if consume {
        LayerSource::Consume(&upper)
    } else {
        LayerSource::Copy(&upper)
    };
    layers.push(sandbox.store.commit_layer(&lease, source).unwrap());
    let lowers = sandbox.store.lower_dirs_of(layers).unwrap();
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let all = [&lowers[..], &[empty]].concat();
    assert_eq!(
        snapshot(&Merged::new(&all, None).path()),
        after,
        "the committed layer shows another tree"
    );
    lease.keep_until_deadline();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn committed_layers_show_what_the_container_saw(
        lives in prop::collection::vec((prop::collection::vec(act(), 1..14), any::<bool>()), 1..4)
    ) {
        let sandbox = Sandbox::new();
        let lease = sandbox.lease();
        let mut layers = vec![sandbox.take(&lease, &tar_of(&[dir("base"), file("base/f", "x")]), gzip).unwrap()];
        for (acts, consume) in &lives {
            live(&sandbox, &mut layers, acts, *consume);
        }
    }
}

/// Found by the test above: a directory made again below one that was made again hides as much.
#[test]
fn what_a_renewed_directory_hides_is_deleted_at_every_depth() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let mut layers = vec![sandbox.take(&lease, &tar_of(&[dir("base")]), gzip).unwrap()];
    let path = |text: &str| PATHS.iter().position(|p| *p == text).unwrap();
    live(&sandbox, &mut layers, &[Act::MakeDir(path("a/a/a"))], false);
    live(
        &sandbox,
        &mut layers,
        &[Act::Renew(path("a")), Act::MakeDir(path("a/a"))],
        true,
    );
}

/// The tree of layers given as tars, bottom first.
fn merged_names(tars: &[&[Entry]]) -> Vec<PathBuf> {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let layers: Vec<Layer> = tars
        .iter()
        .map(|t| sandbox.take(&lease, &tar_of(t), gzip).unwrap())
        .collect();
    let mut lowers = sandbox.store.lower_dirs_of(&layers).unwrap();
    let empty = sandbox.root().join("empty");
    fs::create_dir(&empty).unwrap();
    lowers.push(empty);
    snapshot(&Merged::new(&lowers, None).path()).into_keys().collect()
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let base: &[Entry] = &[dir("d"), file("d/old", "1"), file("d/kept", "2"), file("f", "3")];
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    let cases: &[(&[Entry], &[&str])] = &[
        (&[dir("d"), file("d/.wh.old", "")], &["d", "d/kept", "f"]),
        (
            &[dir("d"), file("d/.wh..wh..opq", ""), file("d/new", "")],
            &["d", "d/new", "f"],
        ),
        (
            &[dir("d"), file("d/new", ""), file("d/.wh..wh..opq", "")],
            &["d", "d/new", "f"],
        ),
        (&[file(".wh.d", "")], &["f"]),
        (&[file(".wh.d", ""), dir("d"), file("d/new", "")], &["d", "d/new", "f"]),
        (&[dir("d"), file("d/new", ""), file(".wh.d", "")], &["d", "d/new", "f"]),
        (
            &[file("d/.wh.old", ""), file("d/old", "again")],
            &["d", "d/kept", "d/old", "f"],
        ),
        (
            &[file("d/old", "again"), file("d/.wh.old", "")],
            &["d", "d/kept", "d/old", "f"],
        ),
        (
            &[file(".wh..wh.plnk", ""), file(".wh.f", "")],
            &["d", "d/kept", "d/old"],
        ),
        (&[file("d", "a file now")], &["d", "f"]),
        (&[dir("f"), file("f/x", "")], &["d", "d/kept", "d/old", "f", "f/x"]),
    ];
    for (layer, expected) in cases {
        assert_eq!(merged_names(&[base, layer]), paths(expected), "{layer:?}");
    }
}

#[test]
fn members_keep_owner_mode_time_links_and_long_names() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    let pax = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
            .collect()
    };
    let tar = tar_of(&[
        Entry {
            owner: (33, 44),
            mode: 0o4750,
            ..file("suid", "x")
        },
        Entry {
            pax: pax(&[("uid", "3000000"), ("mtime", "1.5"), ("path", &long)]),
            ..file("short", "y")
        },
        Entry {
            link: "suid".to_owned(),
            ..entry("hard", tar::EntryType::Link)
        },
        link_entry("sym", "../outside/of/everything"),
        Entry {
            pax: pax(&[("SCHILY.xattr.user.k", "v")]),
            ..file("attr", "")
        },
        Entry {
            mode: 0o1777,
            ..dir("./tmp/")
        },
    ]);
    let layer = sandbox.take(&lease, &tar, gzip).unwrap();
    let fs_dir = sandbox.store.layer_dir(&layer.diff_id);
    let meta = |path: &str| fs::symlink_metadata(fs_dir.join(path)).unwrap();
    assert_eq!(
        (meta("suid").uid(), meta("suid").gid(), meta("suid").mode() & 0o7777),
        (33, 44, 0o4750)
    );
    assert_eq!(meta("suid").mtime(), 1_700_000_000);
    assert_eq!(meta("hard").ino(), meta("suid").ino());
    assert_eq!(
        (meta(&long).uid(), meta(&long).mtime(), meta(&long).mtime_nsec()),
        (3_000_000, 1, 500_000_000)
    );
    assert_eq!(meta("sym").mtime(), 1_700_000_000);
    assert_eq!(
        (meta("tmp").mode() & 0o7777, meta("tmp").mtime()),
        (0o1777, 1_700_000_000)
    );
    let mut value = [0u8; 4];
    let probe = sandbox.root().join("probe");
    fs::write(&probe, "").unwrap();
    if rustix::fs::setxattr(&probe, "user.k", b"v", rustix::fs::XattrFlags::empty()).is_ok() {
        assert_eq!(
            rustix::fs::getxattr(fs_dir.join("attr"), "user.k", &mut value).unwrap(),
            1
        );
    }
    assert_eq!(sandbox.store.layer_size(&layer.diff_id).unwrap(), 2);
}

/// GNU tar writes what real archives hold, sparse files in both dialects included.
#[test]
fn sparse_files_of_gnu_tar_are_whole() {
    let source = tempfile::tempdir().unwrap();
    let sparse = fs::File::create(source.path().join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    sparse.set_len(3 << 20).unwrap();
    sparse.write_at(b"in the middle", 1 << 20).unwrap();
    sparse.write_at(b"end", (3 << 20) - 3).unwrap();
    let expected = fs::read(source.path().join("sparse")).unwrap();
    for dialect in ["gnu", "posix"] {
        let output = std::process::Command::new("tar")
            .args(["--sparse", "--format", dialect, "-C"])
            .arg(source.path())
            .args(["-cf", "-", "sparse"])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(output.stdout.len() < 1 << 20, "{dialect} wrote no sparse member");
        let sandbox = Sandbox::new();
        let lease = sandbox.lease();
        let layer = sandbox.take(&lease, &output.stdout, gzip).unwrap();
        let path = sandbox.store.layer_dir(&layer.diff_id).join("sparse");
        assert_eq!(fs::read(&path).unwrap(), expected, "{dialect}");
        assert!(
            path.metadata().unwrap().blocks() * 512 < 1 << 20,
            "{dialect} filled the holes"
        );
    }
}

#[test]
fn packed_trees_are_read_by_gnu_tar() {
    let source = tempfile::tempdir().unwrap();
    let long = source.path().join("x".repeat(150));
    fs::create_dir_all(long.join("deep")).unwrap();
    fs::write(long.join("deep/file"), vec![7u8; 100_000]).unwrap();
    fs::hard_link(long.join("deep/file"), source.path().join("second")).unwrap();
    symlink("t".repeat(180), source.path().join("link")).unwrap();
    std::os::unix::fs::chown(source.path().join("second"), Some(5_000_000), Some(7)).unwrap();
    fs::write(source.path().join("ünïcode"), "x").unwrap();
    let root = fs::File::open(source.path()).unwrap();
    let mut packed = Vec::new();
    export_tree(root.as_fd(), &mut packed).unwrap();
    let target = tempfile::tempdir().unwrap();
    untar(&packed, target.path());
    assert_eq!(snapshot(target.path()), snapshot(source.path()));
}

#[test]
fn one_path_is_packed_under_its_new_name() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("etc/sub")).unwrap();
    fs::write(source.path().join("etc/sub/f"), "x").unwrap();
    symlink("/etc", source.path().join("abs")).unwrap();
    let root = fs::File::open(source.path()).unwrap();
    let pack = |path: &str, name: &str| {
        let mut packed = Vec::new();
        pack_path(root.as_fd(), Path::new(path), name, &mut packed).unwrap();
        let target = tempfile::tempdir().unwrap();
        untar(&packed, target.path());
        snapshot(target.path())
            .into_keys()
            .map(|p| p.display().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(pack("/etc/sub", "other"), ["other", "other/f"]);
    assert_eq!(pack("/abs/sub/f", "f"), ["f"]);
    assert_eq!(
        pack("/abs", "abs"),
        ["abs"],
        "a link that is asked for is packed as a link"
    );
    assert_eq!(pack("/etc/.", "."), ["sub", "sub/f"]);
    let missing = pack_path(root.as_fd(), Path::new("/none/x"), "x", &mut Vec::new()).unwrap_err();
    assert!(missing.to_string().contains("/none/x"));
}

fn untar(tar: &[u8], target: &Path) {
    use std::io::Write;
    let mut child = std::process::Command::new("tar")
        .args(["-xpf", "-", "--numeric-owner", "-C"])
        .arg(target)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(tar).unwrap();
    assert!(child.wait().unwrap().success());
}

/// As an engine exports a stopped container: through an overlay that is mounted nowhere.
#[test]
fn an_overlay_is_exported_as_it_is_seen() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let base = [
        dir("etc"),
        file("etc/group", "x"),
        file("gone", "x"),
        link_entry("l", "etc/group"),
    ];
    let layer = sandbox.take(&lease, &tar_of(&base), gzip).unwrap();
    let (upper, work) = (sandbox.root().join("upper"), sandbox.root().join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let merged = Merged::new(&[sandbox.store.layer_dir(&layer.diff_id)], Some((&upper, &work)));
    fs::remove_file(merged.path().join("gone")).unwrap();
    fs::write(merged.path().join("etc/new"), "y").unwrap();
    let mut packed = Vec::new();
    export_tree(merged.mount.as_fd(), &mut packed).unwrap();
    let target = tempfile::tempdir().unwrap();
    untar(&packed, target.path());
    assert_eq!(snapshot(target.path()), snapshot(&merged.path()));
}
