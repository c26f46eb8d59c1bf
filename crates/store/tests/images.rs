//! Image records: names, ids, dangling images, removal, history, and what a crash leaves.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::{Sandbox, config, dir, file, gzip, layer_of, names, plain, tar_of, zstd};
use wharf_store::{
    Descriptor, Digest, GcScope, History, NewImage, Platform, Reference, RemoveMode, Removed, Store, StoreError,
    StoreErrorKind, media,
};

fn r(text: &str) -> Reference {
    Reference::parse(text).unwrap().tagged()
}

#[test]
fn an_image_is_found_by_every_form_of_its_name_and_id() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    let id = image.id.clone();
    let forms = [
        "app:1".to_owned(),
        "docker.io/library/app:1".to_owned(),
        format!("app@{id}"),
        format!("app:1@{id}"),
        id.to_string(),
        id.hex().to_owned(),
        id.short().to_owned(),
        id.hex()[..4].to_owned(),
        format!("sha256:{}", &id.hex()[..6]),
    ];
    for form in &forms {
        assert_eq!(sandbox.store.resolve(form).unwrap().id, id, "{form}");
    }
    let other = Digest::of(b"other");
    for (form, message) in [
        ("app", "No such image: app:latest".to_owned()),
        ("app:2", "No such image: app:2".to_owned()),
        (other.as_str(), format!("No such image: {other}")),
        (&format!("none@{id}"), format!("No such image: none@{id}")),
        (&id.hex()[..3], format!("No such image: {}:latest", &id.hex()[..3])),
    ] {
        let error = sandbox.store.resolve(form).unwrap_err();
        assert_eq!(
            (error.to_string(), error.kind()),
            (message, StoreErrorKind::NotFound),
            "{form}"
        );
    }
    assert_eq!(
        sandbox.store.resolve("UPPER").unwrap_err().kind(),
        StoreErrorKind::Invalid
    );
    assert_eq!(image.repo_digests, [r("app").with_digest(id)]);
    assert_eq!(image.tags, [r("app:1")]);
}

#[test]
fn a_name_with_tag_and_digest_is_one_by_digest() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, None, &[("f", "1")]);
    let name = format!("app:9@{}", image.id);
    sandbox.store.tag(&image.id, &Reference::parse(&name).unwrap()).unwrap();
    let image = sandbox.store.resolve(&name).unwrap();
    assert!(image.tags.is_empty() && !image.is_dangling());
    assert_eq!(image.repo_digests, [r("app").with_digest(image.id.clone())]);
    assert!(matches!(
        sandbox.store.resolve("app:9"),
        Err(StoreError::NoSuchImage(_))
    ));
}

#[test]
fn a_name_that_moves_leaves_its_image_dangling() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let first = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    let second = sandbox.image(&lease, Some("app:1"), &[("f", "2")]);
    assert_ne!(first.id, second.id);
    assert_eq!(sandbox.store.resolve("app:1").unwrap().id, second.id);
    assert!(sandbox.store.image(&first.id).unwrap().is_dangling());
    assert_eq!(sandbox.store.images().unwrap().len(), 2);
    drop(lease);
    sandbox.store.gc(GcScope::Everything).unwrap();
    assert_eq!(
        sandbox.store.image(&first.id).unwrap().platforms.len(),
        1,
        "dangling images keep their content"
    );
}

#[test]
fn removing_answers_in_docker_s_sequence() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    drop(lease);
    let store = &sandbox.store;
    store.tag(&image.id, &r("app:2")).unwrap();
    let remove = |text: &str, mode| store.remove(&store.plan_removal(text).unwrap(), mode).unwrap();
    assert_eq!(remove("app:1", RemoveMode::Delete), [Removed::Untagged(r("app:1"))]);
    assert_eq!(
        remove("app:2", RemoveMode::KeepDangling),
        [Removed::Untagged(r("app:2"))]
    );
    assert!(store.image(&image.id).unwrap().is_dangling());
    store.tag(&image.id, &r("b:1")).unwrap();
    store.tag(&image.id, &r("a:1")).unwrap();
    let gone = remove(image.id.short(), RemoveMode::Delete);
    let id = image.id.clone();
    assert_eq!(
        gone,
        [
            Removed::Untagged(r("a:1")),
            Removed::Untagged(r("b:1")),
            Removed::Deleted(id)
        ]
    );
    assert!(matches!(store.plan_removal("app:1"), Err(StoreError::NoSuchImage(_))));
    assert_eq!(store.disk_usage().unwrap(), 0);
    for dir in ["content/sha256", "layers", "ingest"] {
        assert_eq!(names(&sandbox.root().join(dir)), Vec::<String>::new(), "{dir}");
    }
}

