//! Clients that others wrote, with habits of their own: docker-py, skopeo, compose's view of events.

use std::process::Command;
use std::time::Duration;
use wharf_testkit::{Output, Sandbox, run};

/// Runs a script with Debian's docker-py, which finds a client of this engine in `client`.
fn docker_py(s: &Sandbox, script: &str) -> Output {
    let mut command = Command::new("/usr/bin/python3");
    let prelude = "import docker, threading\nclient = docker.from_env(timeout=30)\n";
    command
        .args(["-c", &format!("{prelude}{script}")])
        .env("DOCKER_HOST", format!("unix://{}", s.socket().display()));
    run(&mut command, b"", Duration::from_secs(120)).unwrap()
}

#[test]
fn docker_py_reads_every_byte_of_short_execs() {
    let s = Sandbox::with_busybox();
    let out = docker_py(
        &s,
        r#"
box = client.containers.run("busybox", ["sleep", "100"], detach=True)
for i in range(30):
    code, text = box.exec_run(["echo", f"word {i}"], tty=i % 2 == 1)
    assert (code, text.strip()) == (0, f"word {i}".encode()), (i, code, text)
# Who starts an exec chooses the framing, terminal or not.
made = client.api.exec_create(box.id, ["printf", "framed"], tty=True)
assert client.api.exec_start(made["Id"], tty=False) == b"framed"
print("done")
"#,
    );
    assert_eq!(out.ok(), "done");
}

#[test]
fn who_inspects_on_a_die_event_finds_no_running_container() {
    let s = Sandbox::with_busybox();
    let out = docker_py(
        &s,
        r#"
seen = []
stream = client.events(decode=True, filters={"event": "die"})
def watch():
    for event in stream:
        state = client.api.inspect_container(event["id"])["State"]
        seen.append((state["Running"], state["Status"], state["ExitCode"]))
        if len(seen) == 10:
            return
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
for _ in range(10):
    client.containers.run("busybox", ["sh", "-c", "exit 4"], detach=True)
watcher.join(20)
assert seen == [(False, "exited", 4)] * 10, seen
print("done")
"#,
    );
    assert_eq!(out.ok(), "done");
}

#[test]
fn a_commit_of_a_container_that_is_just_ending_works() {
    let s = Sandbox::with_busybox();
    let out = docker_py(
        &s,
        r#"
for i in range(10):
    box = client.containers.run("busybox", ["touch", "/made"], detach=True)
    box.commit("ending", str(i))
print("done")
"#,
    );
    assert_eq!(out.ok(), "done");
}

#[test]
fn skopeo_copies_out_and_in() {
    let s = Sandbox::with_busybox();
    let daemon = format!("unix://{}", s.socket().display());
    let layout = format!("oci:{}:x", s.path("layout").display());
    let skopeo = |args: &[&str]| {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "-q"]).args(args);
        run(&mut command, b"", Duration::from_secs(60)).unwrap().ok();
    };
    skopeo(&["--src-daemon-host", &daemon, "docker-daemon:busybox:latest", &layout]);
    skopeo(&["--dest-daemon-host", &daemon, &layout, "docker-daemon:returned:1"]);
    assert_eq!(s.docker(&["run", "--rm", "returned:1", "echo", "back"]).ok(), "back");
}

#[test]
fn a_dockerfile_from_outside_the_context_is_used() {
    let s = Sandbox::with_busybox();
    let context = s.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("word"), "inside\n").unwrap();
    let file = s.path("elsewhere.dockerfile");
    std::fs::write(&file, "FROM busybox\nCOPY word /word\nCMD cat /word\n").unwrap();
    let (file, context) = (file.to_string_lossy(), context.to_string_lossy());
    s.docker(&["build", "-q", "-t", "outside", "-f", &file, &context]).ok();
    assert_eq!(s.docker(&["run", "--rm", "outside"]).ok(), "inside");
}

#[test]
fn an_export_of_a_running_container_leaves_out_what_is_mounted() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "x1",
        "-v",
        "/data",
        "busybox",
        "sh",
        "-c",
        "touch /data/hidden /shown; sleep 100",
    ])
    .ok();
    s.eventually(Duration::from_secs(5), "the files", || {
        s.docker(&["exec", "x1", "test", "-e", "/shown"]).code == 0
    });
    let tar = s.path("x1.tar");
    s.docker(&["export", "-o", &tar.to_string_lossy(), "x1"]).ok();
    let mut list = Command::new("tar");
    let names = run(list.arg("-tf").arg(&tar), b"", Duration::from_secs(30)).unwrap();
    let names: Vec<&str> = names.ok().lines().collect();
    for wanted in ["shown", "data/", "proc/", "etc/hosts"] {
        assert!(names.contains(&wanted), "{wanted} in {names:?}");
    }
    let unwanted = |name: &&&str| name.starts_with("proc/") && name.len() > 5 || name.contains("hidden");
    assert_eq!(names.iter().find(unwanted), None);
}

#[test]
fn links_name_other_containers() {
    let s = Sandbox::with_busybox();
    s.docker(&["run", "-d", "--name", "db", "busybox", "sleep", "100"]).ok();
    let hosts = s.docker(&["run", "--rm", "--link", "db:store", "busybox", "cat", "/etc/hosts"]);
    let address = s.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db"]);
    let line = format!("{}\tstore ", address.ok());
    assert!(hosts.ok().contains(&line), "{line:?} in {:?}", hosts.stdout);

    s.docker(&["network", "create", "own"]).ok();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "db2",
        "--network",
        "own",
        "busybox",
        "sleep",
        "100",
    ])
    .ok();
    let found = s.docker(&[
        "run",
        "--rm",
        "--network",
        "own",
        "--link",
        "db2:store",
        "busybox",
        "ping",
        "-c1",
        "-W2",
        "store",
    ]);
    found.ok();
    s.docker(&[
        "run",
        "--rm",
        "--network",
        "own",
        "busybox",
        "ping",
        "-c1",
        "-W2",
        "store",
    ])
    .fails(1, "bad address");
}
