//! Every way out of an archive's root that tars have been used for, and the refusals of damaged ones.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use proptest::prelude::*;
use support::{Entry, Sandbox, device, dir, entry, file, gzip, hard_link, layer_of, names, symlink, tar_of};
use tar::EntryType;
use wharf_store::extract::{ExtractOptions, Owner, Purpose, extract};
use wharf_store::{StoreError, StoreErrorKind};

/// Unpacks as a layer; returns the error text.
fn refusal(entries: &[Entry]) -> String {
    let sandbox = Sandbox::new();
    let outside = sandbox.root().join("outside");
    std::fs::write(&outside, "untouched").unwrap();
    let lease = sandbox.lease();
    let error = sandbox.take(&lease, &tar_of(entries), gzip).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert!(matches!(error, StoreError::Extract(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
    assert_eq!(
        names(&sandbox.root().join("layers")),
        Vec::<String>::new(),
        "a tree is left behind"
    );
    assert_eq!(
        names(&sandbox.root().join("ingest")),
        Vec::<String>::new(),
        "a blob is left behind"
    );
    error.to_string()
}

#[test]
fn escapes_are_refused_and_leave_nothing() {
    let cases: &[(&[Entry], &str)] = &[
        (&[file("../outside", "x")], "climbs out"),
        (&[file("a/../../outside", "x")], "climbs out"),
        (&[dir("a"), file("a/..", "x")], "climbs out"),
        (&[file("/etc/passwd", "x")], "an absolute name"),
        (&[symlink("out", "/"), file("out/outside", "x")], "leads out"),
        (&[symlink("out", "../.."), file("out/outside", "x")], "leads out"),
        (
            &[symlink("a", "b"), symlink("b", "../../.."), file("a/x", "x")],
            "leads out",
        ),
        (&[symlink("a", "nowhere"), file("a/x", "x")], "dangling"),
        (&[symlink("a", "a"), file("a/x", "x")], "too many symbolic links"),
        (&[hard_link("h", "../../outside")], "a hard link that leaves"),
        (&[hard_link("h", "/etc/passwd")], "a hard link that leaves"),
        (&[symlink("out", "/etc"), hard_link("h", "out/passwd")], "leads out"),
        (&[hard_link("h", "missing")], "not in the archive"),
        (&[dir("d"), hard_link("h", "d")], "a hard link to a directory"),
        (&[device("sda", EntryType::Block, 8, 0)], "a device node outside dev/"),
        (&[device("mem", EntryType::Char, 1, 1)], "a device node outside dev/"),
        (&[device("x", EntryType::Char, 0, 0)], "a device node outside dev/"),
        (&[file("f", "x"), file("f/g", "x")], "not a directory"),
        (&[file(".wh...", "")], "a whiteout of no name"),
        (&[file(".wh..", "")], "a whiteout of no name"),
        (&[file(".wh.", "")], "a whiteout of no name"),
        (&[symlink("l", "")], "a symbolic link without a target"),
        (
            &[
                file(&"n/".repeat(2), "x"),
                Entry {
                    pax: vec![("path".to_owned(), b"d/".repeat(4000))],
                    ..file("x", "")
                },
            ],
            "too long",
        ),
        (
            &[Entry {
                pax: vec![("linkpath".to_owned(), b"t".repeat(5000))],
                ..symlink("l", "t")
            }],
            "too long",
        ),
        (&[file(".", "x")], "the root can only be a directory"),
    ];
    for (entries, expected) in cases {
        let text = refusal(entries);
        assert!(text.contains(expected), "{entries:?}: {text}");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let whole = tar_of(&[file("a", &"x".repeat(5000))]);
    let mut wrong_sum = whole.clone();
    wrong_sum[0] = b'b';
    let two_sizes = Entry {
        pax: vec![("size".to_owned(), b"1".to_vec()), ("size".to_owned(), b"2".to_vec())],
        ..file("a", "x")
    };
    let huge = Entry {
        pax: vec![("size".to_owned(), u64::MAX.to_string().into_bytes())],
        ..file("a", "x")
    };
    let nobody = Entry {
        pax: vec![("uid".to_owned(), u32::MAX.to_string().into_bytes())],
        ..file("a", "x")
    };
    let cases: &[(Vec<u8>, &str)] = &[
        (tar_of(&[nobody]), "owner id"),
        (whole[..2000].to_vec(), "ends in the middle"),
        (whole[..100].to_vec(), "ends in the middle of a header"),
        (wrong_sum, "checksum"),
        (tar_of(&[two_sizes]), "repeated key"),
        (tar_of(&[huge]), "overflows"),
        (
            tar_of(&[
                Entry {
                    data: b"7 x=\n".to_vec(),
                    ..entry("p", EntryType::XHeader)
                },
                file("a", ""),
            ]),
            "malformed PAX",
        ),
        (
            tar_of(&[Entry {
                data: vec![b'n'; 2 << 20],
                ..entry("l", EntryType::GNULongName)
            }]),
            "too large",
        ),
        (tar_of(&[entry("x", EntryType::new(b'Z'))]), "unsupported member type"),
        (
            b"this is no tar at all, but it is longer than one block".repeat(20),
            "checksum",
        ),
    ];
    for (bytes, expected) in cases {
        let error = sandbox.take(&lease, bytes, gzip).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}, expected {expected}");
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
    }
}

#[test]
fn the_devices_of_old_images_are_made_or_left_out() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let tar = tar_of(&[
        dir("dev"),
        device("dev/null", EntryType::Char, 1, 3),
        device("dev/sda", EntryType::Block, 8, 0),
        device("dev/mem", EntryType::Char, 1, 1),
        device("etc/null", EntryType::Char, 1, 3),
        entry("pipe", EntryType::Fifo),
    ]);
    let layer = sandbox.take(&lease, &tar, gzip).unwrap();
    let fs = sandbox.store.layer_dir(&layer.diff_id);
    assert_eq!(names(&fs.join("dev")), ["null"]);
    assert!(fs.join("etc/null").metadata().unwrap().file_type().is_char_device());
    assert!(fs.join("pipe").metadata().unwrap().file_type().is_fifo());
    assert_eq!(
        fs.join("dev/null").metadata().unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn attributes_of_overlay_in_an_image_are_not_set() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let attribute = |name: &str, value: &[u8]| (format!("SCHILY.xattr.{name}"), value.to_vec());
    let hostile = Entry {
        pax: vec![
            attribute("trusted.overlay.redirect", b"/etc"),
            attribute("trusted.overlay.opaque", b"y"),
        ],
        ..dir("d")
    };
    let tar = tar_of(&[hostile]);
    let layer = sandbox.take(&lease, &tar, gzip).unwrap();
    let path = sandbox.store.layer_dir(&layer.diff_id).join("d");
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque"] {
        let mut value = [0u8; 64];
        assert!(rustix::fs::getxattr(&path, name, &mut value).is_err(), "{name} was set");
    }
}

/// `docker cp` and `ADD` write into a tree whose links point into itself.
#[test]
fn files_follow_links_inside_the_tree_only() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir_all(root.join("run")).unwrap();
    std::fs::create_dir(outer.path().join("etc")).unwrap();
    std::os::unix::fs::symlink("/run", root.join("varrun")).unwrap();
    std::os::unix::fs::symlink("../../../../run", root.join("climb")).unwrap();
    let tar = tar_of(&[file("varrun/a", "1"), file("climb/b", "2"), file(".wh.x", "not a mark")]);
    let options = ExtractOptions {
        purpose: Purpose::Files,
        owner: Owner::Fixed { uid: 7, gid: 8 },
        ..ExtractOptions::default()
    };
    let opened = std::fs::File::open(&root).unwrap();
    let done = extract(opened.as_fd(), &tar[..], &options).unwrap();
    assert_eq!(done.entries, 3);
    assert_eq!(names(&root.join("run")), ["a", "b"]);
    let meta = root.join("run/a").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid()), (7, 8));
    assert!(root.join(".wh.x").is_file());
}

