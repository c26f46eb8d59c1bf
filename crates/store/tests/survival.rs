//! kill -9 at random moments of building, tagging, removing and collecting: the next start finds only whole things.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Sandbox, config, file, gzip, layer_of, names, tar_of};
use wharf_store::{GcScope, LayerSource, Mend, NewImage, Reference, RemoveMode, Store};

const ROOT: &str = "WHARF_STORE_VICTIM_ROOT";
const KILLS: u64 = 15;

/// Works on a store for ever; started by the test below as a process of its own.
#[test]
#[ignore = "the process that the next test kills"]
fn victim() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    println!("\nopened");
    for round in 0u32.. {
        work(&store, Path::new(&root), round);
    }
}

fn work(store: &Store, root: &Path, round: u32) {
    let lease = store.lease("victim", Duration::from_secs(60)).unwrap();
    let mut layers = Vec::new();
    for part in ["shared".to_owned(), format!("own{}", round % 5)] {
        let text = part.repeat(3000);
        let (layer, blob) = layer_of(&tar_of(&[file(&part, &text), file("x/y/z", &part)]), gzip);
        let mut open = |offset: u64| {
            let rest = std::io::Cursor::new(blob[offset as usize..].to_vec());
            Ok(Box::new(rest) as Box<dyn std::io::Read + Send>)
        };
        let pending = store.take_layer(&lease, &layer, &mut open, &|_| {}).unwrap();
        store.publish(&[pending]).unwrap();
        layers.push(layer);
    }
    let upper = root.join(format!("upper{}", round % 2));
    let _ = std::fs::remove_dir_all(&upper);
    std::fs::create_dir(&upper).unwrap();
    std::fs::write(upper.join("f"), format!("{round}")).unwrap();
    layers.push(store.commit_layer(&lease, LayerSource::Consume(&upper)).unwrap());
    let name = Reference::parse(&format!("image{}", round % 4)).unwrap().tagged();
    let new = NewImage {
        config: config(),
        layers: &layers,
        name: Some(&name),
        parent: None,
    };
    store.create_image(&lease, new).unwrap();
    drop(lease);
    if round % 3 == 2 {
        let plan = store
            .plan_removal(&format!("image{}", (round + 1) % 4))
            .or_else(|_| store.plan_removal(&name.familiar()));
        store.remove(&plan.unwrap(), RemoveMode::Delete).unwrap();
    }
}

fn start(root: &Path) -> std::process::Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap() == "opened"), "the victim did not start");
    child
}

#[test]
fn a_killed_process_leaves_whole_images_and_nothing_else() {
    let sandbox = Sandbox::new();
    let Sandbox { store, dir } = sandbox;
    drop(store);
    for kill in 0..KILLS {
        let mut child = start(dir.path());
        // Spread over the first rounds of work; the moments differ from run to run anyway.
        std::thread::sleep(Duration::from_millis(5 + kill * 11 % 97));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for image in store.images().unwrap() {
            assert_eq!(image.platforms.len(), 1, "{} is not whole", image.id);
            assert_eq!(store.lower_dirs(&image.platforms[0]).unwrap().len(), 3);
        }
        assert_eq!(store.fsck(Mend::No).unwrap(), []);
    }
    let store = Store::open(dir.path()).unwrap();
    store.gc(GcScope::Everything).unwrap();
    let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
    for image in store.images().unwrap() {
        let (b, l) = store.parts(&image).unwrap();
        blobs.extend(b.iter().map(|d| d.hex().to_owned()));
        layers.extend(l.iter().map(|d| d.hex().to_owned()));
    }
    assert_eq!(names(&dir.path().join("content/sha256")), Vec::from_iter(blobs));
    assert_eq!(names(&dir.path().join("layers")), Vec::from_iter(layers));
    assert_eq!(names(&dir.path().join("ingest")), Vec::<String>::new());
    assert!(!store.images().unwrap().is_empty(), "the victim never got far enough");
}
