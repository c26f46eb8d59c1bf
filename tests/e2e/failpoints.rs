//! The engine is killed at every step of every operation, and a shim at every step of its own.
//!
//! The steps are not listed here: an operation is carried out once by an engine that writes down every failpoint it
//! passes (`WHARF_FAILPOINT=trace:FILE`); then once more for each of them, by an engine that dies there.

use std::collections::BTreeSet;
use std::time::Duration;

use wharf_testkit::process::is_alive;
use wharf_testkit::{Registry, Sandbox};

use crate::plugin_server::{self, PluginServer};
use crate::truth::{list_is_true, nothing_more_than, traces};

const SOON: Duration = Duration::from_secs(10);

/// An operation to be interrupted. Arguments of `docker` are separated by blanks.
struct Case {
    /// What makes what it needs.
    before: &'static [&'static str],
    /// The operation.
    act: &'static str,
    /// What must work in the new engine, whatever the operation came to; `!` in front: it may fail too.
    after: &'static [&'static str],
    /// The container's state that must come about by itself; empty for any.
    settles: &'static str,
    /// Failpoints that must be among those passed.
    passes: &'static [&'static str],
    /// What takes away what it made; may fail.
    clean: &'static [&'static str],
}

// Not a name like `c1`: where that one is gone, it may be how the id of another begins.
const REMOVE: &str = "rm -f -v t1";

const BLANK: Case = Case {
    before: &[],
    act: "",
    after: &[],
    settles: "",
    passes: &[],
    clean: &[REMOVE],
};

fn docker(s: &Sandbox, line: &str) -> wharf_testkit::Output {
    s.docker(&line.split(' ').collect::<Vec<_>>())
}

fn state(s: &Sandbox, name: &str) -> String {
    s.docker(&["inspect", "-f", "{{.State.Status}}", name])
        .stdout
        .trim()
        .to_owned()
}

fn pid(s: &Sandbox, name: &str) -> u32 {
    let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", name]);
    pid.ok().parse().unwrap()
}

/// Since when an engine is armed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    /// Before what the operation needs is made: shims are armed by the engine that starts them.
    Early,
    /// For the operation alone.
    Late,
}

/// The failpoints that the operation passes.
fn passed(s: &mut Sandbox, case: &Case, armed: Armed) -> BTreeSet<String> {
    let file = s.path("passed");
    if armed == Armed::Late {
        prepare(s, case);
    }
    s.terminate();
    s.boot_armed(&format!("trace:{}", file.display()));
    let _ = std::fs::remove_file(&file); // the start itself passes some
    if armed == Armed::Early {
        prepare(s, case);
    }
    docker(s, case.act).ok();
    // What follows the answer belongs to the operation too.
    s.eventually(SOON, "the operation ends", || s.wharf(&["ops", "-q"]).ok().is_empty());
    s.terminate();
    s.boot();
    clean(s, case);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let names: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    for name in case.passes {
        assert!(names.contains(*name), "{}: {name} is not among {names:?}", case.act);
    }
    names
}

fn prepare(s: &Sandbox, case: &Case) {
    for line in case.before {
        docker(s, line).ok();
    }
}

fn clean(s: &Sandbox, case: &Case) {
    for line in case.clean {
        docker(s, line);
    }
    docker(s, "image prune -f").ok();
    // Ours: docker's own knows -a since version 23.
    s.wharf(&["volume", "prune", "-af"]).ok();
}

/// Kills the engine at every step of these operations.
fn gate(s: &mut Sandbox, cases: &[Case]) {
    gate_at(s, cases, |_| true);
}

