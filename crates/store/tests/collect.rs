//! The collector: nothing referenced goes, everything else does, whatever happens at the same time.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use support::{Sandbox, file, gzip, names, tar_of};
use wharf_store::{Digest, GcScope, Mend, Reference, RemoveMode, StoreError};

#[test]
fn a_lease_protects_until_it_ends() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let layer = sandbox.take(&lease, &tar_of(&[file("f", "x")]), gzip).unwrap();
    let document = sandbox.store.write_blob(&lease, b"{}").unwrap();
    assert!(sandbox.store.gc(GcScope::Everything).unwrap().blobs.is_empty());
    drop(lease);
    let collected = sandbox.store.gc(GcScope::Unreferenced).unwrap();
    let blobs: BTreeSet<Digest> = collected.blobs.into_iter().collect();
    assert_eq!(blobs, BTreeSet::from([layer.blob.digest.clone(), document]));
    assert_eq!(collected.layers, [layer.diff_id]);
}

#[test]
fn a_lease_past_its_deadline_protects_nothing_and_says_so() {
    let sandbox = Sandbox::new();
    let lease = sandbox.store.lease("short", Duration::from_millis(30)).unwrap();
    let blob = sandbox.store.write_blob(&lease, b"{}").unwrap();
    std::thread::sleep(Duration::from_millis(40));
    assert!(matches!(lease.protect(&blob), Err(StoreError::LeaseEnded(_))));
    assert_eq!(sandbox.store.gc(GcScope::Unreferenced).unwrap().blobs, [blob]);
    assert!(matches!(
        lease.extend(Duration::from_secs(1)),
        Err(StoreError::LeaseEnded(_))
    ));
}

#[test]
fn leases_of_a_killed_process_last_until_a_prune() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let blob = sandbox.store.write_blob(&lease, b"{}").unwrap();
    lease.keep_until_deadline();
    let sandbox = sandbox.reopen();
    assert!(sandbox.store.gc(GcScope::Unreferenced).unwrap().blobs.is_empty());
    assert_eq!(sandbox.store.gc(GcScope::Everything).unwrap().blobs, [blob]);
}

#[test]
fn a_pin_protects_an_image_with_all_it_needs() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    sandbox
        .store
        .pin("build-cache/a", std::slice::from_ref(&image.id))
        .unwrap();
    sandbox.store.pin("other/b", &[]).unwrap();
    drop(lease);
    let plan = sandbox.store.plan_removal("app:1").unwrap();
    sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
    let pins = sandbox.store.pins("build-cache/").unwrap();
    assert_eq!(
        pins.iter()
            .map(|p| (p.name.as_str(), p.digests.as_slice()))
            .collect::<Vec<_>>(),
        [("build-cache/a", std::slice::from_ref(&image.id))]
    );
    assert!(sandbox.store.gc(GcScope::Everything).unwrap().blobs.is_empty());
    let lease = sandbox.lease();
    sandbox.store.put_image(&lease, &image.target, None, None).unwrap();
    drop(lease);
    sandbox.store.unpin("build-cache/a").unwrap();
    assert!(
        sandbox.store.gc(GcScope::Everything).unwrap().blobs.is_empty(),
        "the record alone protects it"
    );
    let plan = sandbox.store.plan_removal(image.id.as_str()).unwrap();
    sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
    assert_eq!(sandbox.store.disk_usage().unwrap(), 0);
}

