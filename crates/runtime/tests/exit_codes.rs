//! Exit codes: every row of the table in docs/compat/oci-runtime.md is tried. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

/// Taken along, as the test may run where the project is not.
const PAGE: &str = include_str!("../../../docs/compat/oci-runtime.md");

/// Commands, case and our exit code, of each row.
fn table() -> Vec<(Vec<String>, String, i32)> {
    let (_, section) = PAGE.split_once("### Exit codes\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let commands = cells[0].split('`').step_by(2).filter(|command| !command.is_empty());
        let code = cells[2].split(" ").next().and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("no code: {row}"));
        (commands.map(str::to_owned).collect(), cells[1].to_owned(), code)
    })
    .collect()
}

/// One container in each state.
struct Containers {
    created: Bundle,
    running: Bundle,
    paused: Bundle,
    stopped: Bundle,
}

impl Containers {
    fn new() -> Self {
        let started = |script: &str| {
            let mut bundle = Bundle::new(script);
            bundle.set("/process/args", json!(["sh", "-c", script]));
            bundle.start().ok();
            bundle
        };
        let containers = Self {
            created: Bundle::new("true"),
            running: started("sleep 1000"),
            paused: started("sleep 1000"),
            stopped: started("true"),
        };
        containers.created.write();
        let bundle = containers.created.path().to_string_lossy().into_owned();
        // A pipe that init holds would keep us waiting.
        let create = containers
            .created
            .command(&["create", "--bundle", &bundle, &containers.created.id])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(create.expect("run the runtime").success());
        containers.paused.cli(&["pause", &containers.paused.id]).ok();
        for _ in 0..2000 {
            let state = containers.stopped.cli(&["state", &containers.stopped.id]).ok();
            if state.contains("\"stopped\"") {
                return containers;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the program did not end");
    }

    fn in_state(&self, case: &str) -> Option<&Bundle> {
        match case.strip_prefix("a ")?.strip_suffix(" container")? {
            "created" => Some(&self.created),
            "running" => Some(&self.running),
            "paused" => Some(&self.paused),
            "stopped" => Some(&self.stopped),
            _ => None,
        }
    }
}

/// The code of a command that is given this id, and what else it needs.
fn with_id(bundle: &Bundle, command: &str, id: &str) -> i32 {
    let mut arguments: Vec<&str> = command.split(' ').collect();
    arguments.push(id);
    arguments.extend(match arguments[0] {
        "exec" => &["true"][..],
        "kill" => &["KILL"],
        _ => &[],
    });
    bundle.cli(&arguments).code
}

/// The code of `exec` with these options and program in a running container.
fn exec(running: &Bundle, options: &[&str], program: &[&str]) -> i32 {
    let arguments = [&["exec"], options, &[running.id.as_str()], program].concat();
    running.cli(&arguments).code
}

fn file(bundle: &Bundle, name: &str, mode: u32) {
    let path = bundle.rootfs().join(name);
    std::fs::write(&path, "\u{1}\u{2}").expect("write");
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
}

fn exec_case(running: &Bundle, case: &str) -> Option<i32> {
    Some(match case {
        "a program that ends with 7" => exec(running, &[], &["sh", "-c", "exit 7"]),
        "a program that signal 9 ends" => exec(running, &[], &["sh", "-c", "kill -9 $$"]),
        "a program that is missing" => exec(running, &[], &["/missing"]),
        "a program that may not be executed" => {
            file(running, "plain", 0o644);
            exec(running, &[], &["/plain"])
        }
        "no program" => exec(running, &[], &[]),
        "a user that is no number" => exec(running, &["--user", "nobody"], &["true"]),
        "a directory that is missing" => exec(running, &["--cwd", "/proc/missing"], &["true"]),
        "a terminal without console socket" => exec(running, &["--detach", "--tty"], &["true"]),
        "a cgroup that is missing" => exec(running, &["--cgroup", "missing"], &["true"]),
        "a capability that there is not" => exec(running, &["--cap", "CAP_FLY"], &["true"]),
        _ => return None,
    })
}

/// `create` or `run` of a bundle that is changed as the case says.
fn bundle_case(command: &str, case: &str) -> Option<i32> {
    let mut bundle = Bundle::new("true");
    let args = |args: Value| ("/process/args", args);
    let hook = |kind: &str| json!({ kind: [{ "path": "/bin/false" }] });
    let change = match case {
        "no such bundle" | "no configuration" | "a configuration that is no JSON" | "an illegal id" => ("/x", json!(0)),
        "no root file system" => ("/root/path", json!("missing")),
        "a bind whose source is missing" => {
            bundle.add_mount(json!({ "destination": "/x", "source": "/missing/x", "options": ["bind"] }));
            ("/x", json!(0))
        }
        "a namespace that there is not" => ("/linux/namespaces", json!([{ "type": "space" }])),
        "a program that is missing" => args(json!(["/missing"])),
        "a program that may not be executed" => args(json!(["/etc/passwd"])),
        "a program of no known format" => args(json!(["/garbage"])),
        "a program that ends with 7" => args(json!(["sh", "-c", "exit 7"])),
        "a terminal without console socket" => ("/process/terminal", json!(true)),
        "a createRuntime hook that fails" => ("/hooks", hook("createRuntime")),
        "a startContainer hook that fails" => {
            ("/hooks", json!({ "startContainer": [{ "path": "/bin/no-such-hook" }] }))
        }
        "a poststart hook that fails" => ("/hooks", hook("poststart")),
        _ => return None,
    };
    bundle.set(change.0, change.1);
    bundle.write();
    file(&bundle, "garbage", 0o755);
    let mut path = bundle.path().to_string_lossy().into_owned();
    let config = bundle.path().join("config.json");
    match case {
        "no such bundle" => path.push_str("/missing"),
        "no configuration" => std::fs::remove_file(config).expect("remove"),
        "a configuration that is no JSON" => std::fs::write(config, "{").expect("write"),
        _ => {}
    }
    let id = if case == "an illegal id" { "a/b" } else { &bundle.id };
    let mut arguments: Vec<&str> = command.split(' ').collect();
    arguments.extend(["--bundle", &path, id]);
    Some(bundle.cli(&arguments).code)
}

/// The exit code of a row; none for a case that is not known here.
fn attempt(containers: &Containers, command: &str, case: &str) -> Option<i32> {
    let running = &containers.running;
    let words: Vec<&str> = command.split(' ').collect();
    if let Some(bundle) = containers.in_state(case) {
        return Some(with_id(bundle, command, &bundle.id));
    }
    Some(match case {
        "no id" => running.cli(&words).code,
        "an id that is not known" => with_id(running, command, "nobody"),
        "an id in use" => {
            let path = running.path().to_string_lossy().into_owned();
            running.cli(&[command, "--bundle", &path, &running.id]).code
        }
        "a flag that is not known" => running.cli(&[command, "--nonsense", &running.id]).code,
        "a signal that there is not" => running.cli(&["kill", &running.id, "FOO"]).code,
        "a limit that is no number" => running.cli(&["update", "--memory", "lots", &running.id]).code,
        "a limit that the kernel refuses" => running.cli(&["update", "--cpuset-cpus", "4000", &running.id]).code,
        "a format that is not known" => running.cli(&[command, "--format", "xml", &running.id]).code,
        "a configuration that is there" => {
            let path = running.path().to_string_lossy().into_owned();
            running.cli(&["spec", "--bundle", &path]).code
        }
        "no command" | "a command that there is not" | "a global flag that is not known" => {
            running.cli(&words[1..]).code
        }
        _ if command == "exec" => exec_case(running, case)?,
        _ => bundle_case(command, case)?,
    })
}

#[test]
fn every_row_of_the_table_is_so() {
    let containers = Containers::new();
    let rows = table();
    assert!(rows.len() > 40, "the table was read: {rows:?}");
    let mut wrong = Vec::new();
    for (commands, case, expected) in rows {
        for command in commands {
            let code = attempt(&containers, &command, &case);
            let code = code.unwrap_or_else(|| panic!("{command}: unknown case {case:?}"));
            if code != expected {
                wrong.push(format!("{command}: {case}: {code}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
