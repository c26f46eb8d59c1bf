//! Volumes, binds and tmpfs.

use std::path::Path;

use wharf_testkit::Sandbox;

#[test]
fn a_named_volume_outlives_its_containers() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "--rm",
        "-v",
        "data:/d",
        "busybox",
        "sh",
        "-c",
        "echo kept > /d/f",
    ])
    .ok();
    assert_eq!(
        s.docker(&["run", "--rm", "-v", "data:/d", "busybox", "cat", "/d/f"])
            .ok(),
        "kept"
    );
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "data");
    s.docker(&["volume", "rm", "data"]).ok();
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn a_volume_is_filled_from_the_image_on_first_use() {
    let s = Sandbox::with_busybox();
    let first = s.docker(&[
        "run",
        "--rm",
        "-v",
        "copy:/etc",
        "busybox",
        "sh",
        "-c",
        "ls /etc/passwd; rm /etc/passwd",
    ]);
    assert_eq!(first.ok(), "/etc/passwd");
    assert_ne!(
        s.docker(&["run", "--rm", "-v", "copy:/etc", "busybox", "ls", "/etc/passwd"])
            .code,
        0,
        "filled only once"
    );
    let bare = s.docker(&[
        "run",
        "--rm",
        "-v",
        "bare:/etc:nocopy",
        "busybox",
        "sh",
        "-c",
        "ls /etc | grep -c passwd",
    ]);
    assert_eq!(bare.stdout.trim(), "0");
}

#[test]
fn binds_are_shared_read_only_when_asked_and_must_exist_for_mount() {
    let s = Sandbox::with_busybox();
    let dir = s.path("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("f"), "host\n").unwrap();
    let bind = dir.to_string_lossy().into_owned();
    assert_eq!(
        s.docker(&[
            "run",
            "--rm",
            "-v",
            &format!("{bind}:/m"),
            "busybox",
            "sh",
            "-c",
            "cat /m/f; echo in > /m/g"
        ])
        .ok(),
        "host"
    );
    assert_eq!(std::fs::read_to_string(dir.join("g")).unwrap(), "in\n");
    let ro = s.docker(&[
        "run",
        "--rm",
        "--mount",
        &format!("type=bind,src={bind},dst=/m,readonly"),
        "busybox",
        "touch",
        "/m/h",
    ]);
    ro.fails(1, "Read-only file system");
    let missing = s.docker(&[
        "run",
        "--rm",
        "--mount",
        &format!("type=bind,src={bind}/none,dst=/m"),
        "busybox",
        "true",
    ]);
    missing.fails(125, "bind source path does not exist");
}

#[test]
fn anonymous_volumes_go_with_rm_and_a_used_volume_stays() {
    let s = Sandbox::with_busybox();
    s.docker(&["run", "--rm", "-v", "/anon", "busybox", "true"]).ok();
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "");
    s.docker(&["create", "--name", "user", "-v", "used:/d", "busybox"]).ok();
    s.docker(&["volume", "rm", "used"]).fails(1, "volume is in use");
    s.docker(&["rm", "-v", "user"]).ok();
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "used");
    s.wharf(&["volume", "prune", "-af"]).ok();
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn a_container_may_bind_the_whole_host_with_the_engine_in_it() {
    let mut s = Sandbox::with_busybox();
    let run = s.run_dir();
    let bound = |s: &Sandbox, source: &Path, options: &str, when: &str| {
        let bind = format!("{}:/host{options}", source.display());
        let found = s.docker(&["run", "--rm", "-v", &bind, "busybox", "ls", "/host"]);
        assert!(!found.ok().is_empty(), "{when}: {bind}: {found}");
        assert!(found.ok().contains("netns") || source != run, "{found}");
    };
    // Where the kernel gives numbers to mount namespaces by processor, it is chance which of two is older.
    for _ in 0..4 {
        for options in ["", ":ro", ":rslave"] {
            bound(&s, Path::new("/"), options, "all of the host");
            bound(&s, &run, options, "the engine's own");
        }
        s.kill();
        s.boot();
    }
}
