//! Our shim under containerd, as `ctr run --runtime io.containerd.wharf.v2`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wharf_testkit::{Output, Sandbox, run};

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "docker.io/library/busybox:latest";
const RUN: [&str; 3] = ["run", "--runtime", "io.containerd.wharf.v2"];

/// A containerd of its own, in mount, network and process namespaces of its own: all that it starts ends with it.
struct Containerd {
    dir: PathBuf,
    child: Child,
    /// containerd's id, seen from here.
    pid: u32,
}

impl Containerd {
    /// `None`, and a word about it, where containerd is not installed.
    fn start(s: &Sandbox) -> Option<Self> {
        let installed = |name: &str| Path::new("/usr/bin").join(name).exists();
        if !installed("containerd") || !installed("ctr") {
            println!("not tested: containerd is not installed");
            return None;
        }
        let dir = s.path("cd");
        std::fs::create_dir(&dir).expect("a directory");
        let shim = wharf_testkit::sandbox::shim_binary();
        std::os::unix::fs::symlink(shim, dir.join("containerd-shim-wharf-v2")).expect("a link");
        let at = dir.display();
        let plugins = [
            "grpc.v1.cri",
            "snapshotter.v1.btrfs",
            "snapshotter.v1.zfs",
            "snapshotter.v1.aufs",
            "snapshotter.v1.devmapper",
        ];
        let disabled: Vec<String> = plugins.iter().map(|name| format!("'io.containerd.{name}'")).collect();
        let config = format!(
            "version = 2\nroot = '{at}/root'\nstate = '{at}/state'\ndisabled_plugins = [{}]\n[grpc]\naddress = '{at}/sock'\n",
            disabled.join(", ")
        );
        std::fs::write(dir.join("config.toml"), config).expect("a configuration");
        let child = namespaces(&dir).spawn().expect("unshare runs");
        let mut containerd = Self { dir, child, pid: 0 };
        containerd.await_ready(0);
        s.docker(&["save", "-o", &containerd.path("image.tar"), "busybox:latest"])
            .ok();
        let image = containerd.path("image.tar");
        containerd.ctr(&["image", "import", &image]).ok();
        Some(containerd)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Finds containerd, another process than `before`, and waits until it answers.
    fn await_ready(&mut self, before: u32) {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = std::fs::read_to_string(self.dir.join("pid")).ok();
            let inner: Option<u32> = found.and_then(|text| text.trim().parse().ok());
            if let Some(pid) = inner.and_then(|inner| self.outer_pid(inner))
                && pid != before
            {
                self.pid = pid;
                if self.ctr(&["version"]).code == 0 {
                    return;
                }
            }
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "containerd does not answer\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A process of the namespace by its number there.
    fn outer_pid(&self, inner: u32) -> Option<u32> {
        let mut pids = vec![self.child.id()];
        let mut found = None;
        while let Some(pid) = pids.pop() {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .unwrap_or_default();
            if numbers.split_whitespace().count() > 1 && numbers.split_whitespace().last() == Some(&inner.to_string()) {
                found = Some(pid);
            }
        }
        found
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--mount",
            "--pid",
            "--net",
            "--target",
            &self.pid.to_string(),
            "--",
            program,
        ]);
        command
    }

    fn ctr(&self, args: &[&str]) -> Output {
        let mut command = self.command("ctr");
        command.args(["--address", &self.path("sock")]).args(args);
        run(&mut command, b"", PATIENCE).expect("ctr runs")
    }

    /// `ctr run` with our shim.
    fn run(&self, args: &[&str]) -> Output {
        self.ctr(&[&RUN, args].concat())
    }

    /// The same with a terminal, as script(1) makes one; what it showed.
    fn with_terminal(&self, line: &str) -> Output {
        let mut command = self.command("script");
        let line = format!("ctr --address {} {line}", self.path("sock"));
        command.args(["-qec", &line, "/dev/null"]);
        run(&mut command, b"", PATIENCE).expect("script runs")
    }

