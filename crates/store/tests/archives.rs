//! `save`, `load` and `import`, and what other tools make of our archives and we of theirs.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Sandbox, config, dir, file, gzip, names, symlink, tar_of, zstd};
use wharf_store::{
    Descriptor, Digest, Index, Loaded, NewImage, Platform, Reference, SaveItem, Store, StoreErrorKind, media,
};

fn r(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let items: Vec<SaveItem> = names
        .iter()
        .map(|n| SaveItem {
            image: store.resolve(n).unwrap(),
            names: vec![r(n)],
        })
        .collect();
    let mut out = Vec::new();
    store.save(&items, None, &mut out).unwrap();
    out
}

fn load(store: &Store, tar: &[u8]) -> Result<Vec<Loaded>, wharf_store::StoreError> {
    store.load(&mut std::io::Cursor::new(tar.to_vec()), None)
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    filter("xz", &["-c"], bytes)
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    filter("bzip2", &["-c"], bytes)
}

fn filter(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), bytes).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .stdin(fs::File::open(input.path()).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// The file of one layer of an image, as the store shows it.
fn read(store: &Store, name: &str, path: &str) -> String {
    let image = store.resolve(name).unwrap();
    let dirs = store.lower_dirs(&image.platforms[0]).unwrap();
    let found = dirs.iter().map(|d| d.join(path)).find(|p| p.exists()).unwrap();
    fs::read_to_string(found).unwrap()
}

#[test]
fn several_images_survive_save_and_load() {
    let from = Sandbox::new();
    let lease = from.lease();
    let one = from.image(&lease, Some("one:1"), &[("a", "shared"), ("b", "1")]);
    let two = from.image(&lease, Some("reg.example:5000/two:x"), &[("a", "shared"), ("b", "2")]);
    let tar = save(&from.store, &["one:1", "reg.example:5000/two:x"]);
    for compress in [|b: &[u8]| b.to_vec(), gzip, zstd, xz, bzip2] {
        let to = Sandbox::new();
        let loaded = load(&to.store, &compress(&tar)).unwrap();
        assert_eq!(
            loaded,
            [Loaded::Named(r("one:1")), Loaded::Named(r("reg.example:5000/two:x"))]
        );
        assert_eq!(to.store.resolve("one:1").unwrap().id, one.id);
        assert_eq!(to.store.resolve("reg.example:5000/two:x").unwrap().id, two.id);
        assert_eq!(read(&to.store, "one:1", "b"), "1");
        assert_eq!(names(&to.root().join("ingest")), Vec::<String>::new());
        assert_eq!(
            names(&to.root().join("content/sha256")),
            names(&from.root().join("content/sha256"))
        );
    }
}

#[test]
fn the_saved_archive_has_both_layouts() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let image = sandbox.image(&lease, Some("one:1"), &[("a", "1")]);
    sandbox.store.tag(&image.id, &r("one:2")).unwrap();
    let tar = save(&sandbox.store, &["one:1", "one:2"]);
    let mut archive = tar::Archive::new(&tar[..]);
    let mut documents = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut text).unwrap();
        documents.insert(entry.path().unwrap().display().to_string(), text);
    }
    let legacy: serde_json::Value = serde_json::from_slice(&documents["manifest.json"]).unwrap();
    assert_eq!(legacy.as_array().unwrap().len(), 1);
    assert_eq!(legacy[0]["RepoTags"], serde_json::json!(["one:1", "one:2"]));
    assert!(documents.contains_key(legacy[0]["Config"].as_str().unwrap()));
    assert!(documents.contains_key(legacy[0]["Layers"][0].as_str().unwrap()));
    let index: Index = serde_json::from_slice(&documents["index.json"]).unwrap();
    assert_eq!(index.manifests.len(), 2);
    assert_eq!(
        index.manifests[0].annotations["io.containerd.image.name"],
        "docker.io/library/one:1"
    );
    assert_eq!(documents["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let repositories: serde_json::Value = serde_json::from_slice(&documents["repositories"]).unwrap();
    assert!(repositories["one"]["2"].is_string());
}

#[test]
fn an_image_without_a_name_is_loaded_by_its_id() {
    let from = Sandbox::new();
    let lease = from.lease();
    let image = from.image(&lease, None, &[("a", "1")]);
    let mut tar = Vec::new();
    from.store
        .save(
            &[SaveItem {
                image: image.clone(),
                names: Vec::new(),
            }],
            None,
            &mut tar,
        )
        .unwrap();
    let to = Sandbox::new();
    assert_eq!(load(&to.store, &tar).unwrap(), [Loaded::Id(image.id.clone())]);
    assert!(to.store.image(&image.id).unwrap().is_dangling());
}

/// Two platforms in one index, of which only one is wanted.
#[test]
fn one_platform_of_an_index_is_saved_and_loaded() {
    let from = Sandbox::new();
    let lease = from.lease();
    let mut manifests = Vec::new();
    for architecture in ["amd64", "s390x"] {
        let layer = from.take(&lease, &tar_of(&[file("arch", architecture)]), gzip).unwrap();
        let config = wharf_store::ImageConfig {
            architecture: architecture.to_owned(),
            ..config()
        };
        let new = NewImage {
            config,
            layers: &[layer],
            name: None,
            parent: None,
        };
        let mut target = from.store.create_image(&lease, new).unwrap().target.clone();
        target.platform = Some(Platform::new("linux", architecture, None));
        manifests.push(target);
    }
    let media_type = Some(media::OCI_INDEX.to_owned());
    let index = Index {
        schema_version: 2,
        media_type,
        manifests: manifests.clone(),
        annotations: Default::default(),
    };
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = from.store.write_blob(&lease, &bytes).unwrap();
    let target = Descriptor::new(media::OCI_INDEX, digest, bytes.len() as u64);
    let image = from
        .store
        .put_image(&lease, &target, Some(&r("multi:1")), None)
        .unwrap();
    assert_eq!(image.platforms.len(), 2);
    let wanted = Platform::new("linux", "s390x", None);
    let item = SaveItem {
        image: image.clone(),
        names: vec![r("multi:1")],
    };
    let mut tar = Vec::new();
    from.store
        .save(std::slice::from_ref(&item), Some(&wanted), &mut tar)
        .unwrap();
    let to = Sandbox::new();
    load(&to.store, &tar).unwrap();
    assert_eq!(to.store.resolve("multi:1").unwrap().id, manifests[1].digest);
    assert_eq!(read(&to.store, "multi:1", "arch"), "s390x");
    let mut whole = Vec::new();
    from.store.save(&[item], None, &mut whole).unwrap();
    let to = Sandbox::new();
    to.store.load(&mut &whole[..], Some(&wanted)).unwrap();
    let loaded = to.store.resolve("multi:1").unwrap();
    assert_eq!((loaded.id.clone(), loaded.platforms.len()), (image.id.clone(), 1));
    assert!(loaded.platform(Some(&wanted)).is_ok());
}

#[test]
fn archives_that_are_no_images_are_refused_and_leave_nothing() {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let hostile =
        |config: &str, layer: &str| format!(r#"[{{"Config":"{config}","RepoTags":["x:1"],"Layers":["{layer}"]}}]"#);
    let missing = Digest::of(b"missing");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{missing}","size":3}}]}}"#,
        media::OCI_MANIFEST
    );
    let cases: &[(Vec<u8>, &str)] = &[
        (b"garbage".to_vec(), "damaged"),
        (tar_of(&[file("hello", "hi")]), "neither index.json nor manifest.json"),
        (tar_of(&[file("manifest.json", "[]")]), "no image"),
        (tar_of(&[file("manifest.json", "{")]), "manifest.json"),
        (
            tar_of(&[file("manifest.json", &hostile("../../../etc/passwd", "x"))]),
            "passwd is missing",
        ),
        (
            tar_of(&[
                symlink("c.json", "/etc/passwd"),
                file("manifest.json", &hostile("c.json", "x")),
            ]),
            "c.json is missing",
        ),
        (
            tar_of(&[
                file("c.json", str::from_utf8(config).unwrap()),
                file("manifest.json", &hostile("c.json", "l")),
            ]),
            "disagree about the layers",
        ),
        (
            tar_of(&[file("oci-layout", "{}"), file("index.json", &index)]),
            "is missing",
        ),
        (
            tar_of(&[
                file("oci-layout", "{}"),
                file("index.json", &index),
                dir("blobs/sha256"),
                file(&format!("blobs/sha256/{}", missing.hex()), "{}"),
            ]),
            "cannot be used",
        ),
        (gzip(&tar_of(&[file("manifest.json", "[]")]))[..60].to_vec(), "archive"),
    ];
    for (bytes, expected) in cases {
        let sandbox = Sandbox::new();
        let error = load(&sandbox.store, bytes).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}, expected {expected}");
        assert!(sandbox.store.images().unwrap().is_empty());
        sandbox.store.gc(wharf_store::GcScope::Everything).unwrap();
        assert_eq!(sandbox.store.disk_usage().unwrap(), 0);
    }
}