/// Two identical builds beside a prune, and a removal of what they share, again and again.
#[test]
fn builds_tags_and_removals_beside_a_collector_lose_nothing() {
    let sandbox = Sandbox::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                sandbox.store.gc(GcScope::Everything).unwrap();
            }
        });
        let builders: Vec<_> = (0..3)
            .map(|n| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    let name = Reference::parse(&format!("build{n}")).unwrap().tagged();
                    for round in 0..12 {
                        let lease = sandbox.lease();
                        let text = round.to_string();
                        let image = sandbox.image(&lease, Some(&name.familiar()), &[("a", "shared"), ("b", &text)]);
                        drop(lease);
                        let platform = image.platform(None).unwrap();
                        for dir in sandbox.store.lower_dirs(platform).unwrap() {
                            assert!(dir.is_dir());
                        }
                        let plan = sandbox.store.plan_removal(&name.familiar()).unwrap();
                        match sandbox.store.remove(&plan, RemoveMode::Delete) {
                            // Another builder made the same image and removed it whole.
                            Ok(_) | Err(StoreError::NoSuchImage(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        for builder in builders {
            builder.join().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        collector.join().unwrap();
    });
    // Two removals that each saw the other's name leave the image dangling, as in Docker.
    for image in sandbox.store.images().unwrap() {
        assert!(image.is_dangling());
        let plan = sandbox.store.plan_removal(image.id.as_str()).unwrap();
        sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
    }
    sandbox.store.gc(GcScope::Everything).unwrap();
    assert_eq!(sandbox.store.disk_usage().unwrap(), 0);
    assert_eq!(names(&sandbox.root().join("layers")), Vec::<String>::new());
}

#[test]
fn fsck_finds_and_mends_damage() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1"), ("g", "2")]);
    let layers = &image.platforms[0].layers;
    assert!(sandbox.store.fsck(Mend::No).unwrap().is_empty());
    let blob = sandbox.root().join("content/sha256").join(layers[0].blob.digest.hex());
    std::fs::write(&blob, "damaged").unwrap();
    let note = sandbox
        .root()
        .join("layers")
        .join(layers[1].diff_id.hex())
        .join("layer.json");
    std::fs::remove_file(&note).unwrap();
    let sandbox = sandbox.reopen();
    let found = sandbox.store.fsck(Mend::No).unwrap();
    assert_eq!(found.iter().map(|f| f.mended).collect::<Vec<_>>(), [false, false]);
    assert!(blob.exists());
    let found = sandbox.store.fsck(Mend::Yes).unwrap();
    assert!(
        found[0].mended && found[0].subject.contains(layers[0].blob.digest.as_str()),
        "{found:?}"
    );
    assert!(
        found[1].mended && found[1].subject.contains(layers[1].diff_id.as_str()),
        "{found:?}"
    );
    assert!(found[2].problem.contains("cannot be pushed"), "{found:?}");
    let lease = sandbox.lease();
    let image = sandbox.store.resolve("app:1").unwrap();
    sandbox.store.ensure_unpacked(&lease, &image.platforms[0]).unwrap();
    assert_eq!(sandbox.store.lower_dirs(&image.platforms[0]).unwrap().len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Build(u8, Vec<u8>),
    Tag(u8, u8),
    Untag(u8),
    Collect,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, prop::collection::vec(0..5u8, 1..4)).prop_map(|(name, files)| Step::Build(name, files)),
        (0..4u8, 0..4u8).prop_map(|(from, to)| Step::Tag(from, to)),
        (0..4u8).prop_map(Step::Untag),
        Just(Step::Collect),
        Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// After any history, every image is whole, and after a last collection nothing else is on disk.
    #[test]
    fn nothing_referenced_is_collected(steps in prop::collection::vec(step(), 1..14)) {
        let mut sandbox = Sandbox::new();
        for step in steps {
            let name = |n: u8| Reference::parse(&format!("name{n}")).unwrap().tagged();
            match step {
                Step::Build(n, files) => {
                    let lease = sandbox.lease();
                    let files: Vec<(String, String)> = files.iter().map(|f| (format!("f{f}"), f.to_string())).collect();
                    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
                    sandbox.image(&lease, Some(&name(n).familiar()), &files);
                }
                Step::Tag(from, to) => {
                    if let Ok(image) = sandbox.store.resolve(&name(from).familiar()) {
                        sandbox.store.tag(&image.id, &name(to)).unwrap();
                    }
                }
                Step::Untag(n) => {
                    if let Ok(plan) = sandbox.store.plan_removal(&name(n).familiar()) {
                        sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
                    }
                }
                Step::Collect => drop(sandbox.store.gc(GcScope::Unreferenced).unwrap()),
                Step::Reopen => sandbox = sandbox.reopen(),
            }
            for image in sandbox.store.images().unwrap() {
                prop_assert_eq!(image.platforms.len(), 1);
                sandbox.store.lower_dirs(&image.platforms[0]).unwrap();
            }
        }
        sandbox.store.gc(GcScope::Everything).unwrap();
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for image in sandbox.store.images().unwrap() {
            let (b, l) = sandbox.store.parts(&image).unwrap();
            blobs.extend(b.iter().map(|d| d.hex().to_owned()));
            layers.extend(l.iter().map(|d| d.hex().to_owned()));
        }
        prop_assert_eq!(names(&sandbox.root().join("content/sha256")), blobs.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(names(&sandbox.root().join("layers")), layers.into_iter().collect::<Vec<_>>());
        prop_assert!(sandbox.store.fsck(Mend::No).unwrap().is_empty());
    }
}

#[test]
fn a_held_image_loses_its_names_only() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
    drop(lease);
    let held = sandbox.store.hold_image(&image.id).unwrap();
    let again = sandbox.store.hold_image(&image.id).unwrap();
    drop(again);
    let plan = sandbox.store.plan_removal("app:1").unwrap();
    let removed = sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
    assert_eq!(removed.len(), 1, "{removed:?}");
    assert!(sandbox.store.image(&image.id).unwrap().is_dangling());
    drop(held);
    let plan = sandbox.store.plan_removal(image.id.as_str()).unwrap();
    sandbox.store.remove_unless(&plan, RemoveMode::Delete, || true).unwrap();
    sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
    assert!(matches!(
        sandbox.store.hold_image(&image.id),
        Err(StoreError::NoSuchImage(_))
    ));
}

/// What `create` and `rmi` do, at the same time: a container that was made always has its image.
#[test]
fn an_image_in_use_is_never_deleted_under_its_user() {
    let sandbox = Sandbox::new();
    for _ in 0..15 {
        let lease = sandbox.lease();
        let image = sandbox.image(&lease, Some("app:1"), &[("f", "1")]);
        drop(lease);
        let users = std::sync::Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Ok(_held) = sandbox.store.hold_image(&image.id) {
                    users.lock().unwrap().insert(image.id.clone());
                }
            });
            scope.spawn(|| {
                let plan = sandbox.store.plan_removal("app:1").unwrap();
                let is_used = || users.lock().unwrap().contains(&image.id);
                sandbox.store.remove_unless(&plan, RemoveMode::Delete, is_used).unwrap();
            });
        });
        let is_used = !users.into_inner().unwrap().is_empty();
        let found = sandbox.store.image(&image.id);
        assert_eq!(is_used, found.is_ok());
        if let Ok(image) = found {
            sandbox.store.lower_dirs(&image.platforms[0]).unwrap();
            let plan = sandbox.store.plan_removal(image.id.as_str()).unwrap();
            sandbox.store.remove(&plan, RemoveMode::Delete).unwrap();
        }
    }
}
