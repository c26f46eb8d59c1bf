//! The engine is killed while it takes over from one that was killed; the engine after it completes both.
//!
//! As in `failpoints`, the steps are not listed here: an engine that takes over once writes down what it passes. The
//! steps of operations that it goes on with are struck where `WHARF_RECOVERY=all` is set, as in `make soak`; they are
//! the same as those of `failpoints`.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Duration;

use wharf_testkit::Sandbox;
use wharf_testkit::process::is_alive;

use crate::truth::{list_is_true, nothing_more_than, traces};

const SOON: Duration = Duration::from_secs(20);

/// What the first engine is killed at, in the middle of much else.
struct Death {
    /// What it needs.
    before: &'static [&'static str],
    /// What it does; it makes or changes container `t1`. (Not `c1`: that may be how the id of another begins.)
    act: &'static str,
    /// Where it dies.
    point: &'static str,
    /// What may have become of `t1`; empty if it may be gone.
    becomes: &'static [&'static str],
    /// Steps of taking over that must be among those passed.
    passes: &'static [&'static str],
}

const DEATHS: [Death; 5] = [
    Death {
        before: &["create --name t1 -p 0:80 -v named:/v busybox sleep 600"],
        act: "start t1",
        point: "start/joined",
        becomes: &["created"],
        passes: &[
            "recover/opened",
            "recover/builds",
            "recover/predefined",
            "recover/net/bridges",
            "recover/net/containers",
            "recover/net/strays",
            "recover/net/namespaces",
            "recover/net/ruleset",
            "recover/networks",
            "recover/begun",
            "recover/adopted",
            "recover/cleared",
            "recover/killed",
            "recover/undone",
            "recover/began",
            "recover/settled",
            "recover/known",
            "recover/strangers",
            "recover/done",
        ],
    },
    Death {
        before: &[AGAIN],
        act: "create --name t1 -v /anonymous busybox sleep 600",
        point: "create/built",
        becomes: &[],
        passes: &[
            "recover/create-volumes",
            "recover/create-directory",
            "recover/stray-row",
        ],
    },
    Death {
        before: &[AGAIN, "run -d --name t1 -p 0:80 -v /anonymous busybox sleep 600"],
        act: "rm -f -v t1",
        point: "remove/disconnected",
        becomes: &[],
        passes: &["recover/remove", "remove/moved", "remove/forgotten"],
    },
    Death {
        before: &[AGAIN, "run -d --name t1 busybox sleep 600"],
        act: "commit t1 made:1",
        point: "commit/paused",
        becomes: &["running"],
        passes: &["recover/adopted"],
    },
    Death {
        before: &[AGAIN, "run -d --name t1 busybox sleep 600"],
        act: "update --memory 64m --memory-swap 64m t1",
        point: "update/journalled",
        becomes: &["running"],
        passes: &["recover/settled"],
    },
];

/// Starts time and again, so it is no company for a death in a start.
const AGAIN: &str = "run -d --name again --restart always busybox sleep 0.2";

/// What is under way beside it: a stop and a restart of processes that do not listen, containers that end meanwhile.
const BESIDE: [&str; 4] = [
    "run -d --name stops busybox sleep 600",
    "run -d --name restarts busybox sleep 600",
    "run -d --name ended -v end:/end busybox sh -c 'while [ ! -e /end/now ]; do usleep 10000; done; exit 7'",
    "run -d --name gone --rm -v end:/end -v /anonymous busybox sh -c 'while [ ! -e /end/now ]; do usleep 10000; done'",
];

const CLEAN: [&str; 3] = [
    "rm -f -v t1 stops restarts ended gone again",
    "rmi -f made:1",
    "image prune -f",
];

