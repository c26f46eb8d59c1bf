//! Other deaths than the engine's: of shims, of the names keeper, of everything at once, of the machine; and a
//! second engine, a damaged database, a full disk.

use std::process::{Command, Stdio};
use std::time::Duration;
use wharf_testkit::process::{freeze, is_alive, kill, resume};
use wharf_testkit::{Sandbox, run};

const SOON: Duration = Duration::from_secs(5);

fn state(s: &Sandbox, name: &str) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    s.docker(&["inspect", "-f", format, name]).ok().to_owned()
}

fn pid(s: &Sandbox, name: &str) -> u32 {
    let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", name]);
    pid.ok().parse().unwrap()
}

fn id(s: &Sandbox, name: &str) -> String {
    s.docker(&["inspect", "-f", "{{.Id}}", name]).ok().to_owned()
}

fn sleeper(s: &Sandbox, more: &[&str]) {
    s.docker(&[&["run", "-d"], more, &["busybox", "sleep", "600"]].concat())
        .ok();
}

/// Process id of the shim that keeps the container.
fn shim_of(s: &Sandbox, name: &str) -> u32 {
    let file = s.run_dir().join("shims").join(id(s, name)).join("pid");
    let text = std::fs::read_to_string(file).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Shims, names keeper and containers, but not the engine.
fn kill_all_but_engine(s: &Sandbox, containers: &[&str]) {
    let mut pids: Vec<u32> = containers.iter().flat_map(|c| [shim_of(s, c), pid(s, c)]).collect();
    pids.extend(keepers(s));
    pids.into_iter().for_each(kill);
}

fn keepers(s: &Sandbox) -> Vec<u32> {
    let all = s.leftovers().processes;
    let keepers = all.iter().filter(|p| p.contains(" keeper "));
    keepers.map(|p| p.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_container_whose_shim_was_killed_is_over_and_can_be_started_again() {
    let s = Sandbox::with_busybox();
    sleeper(&s, &["--name", "one", "-p", "0:80"]);
    sleeper(&s, &["--name", "two", "--restart", "always"]);
    let (first, second) = (pid(&s, "one"), pid(&s, "two"));
    kill(shim_of(&s, "one"));
    kill(shim_of(&s, "two"));
    s.eventually(SOON, "the end is known", || state(&s, "one") == "exited 137");
    s.eventually(SOON, "its policy starts it", || {
        state(&s, "two") == "running 0" && pid(&s, "two") != second
    });
    assert!(
        !is_alive(first) && !is_alive(second),
        "no process outlives its container"
    );
    s.docker(&["start", "one"]).ok();
    assert_eq!(s.docker(&["exec", "one", "echo", "hi"]).ok(), "hi");
    s.docker(&["rm", "-f", "one", "two"]).ok();
    assert_eq!(std::fs::read_dir(s.run_dir().join("shims")).unwrap().count(), 0);
}

#[test]
fn a_shim_killed_while_no_engine_runs_is_found_by_the_next() {
    let mut s = Sandbox::with_busybox();
    sleeper(&s, &["--name", "one"]);
    let (shim, process) = (shim_of(&s, "one"), pid(&s, "one"));
    s.kill();
    kill(shim);
    assert!(s.boot() < Duration::from_secs(1));
    s.eventually(SOON, "the end is known", || state(&s, "one") == "exited 137");
    assert!(!is_alive(process), "no process outlives its container");
}

#[test]
fn a_killed_names_keeper_is_replaced_and_names_are_found_again() {
    let s = Sandbox::with_busybox();
    s.docker(&["network", "create", "n1"]).ok();
    sleeper(&s, &["--name", "one", "--network", "n1"]);
    sleeper(&s, &["--name", "two", "--network", "n1"]);
    let before = keepers(&s);
    assert!(!before.is_empty(), "names are kept: {:?}", s.leftovers());
    before.iter().copied().for_each(kill);
    let found = || s.docker(&["exec", "one", "nslookup", "two"]).code == 0;
    s.eventually(SOON, "names are found", found);
    assert!(keepers(&s).iter().all(|k| !before.contains(k)));
}

#[test]
fn after_the_death_of_everything_a_new_engine_tells_the_truth() {
    let mut s = Sandbox::with_busybox();
    s.docker(&["network", "create", "n1"]).ok();
    sleeper(&s, &["--name", "one", "--network", "n1", "-p", "0:80", "-v", "vol:/v"]);
    sleeper(&s, &["--name", "two", "--rm"]);
    let all: Vec<u32> = ["one", "two"]
        .iter()
        .flat_map(|c| [shim_of(&s, c), pid(&s, c)])
        .collect();
    let keepers = keepers(&s);
    s.kill();
    all.into_iter().chain(keepers).for_each(kill);
    assert!(s.boot() < Duration::from_secs(1));
    s.eventually(SOON, "the end is known", || state(&s, "one") == "exited 255");
    s.eventually(SOON, "--rm is kept", || s.docker(&["inspect", "two"]).code == 1);
    s.docker(&["start", "one"]).ok();
    assert_eq!(s.docker(&["exec", "one", "echo", "hi"]).ok(), "hi");
}

#[test]
fn after_a_reboot_pid_files_are_not_believed_and_policies_apply() {
    let mut s = Sandbox::with_busybox();
    sleeper(&s, &["--name", "plain"]);
    sleeper(&s, &["--name", "always", "--restart", "always"]);
    sleeper(&s, &["--name", "unless", "--restart", "unless-stopped"]);
    sleeper(&s, &["--name", "stopped", "--restart", "unless-stopped"]);
    s.docker(&["stop", "-t", "0", "stopped"]).ok();
    let running = ["plain", "always", "unless"];
    let shims: Vec<u32> = running.iter().map(|c| shim_of(&s, c)).collect();
    let all: Vec<u32> = running.iter().map(|c| pid(&s, c)).chain(shims).collect();
    s.kill();
    all.into_iter().for_each(kill);
    keepers(&s).into_iter().for_each(kill);
    // A machine that boots has an empty run directory, unless it is on a disk: then it tells of processes that exist
    // again under their old numbers. The number of this test's own process must be safe from the engine.
    std::fs::write(s.run_dir().join("boot-id"), "another boot").unwrap();
    let stale = s.run_dir().join("shims").join(id_on_disk(&s, 0));
    std::fs::create_dir_all(&stale).unwrap();
    std::fs::write(stale.join("pid"), format!("{} 1\n", std::process::id())).unwrap();
    assert!(s.boot() < Duration::from_secs(1));
    s.eventually(SOON, "the end is known", || state(&s, "plain") == "exited 255");
    for name in ["always", "unless"] {
        s.eventually(SOON, "its policy starts it", || state(&s, name) == "running 0");
    }
    assert!(state(&s, "stopped").starts_with("exited"), "{}", state(&s, "stopped"));
}

fn id_on_disk(s: &Sandbox, number: usize) -> String {
    let mut names: Vec<String> = std::fs::read_dir(s.root().join("containers"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.remove(number)
}

#[test]
fn an_engine_starts_without_its_run_directory() {
    let mut s = Sandbox::with_busybox();
    s.docker(&["network", "create", "n1"]).ok();
    sleeper(&s, &["--name", "one", "--network", "n1"]);
    let all = [shim_of(&s, "one"), pid(&s, "one")];
    s.kill();
    all.into_iter().for_each(kill);
    for mount in s.leftovers().mounts {
        let _ = Command::new("umount").args(["-l", &mount]).status();
    }
    std::fs::remove_dir_all(s.run_dir()).unwrap();
    assert!(s.boot() < Duration::from_secs(1));
    s.eventually(SOON, "the end is known", || state(&s, "one") == "exited 255");
    s.docker(&["start", "one"]).ok();
    assert_eq!(state(&s, "one"), "running 0");
}

#[test]
fn a_second_engine_on_the_root_says_so_and_leaves_the_first_alone() {
    let s = Sandbox::with_busybox();
    sleeper(&s, &["--name", "one"]);
    let mut second = Command::new(wharf_testkit::sandbox::wharf_binary());
    let path = |p: std::path::PathBuf| p.display().to_string();
    second.args(["daemon", "--root", &path(s.root()), "--run", &path(s.run_dir())]);
    second.args(["--instance", s.instance()]);
    let said = run(&mut second, b"", Duration::from_secs(10)).unwrap();
    said.fails(1, &format!("another engine (process {})", s.engine_pid()));
    assert_eq!(s.docker(&["exec", "one", "echo", "hi"]).ok(), "hi");
    assert_eq!(state(&s, "one"), "running 0");
}

#[test]
fn a_damaged_log_of_the_database_costs_at_most_what_was_last() {
    for damage in ["truncated", "overwritten"] {
        let mut s = Sandbox::with_busybox();
        sleeper(&s, &["--name", "one"]);
        let process = pid(&s, "one");
        s.kill();
        let wal = s.root().join("wharf.db-wal");
        let mut bytes = std::fs::read(&wal).unwrap();
        match damage {
            "truncated" => bytes.truncate(bytes.len() - 1000),
            _ => {
                let end = bytes.len();
                bytes[end - 3000..].fill(0xa5);
            }
        }
        std::fs::write(&wal, bytes).unwrap();
        assert!(s.boot() < Duration::from_secs(1), "{damage}");
        // What was lost is undone: either it runs as before, or it does not run at all.
        let runs = state(&s, "one") == "running 0" && pid(&s, "one") == process;
        assert!(
            runs || (!is_alive(process) && pid(&s, "one") == 0),
            "{damage}: {}",
            state(&s, "one")
        );
        s.docker(&["rm", "-f", "one"]).ok();
        s.docker(&["run", "--rm", "busybox", "true"]).ok();
    }
}

#[test]
fn a_frozen_shim_delays_nobody_else() {
    let mut s = Sandbox::with_busybox();
    sleeper(&s, &["--name", "slow"]);
    sleeper(&s, &["--name", "quick"]);
    let shim = shim_of(&s, "slow");
    s.kill();
    freeze(shim);
    assert!(s.boot() < Duration::from_secs(2));
    assert_eq!(s.docker(&["exec", "quick", "echo", "hi"]).ok(), "hi");
    assert_eq!(s.docker(&["ps", "-aq"]).ok().lines().count(), 2);
    resume(shim);
    s.eventually(SOON, "the other is back", || {
        s.docker(&["exec", "slow", "echo", "hi"]).code == 0
    });
}

#[test]
fn a_terminated_engine_leaves_whole_operations() {
    let mut s = Sandbox::with_busybox();
    let mut load = s.docker_command();
    load.args(["run", "--rm", "busybox", "sleep", "600"]);
    let mut client = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleeper(&s, &["--name", "one"]);
    let mut stop = s
        .docker_command()
        .args(["stop", "-t", "30", "one"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let begin = std::time::Instant::now();
    s.terminate();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    let _ = (client.kill(), client.wait(), stop.kill(), stop.wait());
    s.boot();
    assert_eq!(state(&s, "one"), "running 0");
    assert_eq!(s.docker(&["ps", "-q"]).ok().lines().count(), 2);
}

#[test]
fn after_any_death_a_reset_leaves_nothing() {
    for engine_lives in [true, false] {
        let mut s = Sandbox::with_busybox();
        sleeper(&s, &["--name", "one", "-p", "0:80", "-v", "vol:/v"]);
        sleeper(&s, &["--name", "two", "--restart", "always", "--ipc", "shareable"]);
        if !engine_lives {
            let all: Vec<u32> = ["one", "two"].iter().map(|c| shim_of(&s, c)).collect();
            s.kill();
            all.into_iter().for_each(kill);
        } else {
            kill_all_but_engine(&s, &["one", "two"]);
        }
        s.reset().ok();
        s.eventually(SOON, "gone", || s.leftovers().is_empty());
        assert!(!s.root().join("wharf.db").exists());
    }
}

/// A small file system over the root, taken away again whatever happens.
struct SmallRoot(std::path::PathBuf);

impl SmallRoot {
    fn mount(at: &std::path::Path) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at);
        assert!(mount.status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for SmallRoot {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_what_runs_goes_on() {
    let mut s = Sandbox::start();
    s.terminate();
    let _small = SmallRoot::mount(&s.root());
    s.boot();
    s.import_busybox();
    sleeper(&s, &["--name", "one"]);
    sleeper(&s, &["--name", "two"]);
    let filler = s.root().join("filler");
    let _ = std::fs::write(&filler, vec![1; 64 << 20]); // ends with the disk
    for refused in [
        &["create", "busybox"][..],
        &["volume", "create", "v1"],
        &["network", "create", "n1"],
        &["rename", "one", "other"],
    ] {
        let said = s.docker(refused);
        assert!(
            said.code == 1 && (said.stderr.contains("full") || said.stderr.contains("no space left")),
            "{said}"
        );
    }
    assert_eq!(s.docker(&["exec", "one", "echo", "hi"]).ok(), "hi");
    s.docker(&["stop", "-t", "0", "two"]).ok();
    s.kill();
    assert!(s.boot() < Duration::from_secs(1), "an engine starts on a full disk");
    assert_eq!(s.docker(&["exec", "one", "echo", "hi"]).ok(), "hi");
    assert_eq!(state(&s, "two"), "exited 137");
    std::fs::remove_file(&filler).unwrap();
    s.docker(&["start", "two"]).ok();
    s.docker(&["rm", "-f", "one", "two"]).ok();
    s.docker(&["run", "--rm", "busybox", "true"]).ok();
    s.terminate();
}