/// As [`gate`], at those steps that are meant.
fn gate_at(s: &mut Sandbox, cases: &[Case], is_meant: impl Fn(&str) -> bool) {
    docker(s, "run -d --name bystander -p 0:80 busybox sleep 3600").ok();
    let bystander = pid(s, "bystander");
    for case in cases {
        let points = passed(s, case, Armed::Late);
        let before = traces(s);
        for point in points.iter().filter(|p| !p.starts_with("shim/") && is_meant(p)) {
            let when = format!("{} killed at {point}", case.act);
            prepare(s, case);
            s.terminate();
            s.boot_armed(&format!("kill:{point}"));
            docker(s, case.act);
            assert!(s.ends_within(SOON), "{when}: the point was not passed");
            let up = s.boot();
            assert!(up < Duration::from_secs(2), "{when}: the new engine needed {up:?}");
            list_is_true(s, &when);
            assert!(is_alive(bystander) && pid(s, "bystander") == bystander, "{when}");
            outcome(s, case, &when);
            clean(s, case);
            nothing_more_than(s, &before, &when);
        }
    }
}

/// Kills the shim at every step that the operation makes it pass.
fn shim_gate(s: &mut Sandbox, cases: &[Case]) {
    for case in cases {
        let points = passed(s, case, Armed::Early);
        let before = traces(s);
        let points: Vec<&String> = points.iter().filter(|p| p.starts_with("shim/")).collect();
        assert!(!points.is_empty(), "{} passes no step of a shim", case.act);
        for point in points {
            let when = format!("{}, its shim killed at {point}", case.act);
            s.terminate();
            s.boot_armed(&format!("kill:{point}"));
            for line in case.before {
                docker(s, line);
            }
            docker(s, case.act);
            list_is_true(s, &when);
            s.terminate();
            s.boot();
            list_is_true(s, &when);
            clean(s, case);
            nothing_more_than(s, &before, &when);
        }
    }
}

fn outcome(s: &Sandbox, case: &Case, when: &str) {
    // A restart that goes on shows the old run until it begins.
    s.eventually(SOON, &format!("{when}: what goes on is done"), || {
        let ops = s.wharf(&["ops", "--format", "{{.Name}}"]).stdout;
        !ops.lines().any(|name| name == "t1")
    });
    if !case.settles.is_empty() {
        s.eventually(SOON, &format!("{when}: {} comes about", case.settles), || {
            state(s, "t1") == case.settles
        });
    }
    for line in case.after {
        match line.strip_prefix('!') {
            Some(line) => drop(docker(s, line)),
            None => {
                let done = docker(s, line);
                assert!(done.code == 0, "{when}: {line}: {done}");
            }
        }
    }
}

#[test]
fn a_kill_at_any_step_of_create_start_and_run_leaves_whole_containers() {
    let mut s = Sandbox::with_busybox();
    docker(&s, "network create n1").ok();
    let cases = [
        Case {
            act: "create --name t1 -v /anonymous -v named:/v busybox sleep 600",
            after: &["!create --name t1 busybox sleep 600", "start t1", "exec t1 true"],
            passes: &[
                "create/journalled",
                "create/built",
                "create/recorded",
                "volume/create/written",
            ],
            ..BLANK
        },
        Case {
            before: &["create --name t1 --network n1 -p 0:80 -v named:/v busybox sleep 600"],
            act: "start t1",
            after: &["start t1", "exec t1 true"],
            passes: &[
                "start/journalled",
                "start/made",
                "start/connected",
                "start/joined",
                "start/started",
                "start/running",
            ],
            ..BLANK
        },
        Case {
            act: "run --rm --name t1 -p 0:80 -v /anonymous busybox true",
            after: &["run --rm busybox true"],
            passes: &["end/recorded", "end/dismissed", "remove/moved", "remove/forgotten"],
            ..BLANK
        },
    ];
    gate(&mut s, &cases);
}