fn docker(s: &Sandbox, line: &str) -> wharf_testkit::Output {
    let words = line.split('\'').enumerate().flat_map(|(n, part)| match n % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    s.docker(&words.collect::<Vec<_>>())
}

/// A client that is left alone: its engine dies under it.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn behind(s: &Sandbox, line: &str) -> Client {
    let mut command = s.docker_command();
    command.args(line.split(' ')).stdin(Stdio::null());
    Client(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Makes everything and has the engine die in the middle of it.
fn die(s: &mut Sandbox, death: &Death) {
    for line in death.before.iter().chain(&BESIDE) {
        docker(s, line).ok();
    }
    s.terminate();
    s.boot_armed(&format!("kill:{}", death.point));
    let _clients = [behind(s, "stop -t 2 stops"), behind(s, "restart -t 2 restarts")];
    s.eventually(SOON, "stop and restart are under way", || {
        let ops = s.wharf(&["ops"]).stdout;
        ops.matches("signalled").count() == 2 || state(s, "stops").starts_with("exited")
    });
    let ends = ["ended", "gone"].map(|name| pid(s, name));
    docker(s, death.act);
    assert!(s.ends_within(SOON), "{}: {} was not passed", death.act, death.point);
    std::fs::write(s.root().join("volumes/end/data/now"), "").unwrap();
    s.eventually(SOON, "containers end without an engine", || {
        !ends.iter().any(|pid| is_alive(*pid))
    });
}

fn pid(s: &Sandbox, name: &str) -> u32 {
    let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", name]);
    pid.ok().parse().unwrap()
}

/// The steps of an engine that takes over.
fn passed(s: &mut Sandbox, death: &Death) -> BTreeSet<String> {
    let file = s.path("passed");
    let _ = std::fs::remove_file(&file);
    die(s, death);
    s.boot_armed(&format!("trace:{}", file.display()));
    settled(s, death, death.act);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    s.terminate();
    s.boot();
    clean(s);
    let names: BTreeSet<String> = text
        .lines()
        .filter(|p| !p.starts_with("shim/"))
        .map(str::to_owned)
        .collect();
    for name in death.passes {
        assert!(names.contains(*name), "{}: {name} is not among {names:?}", death.act);
    }
    names
}

fn clean(s: &Sandbox) {
    for line in CLEAN {
        docker(s, line);
    }
    s.wharf(&["volume", "prune", "-af"]).ok();
}

fn state(s: &Sandbox, name: &str) -> String {
    let found = s.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]);
    found.stdout.trim().to_owned()
}

/// Whatever was under way is done, or undone, without being asked for again.
fn settled(s: &Sandbox, death: &Death, when: &str) {
    let becomes = |name: &str, wanted: &[&str]| {
        let what = format!("{when}: {name} becomes {wanted:?}");
        s.eventually(SOON, &what, || {
            let now = state(s, name);
            (now.is_empty() && wanted.is_empty()) || wanted.iter().any(|w| now.starts_with(w))
        });
    };
    // What goes on is listed; but the restarts of `again` come and go.
    s.eventually(SOON, &format!("{when}: nothing is under way"), || {
        let ops = s.wharf(&["ops", "--format", "{{.Kind}} {{.Name}}"]).stdout;
        ops.lines().all(|line| line == "start again")
    });
    becomes("t1", death.becomes);
    becomes("stops", &["exited 137"]);
    becomes("restarts", &["running"]);
    becomes("ended", &["exited 7"]);
    becomes("gone", &[]);
    if death.before.contains(&AGAIN) {
        becomes("again", &["running", "restarting"]);
    }
    s.docker(&["exec", "restarts", "true"]).ok();
    if death.act.starts_with("update") {
        let limit = s.docker(&["inspect", "-f", "{{.HostConfig.Memory}}", "t1"]);
        assert_eq!(limit.ok(), "67108864", "{when}: an update that had begun is completed");
    }
}

#[test]
fn an_engine_killed_while_it_takes_over_leaves_nothing_to_the_next_but_to_go_on() {
    let mut s = Sandbox::with_busybox();
    docker(&s, "run -d --name bystander -p 0:80 -v kept:/v busybox sleep 3600").ok();
    let pid = pid(&s, "bystander");
    let all = std::env::var_os("WHARF_RECOVERY").is_some_and(|wanted| wanted == "all");
    let mut tried = BTreeSet::new();
    let mut struck = BTreeSet::new();
    for death in &DEATHS {
        let points = passed(&mut s, death);
        let before = traces(&s);
        for point in points {
            if !all && !point.starts_with("recover/") && !death.passes.contains(&point.as_str()) {
                continue;
            }
            if !tried.insert(point.clone()) {
                continue; // with another death
            }
            let when = format!("{} killed at {}, the next engine at {point}", death.act, death.point);
            die(&mut s, death);
            if s.boot_to_die(&format!("kill:{point}"), Duration::from_secs(6)) {
                struck.insert(point);
            } else {
                s.kill(); // what follows from timing is not passed each time
            }
            let up = s.boot();
            assert!(up < Duration::from_secs(2), "{when}: the new engine needed {up:?}");
            list_is_true(&s, &when);
            assert!(is_alive(pid), "{when}");
            settled(&s, death, &when);
            clean(&s);
            nothing_more_than(&s, &before, &when);
        }
        let missed: Vec<_> = death.passes.iter().filter(|p| !struck.contains(**p)).collect();
        assert!(missed.is_empty(), "{}: no engine died at {missed:?}", death.act);
    }
    println!("{} of {} steps of taking over struck", struck.len(), tried.len());
}