#[test]
fn a_removal_planned_before_a_tag_keeps_the_image() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    let plan = sandbox.store.plan_removal("app:1").unwrap();
    assert!(plan.deletes);
    sandbox.store.tag(&image.id, &r("saved:1")).unwrap();
    let removed = sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
    assert_eq!(removed, [Removed::Untagged(r("app:1"))]);
    assert_eq!(sandbox.store.resolve("saved:1").unwrap().id, image.id);
}

#[test]
fn records_outlive_the_process_and_half_done_work_does_not() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    drop(lease);
    let root = sandbox.root().to_owned();
    for scratch in [
        "layers/.new-9-1/fs/deep",
        "layers/.gone-9-2/fs",
        "ingest/.tmp-9-3",
        "ingest/.gone-9-4",
    ] {
        fs::create_dir_all(root.join(scratch)).unwrap();
    }
    fs::write(root.join("ingest/.tmp-9-5"), "half").unwrap();
    let partial = root.join(format!("ingest/sha256-{}", Digest::of(b"partial").hex()));
    fs::write(&partial, "half a blob").unwrap();
    let sandbox = sandbox.reopen();
    assert_eq!(sandbox.store.resolve("app:1").unwrap().id, image.id);
    assert_eq!(
        names(&root.join("layers")),
        [image.platforms[0].layers[0].diff_id.hex()]
    );
    assert_eq!(
        names(&root.join("ingest")).len(),
        1,
        "a partial download is kept for the next pull"
    );
    sandbox.store.gc(GcScope::Unreferenced).unwrap();
    assert!(partial.exists());
    let collected = sandbox.store.gc(GcScope::Everything).unwrap();
    assert_eq!((collected.blobs, collected.bytes), (vec![Digest::of(b"partial")], 11));
    assert!(!partial.exists());
}

#[test]
fn an_interrupted_download_continues_where_it_stopped() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let text: String = (0..40_000).map(|n| format!("{}\n", n * n)).collect();
    let (layer, blob) = layer_of(&tar_of(&[file("f", &text)]), gzip);
    let half = blob.len() / 2;
    let error = sandbox.take_as(&lease, &layer, blob[..half].to_vec()).err().unwrap();
    assert!(matches!(error, StoreError::Truncated { .. }), "{error}");
    assert_eq!(sandbox.store.partial_size(&layer.blob.digest).unwrap(), half as u64);
    assert_eq!(names(&sandbox.root().join("layers")), Vec::<String>::new());
    let mut offsets = Vec::new();
    let mut open = |offset: u64| {
        offsets.push(offset);
        Ok(Box::new(std::io::Cursor::new(blob[offset as usize..].to_vec())) as Box<dyn std::io::Read + Send>)
    };
    let pending = sandbox.store.take_layer(&lease, &layer, &mut open, &|_| {}).unwrap();
    assert!(
        !sandbox.store.has_layer(&layer.diff_id),
        "nothing is visible before it is published"
    );
    sandbox.store.publish(&[pending]).unwrap();
    assert_eq!(offsets, [half as u64]);
    assert_eq!(
        fs::read_to_string(sandbox.store.layer_dir(&layer.diff_id).join("f")).unwrap(),
        text
    );
}

#[test]
fn a_damaged_partial_download_is_thrown_away() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let tar = tar_of(&[file("f", &"text".repeat(5000))]);
    let (layer, blob) = layer_of(&tar, gzip);
    let partial = sandbox
        .root()
        .join(format!("ingest/sha256-{}", layer.blob.digest.hex()));
    fs::write(&partial, vec![0u8; blob.len() / 2]).unwrap();
    let error = sandbox.take_as(&lease, &layer, blob.clone()).err().unwrap();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert!(!partial.exists());
    sandbox.take(&lease, &tar, gzip).unwrap();
}

#[test]
fn every_compression_of_one_tar_is_one_layer() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let tar = tar_of(&[dir("d"), file("d/f", "same")]);
    let layers: Vec<_> = [gzip, zstd, plain]
        .iter()
        .map(|c| sandbox.take(&lease, &tar, *c).unwrap())
        .collect();
    assert!(layers.iter().all(|l| l.diff_id == layers[0].diff_id));
    assert_eq!(names(&sandbox.root().join("layers")).len(), 1);
    assert_eq!(names(&sandbox.root().join("content/sha256")).len(), 3);
    let members = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    let (mut layer, _) = layer_of(&tar, gzip);
    layer.blob = Descriptor::new(media::OCI_LAYER_GZIP, Digest::of(&members), members.len() as u64);
    sandbox.take_as(&lease, &layer, members).unwrap();
}

