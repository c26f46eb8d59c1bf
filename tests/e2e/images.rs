//! Images: push, pull, tag, save, load, import, remove.

use wharf_testkit::{Registry, Sandbox, run};

#[test]
fn what_is_pushed_is_pulled_back_identical() {
    let s = Sandbox::with_busybox();
    let registry = Registry::start();
    let name = format!("{}/team/busybox:1", registry.address());
    s.docker(&["tag", "busybox", &name]).ok();
    let pushed = s.docker(&["push", &name]);
    let digest = pushed
        .ok()
        .split("digest: ")
        .nth(1)
        .and_then(|d| d.split(' ').next())
        .expect("a digest")
        .to_owned();
    s.docker(&["rmi", &name]).ok();
    s.docker(&["rmi", "busybox"]).ok();
    assert_eq!(s.docker(&["images", "-q"]).ok(), "");
    let pulled = s.docker(&["pull", &name]);
    assert!(pulled.ok().contains(&format!("Digest: {digest}")), "{pulled}");
    assert!(pulled.stdout.contains("Downloaded newer image"), "{pulled}");
    assert!(s.docker(&["pull", &name]).ok().contains("Image is up to date"));
    assert_eq!(s.docker(&["run", "--rm", &name, "echo", "works"]).ok(), "works");
    let by_digest = format!("{}/team/busybox@{digest}", registry.address());
    s.docker(&["pull", &by_digest]).ok();
}

#[test]
fn other_tools_read_what_we_push_and_save() {
    let s = Sandbox::with_busybox();
    let registry = Registry::start();
    let name = format!("{}/b:1", registry.address());
    s.docker(&["tag", "busybox", &name]).ok();
    s.docker(&["push", &name]).ok();
    let skopeo = |args: &[&str]| {
        run(
            std::process::Command::new("skopeo").args(args),
            b"",
            std::time::Duration::from_secs(60),
        )
        .unwrap()
    };
    skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok();
    let tar = s.path("saved.tar");
    s.docker(&["save", "-o", &tar.to_string_lossy(), "busybox"]).ok();
    let oci = format!("oci:{}:latest", s.path("layout").display());
    skopeo(&["copy", &format!("docker-archive:{}", tar.display()), &oci]).ok();
    // And back: an image that skopeo wrote, pulled by us.
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        &oci,
        &format!("docker://{}/from-skopeo:1", registry.address()),
    ])
    .ok();
    let theirs = format!("{}/from-skopeo:1", registry.address());
    s.docker(&["pull", &theirs]).ok();
    assert_eq!(s.docker(&["run", "--rm", &theirs, "echo", "works"]).ok(), "works");
}

#[test]
fn save_and_load_round_trip() {
    let s = Sandbox::with_busybox();
    let id = s.docker(&["images", "-q", "--no-trunc", "busybox"]).ok().to_owned();
    let tar = s.path("i.tar");
    s.docker(&["save", "-o", &tar.to_string_lossy(), "busybox"]).ok();
    s.docker(&["rmi", "busybox"]).ok();
    assert!(
        s.docker(&["load", "-i", &tar.to_string_lossy()])
            .ok()
            .contains("Loaded image: busybox:latest")
    );
    assert_eq!(s.docker(&["images", "-q", "--no-trunc", "busybox"]).ok(), id);
}

#[test]
fn an_image_in_use_is_kept() {
    let s = Sandbox::with_busybox();
    s.docker(&["create", "--name", "user", "busybox"]).ok();
    s.docker(&["rmi", "busybox"]).fails(1, "is using");
    s.docker(&["rm", "user"]).ok();
    s.docker(&["rmi", "busybox"]).ok();
}

#[test]
fn the_embedded_image_needs_no_registry() {
    let s = Sandbox::start();
    let out = s.docker(&["run", "--rm", "hello"]);
    assert!(out.ok().to_lowercase().contains("pid"), "{out}");
}

#[test]
fn removing_images_frees_the_disk() {
    let s = Sandbox::with_busybox();
    s.docker(&["rmi", "busybox"]).ok();
    s.docker(&["image", "prune", "-af"]).ok();
    s.docker(&["builder", "prune", "-af"]).ok();
    s.docker(&["system", "prune", "-af"]).ok();
    let files = run(
        std::process::Command::new("find")
            .arg(s.root())
            .args(["-path", "*/sha256/*", "-o", "-path", "*/layers/*"]),
        b"",
        std::time::Duration::from_secs(10),
    )
    .unwrap();
    assert_eq!(files.ok(), "", "blobs and layers left");
}
