//! Bad input: a clear error, Docker's exit code, nothing left behind.

use std::net::TcpListener;
use wharf_testkit::{Registry, Sandbox};

#[test]
fn docker_run_refuses_with_docker_s_words_and_codes() {
    let s = Sandbox::with_busybox();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = format!("{}:80", taken.local_addr().unwrap().port());
    s.docker(&["create", "--name", "taken", "busybox"]).ok();
    // From 28 on the client shows the engine's words, before that its own.
    let no_such_volume = if s.docker_major() >= 28 {
        "no such volume"
    } else {
        "No such volume"
    };
    let table: &[(&[&str], i32, &str)] = &[
        (
            &["run", "--rm", "busybox", "no-such-command"],
            127,
            "executable file not found",
        ),
        (&["run", "--rm", "busybox", "/etc/passwd"], 126, "permission denied"),
        (
            &["run", "--name", "taken", "busybox"],
            125,
            "is already in use by container",
        ),
        (&["run", "--rm", "-p", &port, "busybox"], 125, "address already in use"),
        (
            &[
                "run",
                "--rm",
                "--mount",
                "type=bind,src=/no/such/place,dst=/m",
                "busybox",
            ],
            125,
            "bind source path does not exist",
        ),
        (
            &["run", "--rm", "--memory", "1m", "busybox"],
            125,
            "Minimum memory limit allowed is 6MB",
        ),
        (
            &["run", "--rm", "--no-such-flag", "busybox"],
            125,
            "unknown flag: --no-such-flag",
        ),
        (
            &["run", "--rm", "--network", "nowhere", "busybox"],
            125,
            "network nowhere not found",
        ),
        (
            &["run", "--rm", "-u", "nobody-here", "busybox"],
            125,
            "unable to find user nobody-here",
        ),
        (
            &["run", "--rm", "--cap-add", "NO_SUCH", "busybox"],
            125,
            "unknown capability",
        ),
        (&["exec", "nothing", "true"], 1, "No such container: nothing"),
        (&["unpause", "taken"], 1, "is not paused"),
        (&["network", "create", "bridge"], 1, "predefined"),
        (&["volume", "inspect", "nothing"], 1, no_such_volume),
    ];
    for (args, code, text) in table {
        s.docker(args).fails(*code, text);
    }
    drop(taken);
    assert_eq!(s.docker(&["ps", "-aq", "--filter", "status=running"]).ok(), "");
    assert!(
        s.leftovers().links.iter().all(|l| l == &format!("{}0", s.instance())),
        "{:?}",
        s.leftovers()
    );
}

#[test]
fn an_unknown_image_and_an_unreachable_registry_are_told_apart() {
    let s = Sandbox::start();
    let registry = Registry::start();
    s.docker(&["pull", &format!("{}/no/such:1", registry.address())])
        .fails(1, "not found");
    s.docker(&["pull", "127.0.0.1:1/x:1"]).fails(1, "refused");
    s.docker(&["run", "--rm", "127.0.0.1:1/x:1"]).fails(125, "refused");
    assert_eq!(s.docker(&["images", "-aq"]).ok(), "");
}

#[test]
fn a_damaged_blob_is_refused_and_leaves_no_image() {
    let s = Sandbox::with_busybox();
    let registry = Registry::start();
    let name = format!("{}/b:1", registry.address());
    s.docker(&["tag", "busybox", &name]).ok();
    s.docker(&["push", &name]).ok();
    s.docker(&["rmi", "-f", &name, "busybox"]).ok();
    let largest = largest_file(&registry.data());
    let whole = std::fs::read(&largest).unwrap();
    for damaged in [whole[..whole.len() / 2].to_vec(), {
        let mut w = whole.clone();
        let middle = w.len() / 2;
        w[middle] ^= 0xff;
        w
    }] {
        std::fs::write(&largest, damaged).unwrap();
        let out = s.docker(&["pull", &name]);
        assert_eq!(out.code, 1, "{out}");
        assert_eq!(s.docker(&["images", "-aq"]).ok(), "");
    }
    std::fs::write(&largest, whole).unwrap();
    s.docker(&["pull", &name]).ok();
    assert_eq!(s.docker(&["run", "--rm", &name, "echo", "whole"]).ok(), "whole");
}

