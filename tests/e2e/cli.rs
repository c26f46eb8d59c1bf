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

#[test]
fn an_engine_starts_by_itself_whether_its_default_address_is_named_or_not() {
    let instance = format!("wa{}", std::process::id());
    // The default places, but in namespaces of its own; what it makes in cgroups has the name of this test.
    let script = format!(
        r#"
        mount --make-rprivate /
        mount -t tmpfs none /run
        mount -t tmpfs none /var/lib
        mkdir -p /run/etc/upper/wharf /run/etc/work
        echo 'instance = "{instance}"' > /run/etc/upper/wharf/config.toml
        mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work none /etc
        ip link set lo up
        kill_engine() {{
            kill -9 "$(cut -d ' ' -f 1 /var/lib/wharf/engine.lock)"
        }}
        wharf run --rm --network none hello | head -n 1
        kill_engine
        export DOCKER_HOST=unix:///run/wharf/wharf.sock
        wharf ps -aq
        kill_engine
        wharf -H unix:///run/wharf/wharf.sock ps -aq
        wharf system reset --force --instance {instance}
        test ! -e /run/wharf
        ! DOCKER_HOST=unix:///run/other.sock wharf ps
        "#
    );
    let wharf = wharf_testkit::sandbox::wharf_binary();
    let path = format!(
        "{}:{}",
        wharf.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-ec", &script]).env("PATH", path);
    for variable in ["DOCKER_HOST", "WHARF_HOST", "XDG_RUNTIME_DIR"] {
        command.env_remove(variable);
    }
    let said = wharf_testkit::run(&mut command, b"", std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(said.ok(), "Hello from Wharf!", "{said}");
    let left = wharf_testkit::Leftovers::find(&instance, &std::env::temp_dir().join(&instance));
    assert!(left.is_empty(), "{left:?}");
}