#[test]
fn a_kill_at_any_step_of_stop_restart_and_rm_is_completed_by_the_next_engine() {
    let mut s = Sandbox::with_busybox();
    let cases = [
        Case {
            before: &["run -d --name t1 --restart unless-stopped busybox sleep 600"],
            act: "stop -t 1 t1",
            after: &["stop -t 0 t1", "start t1"],
            passes: &["stop/journalled", "stop/recorded", "stop/signalled"],
            ..BLANK
        },
        Case {
            before: &["run -d --name t1 busybox sleep 600"],
            act: "restart -t 0 t1",
            settles: "running",
            after: &["exec t1 true"],
            passes: &[
                "restart/journalled",
                "restart/signalled",
                "restart/started",
                "restart/running",
            ],
            ..BLANK
        },
        Case {
            before: &["run -d --name t1 -p 0:80 -v /anonymous busybox sleep 600"],
            act: "rm -f -v t1",
            after: &["!rm -f -v t1", "create --name t1 busybox true"],
            passes: &[
                "remove/moved",
                "remove/volumes",
                "remove/forgotten",
                "net/release/unpinned",
            ],
            ..BLANK
        },
        Case {
            before: &["run -d --name t1 --restart always busybox sleep 600"],
            act: "kill t1",
            after: &["!kill t1", "start t1"],
            passes: &["kill/signalled"],
            ..BLANK
        },
    ];
    gate(&mut s, &cases);
}

#[test]
fn a_kill_at_any_step_of_exec_commit_update_rename_and_pause_harms_nothing() {
    let mut s = Sandbox::with_busybox();
    let running = &["run -d --name t1 busybox sleep 600"];
    let cases = [
        Case {
            before: running,
            act: "exec t1 echo hi",
            after: &["exec t1 true"],
            passes: &["exec/planned", "exec/started"],
            ..BLANK
        },
        Case {
            before: running,
            act: "commit t1 made:1",
            settles: "running",
            after: &["exec t1 true", "commit t1 made:1", "run --rm made:1 true"],
            passes: &[
                "commit/paused",
                "store/layer/published",
                "store/image/recorded",
                "commit/thawed",
            ],
            clean: &[REMOVE, "rmi -f made:1"],
        },
        Case {
            before: running,
            act: "update --memory 64m --memory-swap 64m t1",
            after: &["exec t1 true", "update --memory 80m --memory-swap 80m t1"],
            passes: &["update/journalled", "update/applied"],
            ..BLANK
        },
        Case {
            before: running,
            act: "rename t1 c2",
            after: &["!rename c2 t1", "exec t1 true"],
            passes: &["rename/recorded"],
            clean: &[REMOVE, "rm -f c2"],
            ..BLANK
        },
        Case {
            before: running,
            act: "pause t1",
            after: &["!unpause t1", "exec t1 true"],
            passes: &["pause/begun"],
            ..BLANK
        },
    ];
    gate(&mut s, &cases);
}

#[test]
fn a_kill_at_any_step_of_network_and_volume_operations_leaves_them_whole_or_away() {
    let mut s = Sandbox::with_busybox();
    docker(&s, "network create kept").ok();
    let cases = [
        Case {
            act: "network create n1",
            after: &["!network create n1", "run --rm --network n1 busybox true"],
            passes: &["network-create/recorded", "net/network/bridge"],
            clean: &["network rm n1"],
            ..BLANK
        },
        Case {
            before: &["network create n1"],
            act: "network rm n1",
            after: &["!network create n1", "run --rm --network n1 busybox true"],
            passes: &["net/network/unlinked", "network-remove/unmade"],
            clean: &["network rm n1"],
            ..BLANK
        },
        Case {
            before: &["run -d --name t1 -p 0:80 busybox sleep 600"],
            act: "network connect kept t1",
            after: &[
                "!network disconnect kept t1",
                "network connect kept t1",
                "network disconnect kept t1",
            ],
            passes: &[
                "net/connect/attached",
                "network-connect/connected",
                "network-connect/recorded",
            ],
            ..BLANK
        },
        Case {
            before: &["run -d --name t1 busybox sleep 600", "network connect kept t1"],
            act: "network disconnect kept t1",
            after: &["!network disconnect kept t1", "network connect kept t1"],
            passes: &["net/disconnect/unplugged", "network-disconnect/recorded"],
            ..BLANK
        },
        Case {
            act: "volume create v1",
            after: &["volume create v1", "run --rm -v v1:/v busybox touch /v/file"],
            passes: &["volume/create/written", "volume/create/visible"],
            clean: &["volume rm v1"],
            ..BLANK
        },
        Case {
            before: &["volume create v1"],
            act: "volume rm v1",
            after: &["run --rm -v v1:/v busybox touch /v/file"],
            passes: &["volume/remove/moved"],
            clean: &["volume rm v1"],
            ..BLANK
        },
    ];
    gate(&mut s, &cases);
}