fn largest_file(dir: &std::path::Path) -> std::path::PathBuf {
    let out = std::process::Command::new("find")
        .arg(dir)
        .args(["-type", "f", "-printf", "%s %p\n"])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let size = |l: &str| l.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    let line = text.lines().max_by_key(|l| size(l)).unwrap();
    line.split_once(' ').unwrap().1.into()
}

#[test]
fn hostile_tars_cannot_leave_the_image() {
    let s = Sandbox::start();
    let script = r#"
import tarfile, io, sys
def tar(name, *members):
    with tarfile.open(name, 'w') as t:
        for m, data in members: t.addfile(m, io.BytesIO(data) if data else None)
def f(n, data=b'x'):
    i = tarfile.TarInfo(n); i.size = len(data); return i, data
def link(n, to, kind):
    i = tarfile.TarInfo(n); i.type = kind; i.linkname = to; return i, b''
d = sys.argv[1]
tar(d + '/dotdot.tar', f('../../../../../../tmp/%s' % sys.argv[2]))
tar(d + '/absolute.tar', f('/tmp/%s' % sys.argv[2]))
tar(d + '/symlink.tar', link('out', '/tmp', tarfile.SYMTYPE), f('out/%s' % sys.argv[2]))
tar(d + '/hardlink.tar', link('pw', '/etc/passwd', tarfile.LNKTYPE))
tar(d + '/hardlink2.tar', link('pw', '../../../../../../../../etc/passwd', tarfile.LNKTYPE))
"#;
    let mark = format!("escape-{}", s.instance());
    let status = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(s.path(""))
        .arg(&mark)
        .status()
        .unwrap();
    assert!(status.success());
    for kind in ["dotdot", "absolute", "symlink", "hardlink", "hardlink2"] {
        let tar = s.path(&format!("{kind}.tar"));
        s.docker(&["import", &tar.to_string_lossy(), &format!("hostile:{kind}")]);
        assert!(!std::path::Path::new("/tmp").join(&mark).exists(), "{kind} escaped");
    }
    let passwd = std::fs::read("/etc/passwd").unwrap();
    for entry in wharf_files(&s) {
        assert_ne!(
            std::fs::read(&entry).unwrap_or_default(),
            passwd,
            "{entry:?} is the host's passwd"
        );
    }
}

fn wharf_files(s: &Sandbox) -> Vec<std::path::PathBuf> {
    let out = std::process::Command::new("find")
        .arg(s.root().join("layers"))
        .args(["-name", "pw"])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().lines().map(Into::into).collect()
}

#[test]
fn a_malformed_dockerfile_shows_its_line() {
    let s = Sandbox::with_busybox();
    let table = [
        ("FROM busybox\n\nFROBNICATE x\n", "line 3"),
        ("FROM busybox\nCOPY\n", "COPY"),
        ("RUN true\n", "no build stage in current context"),
        ("", "cannot be empty"),
    ];
    for (text, expected) in table {
        let out = s.docker_fed(&["build", "-"], text.as_bytes());
        assert!(out.code == 1 && out.stderr.contains(expected), "{text:?}\n{out}");
    }
}

#[test]
fn api_versions_out_of_range_are_refused() {
    let s = Sandbox::start();
    for (path, text) in [("/v1.99/info", "too new"), ("/v1.12/info", "too old")] {
        let (status, body) = s.api("GET", path, "");
        assert_eq!(status, 400);
        let message = body["message"].as_str().unwrap_or(text);
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(s.api("GET", "/v1.24/info", "").0, 200);
}

#[test]
fn a_socket_without_permission_says_so() {
    let s = Sandbox::start();
    let host = format!("unix://{}", s.socket().display());
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(wharf_testkit::sandbox::wharf_binary())
        .args(["-H", &host, "ps"]);
    // The test directory itself must not be what refuses.
    for dir in [s.path(""), s.run_dir()] {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let out = wharf_testkit::run(&mut command, b"", std::time::Duration::from_secs(20)).unwrap();
    out.fails(1, "permission denied");
}
