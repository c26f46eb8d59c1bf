//! A shim dies by kill -9, at every state of its container, with and without an engine: the engine tells the truth,
//! nothing of the container lives on, and what policy and `--rm` promise is kept.

use std::time::Duration;
use wharf_testkit::Sandbox;
use wharf_testkit::process::{freeze, is_alive, kill};

const SOON: Duration = Duration::from_secs(20);

fn state(s: &Sandbox, name: &str) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    s.docker(&["inspect", "-f", format, name]).stdout.trim().to_owned()
}

fn pid(s: &Sandbox, name: &str) -> u32 {
    let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", name]);
    pid.ok().parse().unwrap()
}

fn shim_of(s: &Sandbox, name: &str) -> u32 {
    let id = s.docker(&["inspect", "-f", "{{.Id}}", name]).ok().to_owned();
    let text = std::fs::read_to_string(s.run_dir().join("shims").join(id).join("pid")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn sleeper(s: &Sandbox, name: &str, more: &[&str]) {
    s.docker(&[&["run", "-d", "--name", name], more, &["busybox", "sleep", "600"]].concat())
        .ok();
}

/// Kills the shims of the containers; while no engine runs, when that is wanted.
fn kill_shims(s: &mut Sandbox, names: &[&str], engine_lives: bool) -> Vec<u32> {
    let processes = names.iter().map(|n| pid(s, n)).collect();
    let shims: Vec<u32> = names.iter().map(|n| shim_of(s, n)).collect();
    if !engine_lives {
        s.kill();
    }
    shims.into_iter().for_each(kill);
    if !engine_lives {
        s.boot();
    }
    processes
}

#[test]
fn whatever_the_state_of_its_container_a_killed_shim_is_told_and_policies_are_kept() {
    for engine_lives in [true, false] {
        let mut s = Sandbox::with_busybox();
        sleeper(&s, "plain", &[]);
        sleeper(&s, "paused", &[]);
        sleeper(&s, "removed", &["--rm"]);
        sleeper(&s, "always", &["--restart", "always"]);
        sleeper(&s, "failing", &["--restart", "on-failure:3"]);
        sleeper(&s, "unless", &["--restart", "unless-stopped"]);
        s.docker(&["pause", "paused"]).ok();
        s.docker(&["exec", "-d", "plain", "sleep", "700"]).ok();
        let all = ["plain", "paused", "removed", "always", "failing", "unless"];
        let before = kill_shims(&mut s, &all, engine_lives);
        for name in ["plain", "paused"] {
            s.eventually(SOON, "the end is known", || state(&s, name) == "exited 137");
        }
        s.eventually(SOON, "--rm is kept", || state(&s, "removed").is_empty());
        for name in ["always", "failing", "unless"] {
            // The old process shows as running until then.
            s.eventually(SOON, "its end is known", || !before.contains(&pid(&s, name)));
            s.eventually(SOON, "its policy starts it", || state(&s, name) == "running 0");
            assert!(!before.contains(&pid(&s, name)), "{name} is a new process");
        }
        // An exec whose shim is gone is reaped by the host's init; until it does, the container's init is not quite gone.
        for (name, process) in all.iter().zip(&before) {
            s.eventually(SOON, name, || !is_alive(*process));
        }
        let left = s.leftovers();
        let exec = left.processes.iter().any(|p| p.contains("sleep 700"));
        assert!(!exec, "no exec outlives its container: {left:?}");
        for name in ["plain", "paused"] {
            s.docker(&["start", name]).ok();
            assert_eq!(s.docker(&["exec", name, "echo", "hi"]).ok(), "hi");
        }
        let told = s.wharf(&["why", "plain"]);
        assert!(
            told.ok().contains("the process that keeps it (wharf-shim) was gone"),
            "{told}"
        );
        s.docker(&["rm", "-f", "plain", "paused", "always", "failing", "unless"])
            .ok();
        assert_eq!(std::fs::read_dir(s.run_dir().join("shims")).unwrap().count(), 0);
    }
}

#[test]
fn clients_of_a_killed_shim_hear_the_end() {
    let s = Sandbox::with_busybox();
    sleeper(&s, "one", &[]);
    let spawn = |args: &[&str]| {
        let mut command = s.docker_command();
        command.args(args).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut clients = [
        spawn(&["wait", "one"]),
        spawn(&["exec", "one", "sleep", "700"]),
        spawn(&["attach", "--no-stdin", "one"]),
        spawn(&["stats", "one"]),
        spawn(&["logs", "-f", "one"]),
    ];
    let id = s.docker(&["inspect", "-f", "{{.Id}}", "one"]).ok().to_owned();
    let has_exec = || {
        let inspect = s.api("GET", &format!("/containers/{id}/json"), "").1;
        inspect["ExecIDs"].as_array().is_some_and(|list| !list.is_empty())
    };
    s.eventually(SOON, "the exec runs", has_exec);
    kill(shim_of(&s, "one"));
    s.eventually(SOON, "the end is known", || state(&s, "one") == "exited 137");
    for (client, what) in clients.iter_mut().zip(["wait", "exec", "attach", "stats", "logs"]) {
        if what == "stats" {
            let _ = (client.kill(), client.wait()); // COMPAT: it goes on, with zeros
            continue;
        }
        s.eventually(SOON, what, || client.try_wait().unwrap().is_some());
    }
}

#[test]
fn a_container_whose_shim_does_not_answer_is_killed_without_it() {
    let s = Sandbox::with_busybox();
    let check = |name: &str, pause: bool| {
        sleeper(&s, name, &["--restart", "always"]);
        let (first, shim) = (pid(&s, name), shim_of(&s, name));
        if pause {
            s.docker(&["pause", name]).ok();
        }
        freeze(shim);
        s.docker(&["stop", "-t", "0", name]).ok();
        assert_eq!(state(&s, name), "exited 137");
        assert!(!is_alive(first) && !is_alive(shim), "nothing of it lives on");
        let why = s.wharf(&["why", name]);
        assert!(
            why.ok().contains("did not answer") && why.ok().contains("is stopped"),
            "{why}"
        );
        s.docker(&["start", name]).ok();
        assert_eq!(s.docker(&["exec", name, "echo", "hi"]).ok(), "hi");
        s.docker(&["rm", "-f", name]).ok();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| check("mute", false));
        scope.spawn(|| check("mute-and-paused", true));
    });
}

#[test]
fn a_shim_that_answers_no_engine_ends_with_its_container() {
    let mut s = Sandbox::with_busybox();
    sleeper(&s, "mute", &["--restart", "always"]);
    let (first, shim) = (pid(&s, "mute"), shim_of(&s, "mute"));
    s.kill();
    freeze(shim);
    s.boot();
    assert_eq!(s.docker(&["ps", "-q"]).ok().lines().count(), 1, "it may answer yet");
    s.eventually(Duration::from_secs(90), "it is started again without it", || {
        !is_alive(first)
            && !is_alive(shim)
            && ![0, first].contains(&pid(&s, "mute"))
            && state(&s, "mute") == "running 0"
    });
    assert_eq!(s.docker(&["exec", "mute", "echo", "hi"]).ok(), "hi");
    s.docker(&["rm", "-f", "mute"]).ok();
}
