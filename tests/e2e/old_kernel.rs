//! An engine where the kernel has none of the newer calls: a filter around it answers that they do not exist.

use std::os::unix::fs::PermissionsExt as _;

use wharf_testkit::Sandbox;
use wharf_testkit::sandbox::wharf_binary;

/// Loads the filter and becomes the engine. close_range(2) of Linux 5.9, and all calls that came with or after
/// mount_setattr(2) of 5.12.
const LAUNCHER: &str = r#"#!/usr/bin/env python3
import ctypes, errno, os, sys
PROGRAM = "@PROGRAM@"
ALLOW, ERRNO, NO_NEW_PRIVS = 0x7fff0000, 0x00050000, 3
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(ALLOW))
library.seccomp_attr_set(context, NO_NEW_PRIVS, 0)
for number in [436, *range(441, 480)]:
    assert library.seccomp_rule_add(context, ERRNO | errno.ENOSYS, number, 0) == 0, number
assert library.seccomp_load(context) == 0
os.execv(PROGRAM, [PROGRAM] + sys.argv[1:])
"#;

fn old_engine() -> Sandbox {
    let mut s = Sandbox::with_busybox();
    s.terminate();
    let launcher = s.path("old-kernel");
    let program = wharf_binary().canonicalize().unwrap();
    std::fs::write(&launcher, LAUNCHER.replace("@PROGRAM@", &program.to_string_lossy())).unwrap();
    std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755)).unwrap();
    s.replace_program(&launcher);
    s.boot();
    s
}

#[test]
fn containers_live_without_the_calls_of_newer_kernels() {
    let s = old_engine();
    let data = s.path("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "of the host\n").unwrap();
    let bind = format!("{}:/d", data.display());
    let script = "cat /etc/hostname /d/file && echo kept > /v/file && ! touch /r/x 2>/dev/null && \
        ! touch /etc/x 2>/dev/null && touch /tmp/x && test -c /dev/null && test -s /etc/resolv.conf";
    let mut args = vec![
        "run",
        "--rm",
        "--hostname",
        "old",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "-v",
        &bind,
    ];
    let read_only = format!("{}:/r:ro", data.display());
    args.extend(["-v", &read_only, "-v", "vol:/v", "busybox", "sh", "-c", script]);
    assert_eq!(s.docker(&args).ok(), "old\nof the host");

    s.docker(&[
        "run",
        "-d",
        "--name",
        "c1",
        "-v",
        "vol:/v:ro",
        "-p",
        "0:80",
        "busybox",
        "sleep",
        "100",
    ])
    .ok();
    assert_eq!(s.docker(&["exec", "c1", "cat", "/v/file"]).ok(), "kept");
    s.docker(&["exec", "c1", "sh", "-c", "! touch /v/other"]).ok();
    s.docker(&["pause", "c1"]).ok();
    s.docker(&["unpause", "c1"]).ok();
    s.docker(&["restart", "-t", "0", "c1"]).ok();
    s.docker(&["cp", "c1:/v/file", &s.path("copy").to_string_lossy()]).ok();
    s.docker(&["rm", "-f", "c1"]).ok();

    let forced = format!(
        "type=bind,source={},target=/d,readonly,bind-propagation=rprivate,bind-recursive=readonly",
        data.display()
    );
    let refused = s.wharf(&["run", "--rm", "--mount", &forced, "busybox", "true"]);
    refused.fails(125, "/d: a recursive attribute needs mount_setattr(2) of Linux 5.12");
}