#[test]
fn a_kill_at_any_step_of_image_operations_loses_no_image_and_keeps_no_rest() {
    let mut s = Sandbox::with_busybox();
    let registry = Registry::start();
    let name = format!("{}/image:1", registry.address());
    s.docker(&["tag", "busybox", &name]).ok();
    s.docker(&["push", &name]).ok();
    s.docker(&["rmi", &name]).ok();
    let name: &'static str = Box::leak(name.into_boxed_str());
    let line = |text: &str| -> &'static str { Box::leak(text.replace("NAME", name).into_boxed_str()) };
    let list = |text: &str| -> &'static [&'static str] { Box::leak(vec![line(text)].into_boxed_slice()) };
    let cases = [
        Case {
            act: line("pull -q NAME"),
            after: Box::leak(vec![line("pull -q NAME"), line("run --rm NAME true")].into_boxed_slice()),
            passes: &["image-pull/begun", "store/image/recorded"],
            clean: list("rmi -f NAME"),
            ..BLANK
        },
        Case {
            act: "tag busybox other:1",
            after: &["tag busybox other:1", "run --rm other:1 true"],
            passes: &["image-tag/begun"],
            clean: &["rmi other:1"],
            ..BLANK
        },
        Case {
            before: &["tag busybox other:1"],
            act: "rmi other:1",
            after: &["!rmi other:1", "run --rm busybox true"],
            passes: &["image-remove/begun"],
            ..BLANK
        },
    ];
    gate(&mut s, &cases);
}

/// A file below the sandbox, as an argument that lives as long as the test.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn lines<const N: usize>(lines: [String; N]) -> &'static [&'static str] {
    Box::leak(lines.map(leaked).to_vec().into_boxed_slice())
}

#[test]
fn a_kill_at_any_step_of_build_load_and_import_loses_nothing_and_keeps_no_rest() {
    let mut s = Sandbox::with_busybox();
    let context = s.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nRUN echo ran > /ran\nCOPY file /copied\n",
    )
    .unwrap();
    std::fs::write(context.join("file"), "copied").unwrap();
    let (saved, exported) = (s.path("saved.tar"), s.path("exported.tar"));
    docker(&s, "run --name t1 busybox touch /other").ok();
    docker(&s, "commit t1 other:1").ok();
    docker(&s, &format!("save -o {} other:1", saved.display())).ok();
    docker(&s, &format!("export -o {} t1", exported.display())).ok();
    docker(&s, "rm t1").ok();
    docker(&s, "rmi other:1").ok();
    let build = format!("build -q -t built:1 {}", context.display());
    let (load, import) = (
        format!("load -q -i {}", saved.display()),
        format!("import {} imported:1", exported.display()),
    );
    let cases = [
        Case {
            act: leaked(build.clone()),
            after: lines([build, "run --rm built:1 cat /ran /copied".to_owned()]),
            passes: &[
                "build/context",
                "build/run/made",
                "build/run/connected",
                "build/run/started",
                "build/run/ended",
                "build/run/committed",
                "build/cache/pinned",
                "build/cache/written",
                "build/cache/kept",
                "store/layer/published",
                "store/image/recorded",
            ],
            clean: &["rmi -f built:1", "builder prune -af"],
            ..BLANK
        },
        Case {
            act: leaked(load.clone()),
            after: lines([load, "run --rm other:1 ls /other".to_owned()]),
            passes: &[
                "store/load/aside",
                "store/load/taken",
                "store/take/unpacked",
                "store/take/blob",
                "store/take/tree",
                "store/image/recorded",
            ],
            clean: &["rmi -f other:1"],
            ..BLANK
        },
        Case {
            act: leaked(import.clone()),
            after: lines([import, "run --rm imported:1 ls /other".to_owned()]),
            passes: &[
                "store/layer/compressed",
                "store/layer/published",
                "store/image/recorded",
            ],
            clean: &["rmi -f imported:1"],
            ..BLANK
        },
    ];
    gate(&mut s, &cases);
}