#[test]
fn a_flat_tar_of_any_compression_becomes_an_image() {
    let sandbox = Sandbox::new();
    let lease = sandbox.lease();
    let tar = tar_of(&[dir("etc"), file("etc/f", "flat")]);
    let mut diff_ids = Vec::new();
    for compress in [|b: &[u8]| b.to_vec(), gzip, xz] {
        let layer = sandbox.store.import_layer(&lease, &mut &compress(&tar)[..]).unwrap();
        diff_ids.push(layer.diff_id.clone());
        let new = NewImage {
            config: config(),
            layers: &[layer],
            name: Some(&r("flat")),
            parent: None,
        };
        sandbox.store.create_image(&lease, new).unwrap();
    }
    assert!(diff_ids.iter().all(|d| *d == Digest::of(&tar)));
    assert_eq!(read(&sandbox.store, "flat", "etc/f"), "flat");
    let error = sandbox
        .store
        .import_layer(&lease, &mut &tar_of(&[file("../x", "")])[..])
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    let error = sandbox.store.import_layer(&lease, &mut &b"no tar"[..]).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    drop(lease);
    sandbox.store.gc(wharf_store::GcScope::Everything).unwrap();
    assert_eq!(names(&sandbox.root().join("ingest")), Vec::<String>::new());
}

