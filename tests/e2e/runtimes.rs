//! Containers made by the runtimes of others, through the docker CLI.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf_testkit::Sandbox;
use wharf_testkit::process::is_alive;

const PATIENCE: Duration = Duration::from_secs(30);

/// On version 1 crun wants the hugetlb hierarchy, which not every machine mounts: here it gets one in a mount
/// namespace of its own. What it made there, or in directories that look like hierarchies, goes with the container.
const CRUN: &str = r#"#!/bin/sh
crun=$(command -v crun)
v1=/sys/fs/cgroup/hugetlb
if [ ! -d /sys/fs/cgroup/memory ] || [ -e $v1/cgroup.procs ]; then exec "$crun" "$@"; fi
mkdir -p $v1
exec unshare --mount --propagation unchanged sh -c '
    mount --make-rslave / && mount -t cgroup -o hugetlb cgroup "$0" || exit 1
    crun=$1; shift
    "$crun" "$@"; status=$?
    case " $* " in *" delete "*)
        for id; do :; done
        for group in "$0"/w*/$id; do rmdir $group; rmdir ${group%/*}; done
        for group in /sys/fs/cgroup/*/w*/$id; do
            [ -e ${group%/w*}/cgroup.procs ] || { rm -r $group; rmdir ${group%/*}; }
        done 2>/dev/null;;
    esac
    exit $status' $v1 "$crun" "$@"
"#;

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.iter().any(|dir| dir.join(program).is_file())
}

/// The names of the installed runtimes, and an engine that knows them all.
fn engine() -> (Vec<&'static str>, Sandbox) {
    let (names, missing): (Vec<&str>, Vec<&str>) = ["runc", "crun"].into_iter().partition(|name| is_installed(name));
    if !missing.is_empty() {
        println!("not tested, as not installed: {missing:?}");
    }
    let s = Sandbox::configured(
        "[runtimes]\nrunc = 'runc'\n[runtimes.crun]\npath = '{dir}/crun'\nruntimeArgs = ['--cgroup-manager=cgroupfs']\n",
    );
    let crun = s.path("crun");
    std::fs::write(&crun, CRUN).expect("a wrapper");
    std::fs::set_permissions(&crun, std::fs::Permissions::from_mode(0o755)).expect("executable");
    s.import_busybox();
    (names, s)
}

/// What a runtime's containers may leave: the directory of its states, empty.
fn nothing_is_left(s: &Sandbox, runtime: &str) {
    let states = s.run_dir().join("runtimes").join(runtime);
    let left: Vec<_> = std::fs::read_dir(&states).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{runtime}: {left:?}");
    let entries = |group: PathBuf| std::fs::read_dir(group).into_iter().flatten().flatten();
    let groups = s.leftovers().cgroups.into_iter().flat_map(entries);
    let left: Vec<_> = groups
        .filter(|entry| entry.file_name().len() == 64)
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "{runtime}: {left:?}");
    assert!(mounts_of(s.run_dir().as_path()).is_empty(), "{runtime}");
}

fn mounts_of(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = |line: &&str| {
        line.split(' ')
            .nth(4)
            .is_some_and(|at| Path::new(at).starts_with(dir.join("shims")))
    };
    text.lines().filter(below).map(str::to_owned).collect()
}

fn inspect(s: &Sandbox, name: &str, what: &str) -> String {
    s.docker(&["inspect", "-f", what, name]).ok().to_owned()
}

/// `docker run` of busybox with that runtime; flags are separated by blanks.
fn run(s: &Sandbox, runtime: &str, flags: &str, command: &[&str]) -> wharf_testkit::Output {
    run_fed(s, runtime, flags, command, b"")
}

fn run_fed(s: &Sandbox, runtime: &str, flags: &str, command: &[&str], stdin: &[u8]) -> wharf_testkit::Output {
    let mut line = vec!["run", "--runtime", runtime];
    line.extend(flags.split_whitespace());
    line.push("busybox");
    line.extend(command);
    s.docker_fed(&line, stdin)
}

/// Streams and exit codes of `run`.
fn runs(s: &Sandbox, runtime: &str) {
    let out = run(s, runtime, "--rm", &["sh", "-c", "echo out; echo err >&2; exit 9"]);
    let streams = (out.code, out.stdout.as_str(), out.stderr.as_str());
    assert_eq!(streams, (9, "out\n", "err\n"), "{runtime}: {out}");
    run(s, runtime, "--rm", &["/nosuch"]).fails(127, "no such file or directory");
    let out = run_fed(s, runtime, "-i --rm", &["cat"], b"typed");
    assert_eq!(out.ok(), "typed", "{runtime}");
    let out = run(s, runtime, "-t --rm", &["sh", "-c", "[ -t 1 ] && echo tty"]);
    assert_eq!(out.ok(), "tty", "{runtime}");
    let flood = "dd if=/dev/zero bs=1k count=300 2>/dev/null";
    let out = run(s, runtime, "--rm", &["sh", "-c", flood]);
    assert_eq!(out.stdout.len(), 300 << 10, "{runtime}: the end of the output is lost");
}

/// Users, variables, terminals, streams and exit codes of `exec`.
fn execs(s: &Sandbox, runtime: &str) {
    run(s, runtime, "-d --name e1 -u 1234:55 -m 64m", &["sleep", "1000"]).ok();
    assert_eq!(inspect(s, "e1", "{{.HostConfig.Runtime}}"), runtime);
    let check = |words: &[&str], expected: &str| {
        let line = [&["exec"], words].concat();
        assert_eq!(s.docker(&line).ok(), expected, "{runtime}: {words:?}");
    };
    check(&["e1", "id", "-u"], "1234");
    let other = [
        "-u",
        "7",
        "-w",
        "/tmp",
        "-e",
        "A=b",
        "e1",
        "sh",
        "-c",
        "id -u; pwd; echo $A",
    ];
    check(&other, "7\n/tmp\nb");
    check(&["-t", "e1", "sh", "-c", "[ -t 0 ] && echo tty"], "tty");
    let typed = s.docker_fed(&["exec", "-i", "e1", "cat"], b"more");
    assert_eq!(typed.ok(), "more", "{runtime}");
    s.docker(&["exec", "e1", "sh", "-c", "exit 42"]).fails(42, "");
    s.docker(&["rm", "-f", "e1"]).ok();
}

/// What processes may do, and an exec that cannot be: OCI runtimes tell in their own words.
fn drops_and_gives_capabilities(s: &Sandbox, runtime: &str) {
    let caps = "grep CapEff /proc/self/status | tr -d '\t'";
    let own = run(s, runtime, "--rm --cap-drop ALL", &["sh", "-c", caps]);
    assert_eq!(own.ok(), "CapEff:0000000000000000", "{runtime}");
    run(s, runtime, "-d --name e1", &["sleep", "1000"]).ok();
    let exec = |flags: &[&str]| {
        let line = [&["exec"], flags, &["e1", "sh", "-c", caps]].concat();
        s.docker(&line).ok().to_owned()
    };
    let (all, plain) = (exec(&["--privileged"]), exec(&[]));
    assert_eq!(plain, "CapEff:00000000a80425fb", "{runtime}");
    assert!(all > plain || all.len() > plain.len(), "{runtime}: {all}");
    let out = s.docker(&["exec", "e1", "/nosuch"]);
    assert_eq!(out.code, 127, "{out}");
    assert!(out.stdout.contains("no such file or directory"), "{out}");
    s.docker(&["rm", "-f", "e1"]).ok();
}

/// Pause, limits, measurements, stop and kill.
fn pauses_limits_and_stops(s: &Sandbox, runtime: &str) {
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    run(s, runtime, "-d --name c1 -m 64m", &["sh", "-c", script]).ok();
    let state = |expected: &str| {
        let now = inspect(s, "c1", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
        assert_eq!(now.trim(), expected, "{runtime}");
    };
    s.eventually(PATIENCE, "it is ready", || {
        state("running 0");
        s.docker(&["logs", "c1"]).ok() == "ready"
    });
    s.docker(&["pause", "c1"]).ok();
    state("paused 0");
    s.docker(&["exec", "c1", "true"]).fails(1, "is paused");
    s.docker(&["unpause", "c1"]).ok();
    s.docker(&["update", "-m", "80m", "--memory-swap", "-1", "c1"]).ok();
    let (_, stats) = s.api("GET", "/containers/c1/stats?stream=0&one-shot=1", "");
    assert_eq!(stats["memory_stats"]["limit"], 80 << 20, "{runtime}: {stats}");
    assert!(stats["memory_stats"]["usage"].as_u64() > Some(0), "{runtime}: {stats}");
    assert!(s.docker(&["top", "c1"]).ok().contains("sh -c"), "{runtime}");
    s.docker(&["stop", "-t", "20", "c1"]).ok();
    state("exited 3");
    s.docker(&["start", "c1"]).ok();
    s.docker(&["kill", "c1"]).ok();
    s.eventually(PATIENCE, "killed", || {
        inspect(s, "c1", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    });
    s.docker(&["rm", "-f", "c1"]).ok();
}

fn restarts_as_its_policy_says(s: &Sandbox, runtime: &str) {
    run(s, runtime, "-d --name r1 --restart on-failure:2", &["false"]).ok();
    s.eventually(PATIENCE, "restarted twice", || {
        inspect(s, "r1", "{{.RestartCount}} {{.State.Status}}") == "2 exited"
    });
    s.docker(&["rm", "r1"]).ok();
}

/// Log and exit code of a container whose engine is killed meanwhile.
fn survives_the_engine(s: &mut Sandbox, runtime: &str) {
    let script = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); usleep 20000; done; exit 5";
    run(s, runtime, "-d --name count", &["sh", "-c", script]).ok();
    let pid = inspect(s, "count", "{{.State.Pid}}");
    s.kill();
    s.boot();
    let now = inspect(s, "count", "{{.State.Pid}}");
    assert!(now == pid || now == "0", "{runtime}: {now} instead of {pid}");
    assert_eq!(s.docker(&["wait", "count"]).ok(), "5", "{runtime}");
    let expected: Vec<String> = (0..60).map(|i| i.to_string()).collect();
    let logged = s.docker(&["logs", "count"]);
    assert_eq!(logged.ok().lines().collect::<Vec<_>>(), expected, "{runtime}");
    s.docker(&["rm", "count"]).ok();
}

/// The process whose id is in that file of the keeper's directory is killed: the end is told, nothing lives on, and the
/// container starts again.
fn survives_the_death_of(s: &Sandbox, runtime: &str, file: &str) {
    run(s, runtime, "-d --name lone", &["sleep", "1000"]).ok();
    let pid: u32 = inspect(s, "lone", "{{.State.Pid}}").parse().expect("a number");
    let id = inspect(s, "lone", "{{.Id}}");
    let text = std::fs::read_to_string(s.run_dir().join("shims").join(&id).join(file)).expect("an id");
    let victim: i32 = text
        .split(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a number");
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &victim.to_string()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    s.eventually(PATIENCE, "the end is known", || {
        inspect(s, "lone", "{{.State.Running}}") == "false"
    });
    s.eventually(PATIENCE, "the process is gone", || !is_alive(pid));
    s.docker(&["start", "lone"]).ok();
    let again = s.docker(&["exec", "lone", "echo", "again"]);
    assert_eq!(again.ok(), "again", "{runtime} {file}");
    s.docker(&["rm", "-f", "lone"]).ok();
}

#[test]
fn runc_and_crun_run_exec_and_end_like_the_built_in_runtime() {
    let (runtimes, s) = engine();
    for runtime in runtimes {
        runs(&s, runtime);
        execs(&s, runtime);
        drops_and_gives_capabilities(&s, runtime);
        s.docker(&["container", "prune", "-f"]).ok();
        nothing_is_left(&s, runtime);
    }
}

#[test]
fn a_foreign_runtimes_container_is_paused_limited_measured_and_stopped() {
    let (runtimes, s) = engine();
    for runtime in runtimes {
        pauses_limits_and_stops(&s, runtime);
        restarts_as_its_policy_says(&s, runtime);
        nothing_is_left(&s, runtime);
    }
}

#[test]
fn a_foreign_runtimes_container_survives_the_engine_and_a_killed_keeper_leaves_nothing() {
    let (runtimes, mut s) = engine();
    for runtime in runtimes {
        survives_the_engine(&mut s, runtime);
        survives_the_death_of(&s, runtime, "pid");
        nothing_is_left(&s, runtime);
    }
}

/// containerd's shim of runc, and our own: each a shim with a program of its own.
fn shims() -> (Vec<&'static str>, Sandbox) {
    let missing = !is_installed("containerd-shim-runc-v2") || !is_installed("runc");
    if missing {
        println!("not tested, as not installed: containerd's shim of runc");
    }
    let s = Sandbox::configured("[runtimes.own]\nruntimeType = '{dir}/containerd-shim-wharf-v2'\n");
    let link = s.path("containerd-shim-wharf-v2");
    std::os::unix::fs::symlink(wharf_testkit::sandbox::shim_binary(), link).expect("a link");
    s.import_busybox();
    let names = if missing {
        vec!["own"]
    } else {
        vec!["io.containerd.runc.v2", "own"]
    };
    (names, s)
}

/// No process of a shim, and nothing of its containers.
fn no_shim_is_left(s: &Sandbox, runtime: &str) {
    nothing_is_left(s, runtime);
    let instance = format!("-namespace {} ", s.instance());
    s.eventually(PATIENCE, "no shim is left", || {
        !command_lines().iter().any(|line| line.contains(&instance))
    });
    let dirs: Vec<_> = std::fs::read_dir(s.run_dir().join("shims"))
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(dirs.is_empty(), "{runtime}: {dirs:?}");
}

fn command_lines() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let line = |path: PathBuf| std::fs::read(path.join("cmdline")).ok();
    let lines = entries.filter_map(|entry| line(entry.path()));
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

#[test]
fn shims_of_containerd_run_exec_pause_limit_and_stop() {
    let (runtimes, s) = shims();
    for runtime in runtimes {
        runs(&s, runtime);
        execs(&s, runtime);
        pauses_limits_and_stops(&s, runtime);
        restarts_as_its_policy_says(&s, runtime);
        no_shim_is_left(&s, runtime);
    }
}

#[test]
fn a_container_of_a_shim_survives_the_engine_and_what_is_killed_leaves_nothing() {
    let (runtimes, mut s) = shims();
    for runtime in runtimes {
        survives_the_engine(&mut s, runtime);
        // The keeper, then the shim itself.
        for file in ["pid", "foreign"] {
            survives_the_death_of(&s, runtime, file);
            no_shim_is_left(&s, runtime);
        }
    }
}

#[test]
fn runtimes_are_named_as_docker_names_them() {
    let s = Sandbox::configured(
        "default-runtime = 'other'\n[runtimes.other]\npath = '/opt/other'\nruntimeArgs = ['--x']\n",
    );
    s.import_busybox();
    let (_, info) = s.api("GET", "/info", "");
    assert_eq!(info["DefaultRuntime"], "other");
    assert_eq!(
        info["Runtimes"]["other"],
        serde_json::json!({"path": "/opt/other", "runtimeArgs": ["--x"]})
    );
    assert!(info["Runtimes"]["wharf-runtime"]["path"].is_string());
    s.docker(&["create", "--name", "unasked", "busybox"]).ok();
    assert_eq!(inspect(&s, "unasked", "{{.HostConfig.Runtime}}"), "other");
    s.docker(&["start", "unasked"]).fails(1, "/opt/other");
    s.docker(&["create", "--runtime", "nosuch", "busybox"])
        .fails(1, "unknown or invalid runtime name: nosuch");
    s.docker(&["run", "--runtime", "io.containerd.nosuch.v7", "busybox"])
        .fails(125, "containerd-shim-nosuch-v7");
    s.docker(&["run", "--rm", "--runtime", "wharf-runtime", "busybox", "true"])
        .ok();
}