    /// The state of a container as `ctr task ls` shows it; empty when there is none.
    fn status(&self, id: &str) -> String {
        let list = self.ctr(&["task", "ls"]).ok().to_owned();
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or_default()
            .to_owned()
    }

    fn eventually(&self, what: &str, mut check: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !check() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "not in time: {what}\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to a process of the namespace, by its number there.
    fn signal(&self, name: &str, pid: &str) {
        let mut command = self.command("kill");
        run(command.args([name, pid]), b"", PATIENCE).expect("kill runs");
    }

    /// The shims that run, by their numbers in the namespace, with their working memory in KiB.
    fn shims(&self) -> Vec<(String, u64)> {
        let script = "for p in /proc/[0-9]*; do
            [ \"$(cat $p/comm 2>/dev/null)\" = containerd-shim ] || continue
            echo ${p#/proc/} $(sed -n 's/^Pss: *//p' $p/smaps_rollup); done";
        let mut command = self.command("sh");
        let out = run(command.args(["-c", script]), b"", PATIENCE).expect("sh runs");
        let parse = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        out.ok().lines().filter_map(parse).collect()
    }

    /// No shim, socket, bundle or mount.
    fn nothing_is_left(&self) {
        self.eventually("no shim is left", || self.shims().is_empty());
        let names = |dir: &str| std::fs::read_dir(dir).into_iter().flatten().flatten().count();
        let bundles = self.path("state/io.containerd.runtime.v2.task/default");
        self.eventually("no bundle is left", || names(&bundles) == 0);
        assert_eq!(names(&self.path("s")), 0, "a socket is left");
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).expect("mounts");
        assert!(!mounts.contains(&self.path("state")), "{mounts}");
    }
}

/// containerd is started again whenever it ends; below a first process that collects orphans.
fn namespaces(dir: &Path) -> Command {
    let script = "mount -t tmpfs tmpfs /run && while :; do
        PATH=\"$1:$PATH\" containerd -c \"$1/config.toml\" >>\"$1/log\" 2>&1 & echo $! >\"$1/pid\"; wait $!; done";
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    command
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // The namespaces and all in them end with their first process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn containerd_runs_execs_pauses_updates_measures_and_deletes_with_our_shim() {
    let s = Sandbox::with_busybox();
    let Some(c) = Containerd::start(&s) else { return };
    let out = c.run(&["--rm", IMAGE, "c0", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (out.code, out.stdout.as_str(), out.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    let out = c.run(&["--rm", IMAGE, "c1", "/nosuch"]);
    assert!(
        out.code != 0 && out.stderr.contains("no such file or directory"),
        "{out}"
    );

    c.run(&["-d", "--memory-limit", "67108864", IMAGE, "c2", "sleep", "1000"])
        .ok();
    assert_eq!(c.status("c2"), "RUNNING");
    let out = c.ctr(&[
        "task",
        "exec",
        "--exec-id",
        "e1",
        "c2",
        "sh",
        "-c",
        "hostname >/dev/null; echo in; exit 5",
    ]);
    assert_eq!((out.code, out.stdout.as_str()), (5, "in\n"), "{out}");
    c.ctr(&["task", "pause", "c2"]).ok();
    assert_eq!(c.status("c2"), "PAUSED");
    c.ctr(&["task", "resume", "c2"]).ok();
    assert_eq!(c.status("c2"), "RUNNING");
    let metrics = c.ctr(&["task", "metrics", "--format", "json", "c2"]).ok().to_owned();
    assert!(metrics.contains("67108864") && metrics.contains("pids"), "{metrics}");
    let pids = c.ctr(&["task", "ps", "c2"]).ok().to_owned();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    c.ctr(&["task", "kill", "--signal", "KILL", "c2"]).ok();
    c.eventually("killed", || c.status("c2") == "STOPPED");
    let deleted = c.ctr(&["task", "delete", "c2"]);
    assert!(deleted.stderr.contains("137"), "{deleted}");
    c.ctr(&["container", "delete", "c2"]).ok();
    c.nothing_is_left();
}

#[test]
fn a_terminal_under_containerd_is_copied_resized_and_attached_to() {
    let s = Sandbox::with_busybox();
    let Some(c) = Containerd::start(&s) else { return };
    let out = c.with_terminal(&format!(
        "{} --rm -t {IMAGE} t0 sh -c '[ -t 1 ] && echo tty; exit 3'",
        RUN.join(" ")
    ));
    assert!(out.code == 3 && out.stdout.contains("tty"), "{out}");
    let big = "dd if=/dev/zero bs=1k count=300 2>/dev/null | tr '\\000' x";
    let out = c.with_terminal(&format!("{} --rm -t {IMAGE} t1 sh -c \"{big}\"", RUN.join(" ")));
    assert_eq!(
        out.stdout.matches('x').count(),
        300 << 10,
        "the end of the output is lost"
    );
    c.run(&["-d", IMAGE, "t2", "sh", "-c", "sleep 1000"]).ok();
    let out = c.with_terminal("task exec -t --exec-id e1 t2 sh -c 'stty size >/dev/null && echo sized'");
    assert!(out.code == 0 && out.stdout.contains("sized"), "{out}");
    c.run(&[
        "-d",
        IMAGE,
        "t3",
        "sh",
        "-c",
        "while [ ! -e /go ]; do sleep 0.05; done; echo late; exit 4",
    ])
    .ok();
    let attached = std::thread::scope(|scope| {
        let attach = scope.spawn(|| c.ctr(&["task", "attach", "t3"]));
        std::thread::sleep(Duration::from_millis(300));
        c.ctr(&["task", "exec", "--exec-id", "go", "t3", "touch", "/go"]).ok();
        attach.join().expect("attached")
    });
    assert_eq!((attached.code, attached.stdout.as_str()), (4, "late\n"), "{attached}");
}

#[test]
fn our_shim_survives_containerd_and_containerd_survives_our_shim() {
    let s = Sandbox::with_busybox();
    let Some(mut c) = Containerd::start(&s) else { return };
    c.run(&[
        "-d",
        IMAGE,
        "c1",
        "sh",
        "-c",
        "while [ ! -e /go ]; do sleep 0.05; done; exit 6",
    ])
    .ok();
    c.run(&["-d", IMAGE, "c2", "sleep", "1000"]).ok();
    std::thread::sleep(Duration::from_secs(1));
    let shims = c.shims();
    assert_eq!(shims.len(), 2);
    let before = c.pid;
    let killed = Command::new("kill").args(["-KILL", &before.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    c.await_ready(before);
    c.eventually("both run on", || {
        c.status("c1") == "RUNNING" && c.status("c2") == "RUNNING"
    });
    c.ctr(&["task", "exec", "--exec-id", "go", "c1", "touch", "/go"]).ok();
    c.eventually("the end is known", || c.status("c1") == "STOPPED");
    let deleted = c.ctr(&["task", "delete", "c1"]);
    assert!(deleted.stderr.contains("exit code 6"), "{deleted}");
    c.ctr(&["container", "delete", "c1"]).ok();
    // The other shim is killed: containerd has the new one remove what is left.
    c.eventually("one shim is left", || c.shims().len() == 1);
    let (pid, _) = c.shims().remove(0);
    c.signal("-KILL", &pid);
    c.eventually("the loss is noticed", || {
        matches!(c.status("c2").as_str(), "" | "STOPPED" | "UNKNOWN")
    });
    let _ = c.ctr(&["task", "delete", "-f", "c2"]);
    c.ctr(&["container", "delete", "c2"]).ok();
    c.nothing_is_left();
    let left = Path::new("/sys/fs/cgroup/pids/default/c2");
    assert!(!left.exists(), "the cgroup is left");
}
