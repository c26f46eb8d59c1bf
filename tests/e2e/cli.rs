//! Our own command line, beside docker's.

use wharf_testkit::Sandbox;

#[test]
fn both_command_lines_say_the_same() {
    let s = Sandbox::with_busybox();
    s.wharf(&[
        "run",
        "-d",
        "--name",
        "c1",
        "-p",
        "127.0.0.1::80",
        "-l",
        "a=b",
        "busybox",
        "sleep",
        "60",
    ])
    .ok();
    s.wharf(&["network", "create", "n1"]).ok();
    s.wharf(&["volume", "create", "v1"]).ok();
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
        // Not `json`: its count of containers is known from API 1.51 on only, which this docker does not speak.
        &[
            "images",
            "--format",
            "{{json .Repository}} {{.ID}} {{.Tag}} {{.Size}} {{.VirtualSize}} {{.Digest}}",
        ],
        &["network", "ls"],
        &["network", "inspect", "n1"],
        &["volume", "ls"],
        &["volume", "inspect", "v1"],
        &["inspect", "c1"],
        &["inspect", "-f", "{{.State.Status}} {{json .Config.Labels}}", "c1"],
        &["port", "c1"],
        &["history", "busybox"],
        &["diff", "c1"],
        &["top", "c1"],
        &["logs", "c1"],
        &["exec", "c1", "echo", "hi"],
        &["ps", "--filter", "label=a=b", "-q"],
        &["rm", "c1"],
        &["inspect", "nothing"],
        &["rmi", "nothing"],
        &["network", "rm", "nothing"],
        &["volume", "rm", "nothing"],
        &["start", "nothing"],
        &["run", "--no-such-flag", "busybox"],
    ];
    // The words are those of docker 28; an older one must agree in the exit codes alone.
    let same_words = s.docker_major() >= 28;
    if !same_words {
        eprintln!("NOT CHECKED: what is printed, as the docker CLI of this machine is older than 28");
    }
    for args in table {
        // Ages tick between two calls: what differs is asked again, and must agree within a few times.
        let mut last = None;
        for _ in 0..5 {
            let (ours, theirs) = (s.wharf(args), s.docker(args));
            let agree = ours.code == theirs.code && (!same_words || ours.stdout == theirs.stdout);
            last = (!agree).then_some((ours, theirs));
            if agree {
                break;
            }
        }
        if let Some((ours, theirs)) = last {
            panic!("{ours}\n{theirs}");
        }
    }
    s.wharf(&["stop", "-t", "0", "c1"]).ok();
    s.wharf(&["rm", "c1"]).ok();
    assert_eq!(s.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn an_unknown_command_or_flag_is_named() {
    let s = Sandbox::start();
    s.wharf(&["frobnicate"]).fails(1, "frobnicate");
    s.wharf(&["ps", "--frobnicate"])
        .fails(s.docker(&["ps", "--frobnicate"]).code, "--frobnicate");
}