#[test]
fn a_layer_taken_twice_at_once_is_received_once() {
    let sandbox = Sandbox::new();
    let tar = tar_of(&[file("f", &"abc".repeat(100_000))]);
    let (layer, blob) = layer_of(&tar, gzip);
    let opened = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lease = sandbox.lease();
                let mut open = |offset: u64| {
                    opened.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    Ok(Box::new(std::io::Cursor::new(blob[offset as usize..].to_vec()))
                        as Box<dyn std::io::Read + Send>)
                };
                let pending = sandbox.store.take_layer(&lease, &layer, &mut open, &|_| {}).unwrap();
                sandbox.store.publish(&[pending]).unwrap();
            });
        }
    });
    assert_eq!(opened.into_inner(), 1);
    assert!(sandbox.store.has_layer(&layer.diff_id));
}

#[test]
fn platforms_are_chosen_and_foreign_ones_refused() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    assert!(image.platform(None).is_ok());
    assert!(image.platform(Some(&Platform::host())).is_ok());
    let foreign = Platform::new("linux", "s390x", None);
    let error = image.platform(Some(&foreign)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    assert!(
        error.to_string().contains("app:1") && error.to_string().contains("linux/s390x"),
        "{error}"
    );
}

#[test]
fn history_pairs_steps_with_layers() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let layer = |text: &str| sandbox.take(&lease, &tar_of(&[file("f", text)]), gzip).unwrap();
    let step = |by: &str, empty| History {
        created_by: Some(by.to_owned()),
        empty_layer: empty,
        ..History::default()
    };
    let mut config = config();
    config.history = vec![step("ADD", false), step("ENV", true), step("RUN", false)];
    let layers = [layer("12345"), layer("1234567")];
    let name = r("app:1");
    let new = NewImage {
        config,
        layers: &layers,
        name: Some(&name),
        parent: None,
    };
    let image = sandbox.store.create_image(&lease, new).unwrap();
    let rows = sandbox.store.history(&image, &image.platforms[0]).unwrap();
    let seen: Vec<(&str, u64)> = rows.iter().map(|row| (row.created_by.as_str(), row.size)).collect();
    assert_eq!(seen, [("RUN", 7), ("ENV", 0), ("ADD", 5)]);
    assert_eq!(
        (rows[0].id.as_ref(), rows[0].tags.as_slice()),
        (Some(&image.id), &[name][..])
    );
    assert_eq!((rows[1].id.as_ref(), rows[2].tags.len()), (None, 0));
    assert_eq!(image.unpacked_size, 12);
}

#[test]
fn an_image_without_its_layers_is_not_recorded() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let (layer, _) = layer_of(&tar_of(&[file("f", "x")]), gzip);
    let new = NewImage {
        config: config(),
        layers: &[layer],
        name: None,
        parent: None,
    };
    let error = sandbox.store.create_image(&lease, new).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(sandbox.store.images().unwrap().is_empty());
}

#[test]
fn a_repeated_layer_is_one_lower_directory() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, None, &[("a", "1"), ("b", "2"), ("a", "1")]);
    let platform = &image.platforms[0];
    assert_eq!(platform.layers.len(), 3);
    let dirs = sandbox.store.lower_dirs(platform).unwrap();
    let dir = |n: usize| sandbox.store.layer_dir(&platform.layers[n].diff_id);
    assert_eq!(dirs, [dir(2), dir(1)]);
}

#[test]
fn a_store_of_a_file_is_refused_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let Err(error) = Store::open(&path) else {
        panic!("opened")
    };
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn a_full_disk_fails_one_layer_and_nothing_else() {
    let options = [wharf_sys::mount::Parameter::Text("size", c"6m")];
    let disk = wharf_sys::mount::new_filesystem("tmpfs", &options, 0).unwrap();
    let root = std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&disk)));
    let store = Store::open(&root).unwrap();
    let lease = store.lease("test", std::time::Duration::from_secs(60)).unwrap();
    let take = |text: String| {
        let (layer, blob) = layer_of(&tar_of(&[file("f", &text)]), gzip);
        let mut open = |_| Ok(Box::new(std::io::Cursor::new(blob.clone())) as Box<dyn std::io::Read + Send>);
        let pending = store.take_layer(&lease, &layer, &mut open, &|_| {})?;
        store.publish(&[pending])?;
        Ok::<_, StoreError>(layer)
    };
    let error = take("0123456789".repeat(1_000_000)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
    assert_eq!(
        names(&root.join("layers")),
        Vec::<String>::new(),
        "the half-unpacked tree takes no space"
    );
    let layer = take("0123456789".repeat(1000)).unwrap();
    assert_eq!(store.layer_size(&layer.diff_id).unwrap(), 10_000);
}
