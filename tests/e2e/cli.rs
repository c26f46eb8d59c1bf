//! Our own command line, beside docker's.

use wharf_testkit::Sandbox;

#[test]
fn both_command_lines_say_the_same() {
    let s = Sandbox::with_busybox();
    s.wharf(&[
        "run",
        "-d",
        "--name",
        "c",
        "-p",
        "127.0.0.1::80",
        "-l",
        "a=b",
        "busybox",
        "sleep",
        "60",
    ])
    .ok();
    s.wharf(&["network", "create", "n"]).ok();
    s.wharf(&["volume", "create", "v"]).ok();
    let table: &[&[&str]] = &[
        &["ps"],
        &[
            "ps",
            "-a",
            "--format",
            "{{.ID}} {{.Image}} {{.Command}} {{.Ports}} {{.Names}} {{.Labels}}",
        ],
        &["ps", "-q", "--no-trunc"],
        &["images"],
        &["images", "--format", "json"],
        &["network", "ls"],
        &["network", "inspect", "n"],
        &["volume", "ls"],
        &["volume", "inspect", "v"],
        &["inspect", "c"],
        &["inspect", "-f", "{{.State.Status}} {{json .Config.Labels}}", "c"],
        &["port", "c"],
        &["history", "busybox"],
        &["diff", "c"],
        &["top", "c"],
        &["logs", "c"],
        &["exec", "c", "echo", "hi"],
        &["ps", "--filter", "label=a=b", "-q"],
        &["rm", "c"],
        &["inspect", "nothing"],
        &["rmi", "nothing"],
        &["network", "rm", "nothing"],
        &["volume", "rm", "nothing"],
        &["start", "nothing"],
        &["run", "--no-such-flag", "busybox"],
        &["stop", "-t", "0", "c"],
        &["rm", "c"],
    ];
    for args in table {
        let (ours, theirs) = if args[0] == "stop"
            || *args == ["rm", "c"] && s.docker(&["inspect", "-f", "{{.State.Running}}", "c"]).stdout.trim() != "true"
        {
            (s.wharf(args), s.wharf(&["ps", "-q", "-f", "name=^/nothing$"]))
        } else {
            (s.wharf(args), s.docker(args))
        };
        if theirs.line.contains("nothing$") {
            assert_eq!(ours.code, 0, "{ours}");
            continue;
        }
        assert_eq!(ours.code, theirs.code, "{ours}\n{theirs}");
        assert_eq!(ours.stdout, theirs.stdout, "{ours}\n{theirs}");
    }
}

#[test]
fn an_unknown_command_or_flag_is_named() {
    let s = Sandbox::start();
    s.wharf(&["frobnicate"]).fails(1, "frobnicate");
    s.wharf(&["ps", "--frobnicate"]).fails(125, "--frobnicate");
}