/// Whether skopeo is here; the test says so when it is not.
fn has_skopeo() -> bool {
    let found = Command::new("skopeo")
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("not run: skopeo is not installed");
    }
    found
}

fn skopeo(from: &str, to: &str) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", from, to])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "skopeo copy {from} {to}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn at(transport: &str, dir: &Path, name: &str) -> String {
    format!("{transport}:{}", dir.join(name).display())
}

#[test]
fn skopeo_reads_what_we_save_and_we_load_what_it_writes() {
    if !has_skopeo() {
        return;
    }
    let from = Sandbox::new();
    let lease = from.lease();
    let image = from.image(&lease, Some("one:1"), &[("a", "1"), ("b", "2")]);
    let config = image.platforms[0].manifest.config.digest.clone();
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("ours.tar"), save(&from.store, &["one:1"])).unwrap();
    skopeo(
        &at("oci-archive", work.path(), "ours.tar"),
        &at("oci", work.path(), "from-oci:1"),
    );
    skopeo(
        &at("docker-archive", work.path(), "ours.tar"),
        &at("oci", work.path(), "from-docker:1"),
    );
    for (transport, file) in [
        ("oci-archive", "theirs-oci.tar"),
        ("docker-archive", "theirs-docker.tar"),
    ] {
        skopeo(
            &at("oci", work.path(), "from-oci:1"),
            &(at(transport, work.path(), file) + ":one:9"),
        );
        let to = Sandbox::new();
        let loaded = load(&to.store, &fs::read(work.path().join(file)).unwrap()).unwrap();
        assert_eq!(loaded, [Loaded::Named(r("one:9"))], "{file}");
        let image = to.store.resolve("one:9").unwrap();
        assert_eq!(image.platforms[0].config.rootfs.diff_ids.len(), 2, "{file}");
        assert_eq!(image.platforms[0].manifest.config.digest, config, "{file}");
        assert_eq!(read(&to.store, "one:9", "b"), "2", "{file}");
    }
}