#[test]
fn a_kill_at_any_step_of_a_prune_takes_nothing_that_is_used_and_the_next_one_takes_the_rest() {
    let mut s = Sandbox::with_busybox();
    let exported = s.path("exported.tar");
    docker(&s, "run --name t1 busybox touch /other").ok();
    docker(&s, &format!("export -o {} t1", exported.display())).ok();
    docker(&s, "rm t1").ok();
    let context = s.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nRUN echo ran > /ran\n").unwrap();
    let unnamed = || format!("import {}", exported.display());
    let cases = [
        Case {
            before: lines([unnamed()]),
            act: "image prune -f",
            after: &["image prune -f", "run --rm busybox true"],
            passes: &[
                "store/image/removed",
                "store/gc/marked",
                "store/gc/blobs",
                "store/gc/layers",
                "store/gc/moved",
            ],
            ..BLANK
        },
        Case {
            before: lines([
                unnamed(),
                "create --name t1 -v /anonymous busybox true".to_owned(),
                "network create n1".to_owned(),
            ]),
            act: "system prune -f --volumes",
            after: &["system prune -f --volumes", "run --rm busybox true"],
            passes: &[
                "remove/moved",
                "remove/forgotten",
                "network-remove/unmade",
                "store/image/removed",
            ],
            ..BLANK
        },
        Case {
            before: lines([format!("build -q -t built:1 {}", context.display())]),
            act: "builder prune -af",
            after: &["builder prune -af", "run --rm built:1 cat /ran"],
            passes: &["build/cache/forgotten", "store/gc/marked"],
            clean: &["rmi -f built:1"],
            ..BLANK
        },
    ];
    gate(&mut s, &cases);
}

#[test]
fn a_shim_killed_at_any_of_its_steps_leaves_no_process_and_the_truth() {
    let mut s = Sandbox::with_busybox();
    let cases = [
        Case {
            before: &["create --name t1 -p 0:80 -v named:/v busybox sh -c exit"],
            act: "start -a t1",
            passes: &[
                "shim/ordered",
                "shim/recorded",
                "shim/made",
                "shim/started",
                "shim/end/recorded",
            ],
            ..BLANK
        },
        Case {
            before: &["run -d --name t1 busybox sleep 600"],
            act: "exec t1 true",
            passes: &["shim/exec/started", "shim/exec/ended"],
            ..BLANK
        },
    ];
    shim_gate(&mut s, &cases);
}

#[test]
fn a_kill_at_any_step_that_concerns_a_plugin_leaves_nothing_mounted_and_no_volume_unknown() {
    let mut s = Sandbox::configured(&plugin_server::configuration());
    s.import_busybox();
    let shelf = PluginServer::start(&s.path("plugins"), "shelf");
    let cases = [
        Case {
            act: "run -d --name t1 --volume-driver shelf -v v1:/x -v /anon busybox sleep 600",
            after: &["run --rm --volume-driver shelf -v v1:/x busybox touch /x/f"],
            passes: &["create/made", "start/mounted", "volume-unmount/unmounted"],
            clean: &[REMOVE, "volume rm v1"],
            ..BLANK
        },
        Case {
            before: &["run -d --name t1 --volume-driver shelf -v v1:/x:nocopy -v /anon busybox sleep 600"],
            act: "rm -f -v t1",
            after: &["run --rm --volume-driver shelf -v v1:/x busybox touch /x/f"],
            passes: &["remove/unmounted", "volume-unmount/unmounted", "remove/volumes"],
            clean: &[REMOVE, "volume rm v1"],
            ..BLANK
        },
    ];
    let concerns = |point: &str| {
        let of_volumes = ["made", "volume", "mounted", "unmounted", "volumes"];
        point.starts_with("volume")
            || point
                .split_once('/')
                .is_some_and(|(_, step)| of_volumes.contains(&step))
    };
    gate_at(&mut s, &cases, concerns);
    s.eventually(SOON, "all mounts are given back", || shelf.mounted().is_empty());
    s.eventually(SOON, "no volume is left", || shelf.volumes().is_empty());
}