#[test]
fn replacing_a_directory_by_a_file_is_refused_on_request() {
    let check = |existing: fn(&Path), entry: Entry, expected: Option<&str>| {
        let root = tempfile::tempdir().unwrap();
        existing(&root.path().join("x"));
        let options = ExtractOptions {
            purpose: Purpose::Files,
            keep_types: true,
            ..ExtractOptions::default()
        };
        let opened = std::fs::File::open(root.path()).unwrap();
        let result = extract(opened.as_fd(), &tar_of(&[entry])[..], &options);
        match expected {
            Some(text) => assert!(result.unwrap_err().to_string().contains(text)),
            None => drop(result.unwrap()),
        }
    };
    let make_dir: fn(&Path) = |p| std::fs::create_dir(p).unwrap();
    let make_file: fn(&Path) = |p| std::fs::write(p, "old").unwrap();
    check(make_dir, file("x", "new"), Some("cannot overwrite directory"));
    check(make_file, dir("x"), Some("cannot overwrite non-directory"));
    check(make_file, file("x", "new"), None);
    check(make_dir, dir("x"), None);
}

#[test]
fn a_wrong_blob_is_named_as_such_even_if_it_does_not_unpack() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let tar = tar_of(&[file("a", &"text ".repeat(10_000))]);
    let (layer, blob) = layer_of(&tar, gzip);
    let mut flipped = blob.clone();
    flipped[blob.len() / 2] ^= 0xff;
    let error = sandbox.take_as(&lease, &layer, flipped).err().unwrap();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    let mut longer = blob.clone();
    longer.extend_from_slice(b"more");
    let error = sandbox.take_as(&lease, &layer, longer).err().unwrap();
    assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
    let mut wrong_diff = layer.clone();
    wrong_diff.diff_id = wharf_store::Digest::of(b"other");
    let error = sandbox.take_as(&lease, &wrong_diff, blob).err().unwrap();
    assert!(matches!(error, StoreError::DiffIdMismatch { .. }), "{error}");
    assert_eq!(names(&sandbox.root().join("ingest")), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes are, unpacking ends without a panic and touches nothing outside.
    #[test]
    fn broken_archives_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        fix_sums in any::<bool>(),
    ) {
        let pax = Entry { pax: vec![("path".to_owned(), b"a/long".to_vec()), ("size".to_owned(), b"3".to_vec())], ..file("s", "xyz") };
        let mut bytes = tar_of(&[
            dir("a"), file("a/f", "text"), symlink("a/l", "f"), hard_link("h", "a/f"), pax,
            file("a/.wh.gone", ""), device("dev/null", EntryType::Char, 1, 3), file("last", "x"),
        ]);
        for (index, value) in &changes {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        if fix_sums {
            for block in bytes.chunks_exact_mut(512).filter(|b| b[257..262] == *b"ustar") {
                let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&b| u32::from(b)).sum::<u32>() + 256;
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 8);
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("root")).unwrap();
        for purpose in [Purpose::Layer, Purpose::Files] {
            let root = std::fs::File::open(outer.path().join("root")).unwrap();
            let options = ExtractOptions { purpose, ..ExtractOptions::default() };
            let _ = extract(root.as_fd(), &bytes[..], &options);
        }
        prop_assert_eq!(names(outer.path()), ["root"]);
    }
}
