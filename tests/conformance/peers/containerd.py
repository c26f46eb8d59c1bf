"""containerd with its own shim for runc (io.containerd.runc.v2) told to call the runtime under test."""
import os
import subprocess

import image
from process import cgroups, descriptors, plain, remove_cgroups, run, run_on_terminal, unmount_all, until

NEEDS = ("containerd", "ctr", "containerd-shim-runc-v2", "runc")
ROUND = "run, exec, pause, resume, update, kill, delete"


class Containerd:
    """A daemon with root, state and socket of its own."""

    name = "containerd"

    def __init__(self, scratch, runtime):
        self.scratch, self.path = scratch, runtime
        self.namespace = f"peers{os.getpid()}"
        self.binary = runtime
        self.count = 0

    def __enter__(self):
        s = self.scratch
        with open(f"{s}/config.toml", "w", encoding="utf-8") as file:
            file.write(f'''version = 2
root = "{s}/root"
state = "{s}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{s}/sock"
[ttrpc]
  address = "{s}/sock.ttrpc"
''')
        self.log = open(f"{s}/containerd.log", "ab")
        self.daemon = subprocess.Popen(["containerd", "--config", f"{s}/config.toml"], stdout=self.log, stderr=self.log)
        until(lambda: run(["ctr", "-a", f"{s}/sock", "version"]).code == 0 or self.daemon.poll() is not None, "containerd")
        image.write_archive(f"{s}/image.tar")
        self("images", "import", f"{s}/image.tar").must()
        return self

    def __exit__(self, *_):
        for line in self("containers", "list", "-q").out.split():
            self.remove(line)
        self.daemon.terminate()
        self.daemon.wait(60)
        self.log.close()
        unmount_all(self.scratch)
        remove_cgroups(self.namespace)

    def __call__(self, *arguments, **more):
        return run(self.argv(*arguments), **more)

    def argv(self, *arguments):
        return ["ctr", "-a", f"{self.scratch}/sock", "-n", self.namespace, *arguments]

    def fresh(self):
        self.count += 1
        return f"c{self.count}"

    def run_argv(self, identity, command, *options):
        return self.argv("run", "--runc-binary", self.binary, "--runc-root", f"{self.scratch}/runc", "--runtime", "io.containerd.runc.v2", *options,
                         image.NAME, identity, *command)

    def run(self, *command, options=(), identity=None):
        return run(self.run_argv(identity or self.fresh(), command, "--rm", *options))

    def started(self, *options, script="trap 'exit 3' TERM; while :; do sleep 0.1; done"):
        identity = self.fresh()
        run(self.run_argv(identity, ("sh", "-c", script), "-d", *options)).must()
        return identity

    def remove(self, identity):
        self("tasks", "delete", "-f", identity)
        self("containers", "delete", identity).must()

    def status(self, identity):
        for line in self("tasks", "list").must().splitlines():
            if line.split()[0] == identity:
                return line.split()[2]
        return None

    def holdings(self):
        shims = run(["pgrep", "-f", f"containerd-shim.*{self.scratch}"]).out.split()
        states = [name for root in ("state/io.containerd.runtime.v2.task",) for name in _names(f"{self.scratch}/{root}/{self.namespace}")]
        return {"shims": len(shims), "states": states + _names(f"{self.scratch}/runc/{self.namespace}"),
                "descriptors": descriptors(self.daemon.pid) // 16,
                "cgroups": [path for path in cgroups(f"/{self.namespace}") if os.path.basename(path) != self.namespace]}

    def hears(self, identity, text):
        # ctr may end before it has read what the process wrote (containerd pull request 13931).
        for attempt in range(3):
            said = self("tasks", "exec", "--exec-id", f"e{attempt}", identity, "echo", text).must()
            if said:
                break
        assert said == text, said

    def cycle(self, number):
        identity = self.started("--memory-limit", str(64 << 20))
        self.hears(identity, f"round {number}")
        self("tasks", "pause", identity).must()
        assert self.status(identity) == "PAUSED"
        self("tasks", "resume", identity).must()
        assert len(self("tasks", "ps", identity).must().splitlines()) >= 2
        # ctr has no update; containerd's clients do it this way.
        run([self.binary, "--root", f"{self.scratch}/runc/{self.namespace}", "update", "--memory", str(48 << 20), identity]).must()
        self("tasks", "kill", "-s", "TERM", identity).must()
        until(lambda: self.status(identity) == "STOPPED", "a stopped task")
        deleted = self("tasks", "delete", identity)
        assert deleted.code == 0 and "non-zero exit code 3" in deleted.err, deleted
        self("containers", "delete", identity).must()


def _names(path):
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _error(outcome, *phrases):
    text = outcome.out + outcome.err
    return {"code": outcome.code, **{phrase: phrase in text for phrase in phrases}}


def _seen(outcome):
    return {"code": outcome.code, "out": plain(outcome.out), "err": plain(outcome.err)}


def exit_codes(c):
    """Codes of programs come through."""
    return [c.run("sh", "-c", script).code for script in ("exit 0", "exit 7", "sh -c 'kill -9 $$'")]


def errors_of_programs(c):
    """The last error of the runtime's log reaches the caller, and no task is left."""
    seen = [
        _error(c.run("nope"), 'exec: "nope": executable file not found in $PATH', "OCI runtime create failed"),
        _error(c.run("/nope"), "stat /nope: no such file or directory"),
        _error(c.run("/etc/passwd"), "permission denied"),
        _error(c.run("true", options=("--cwd", "/etc/passwd")), "not a directory"),
        _error(c.run("true", options=("--mount", "type=bind,src=/no-such,dst=/x,options=rbind")), "/no-such", "no such file or directory"),
    ]
    return [seen, c("tasks", "list", "-q").out]


def terminals(c):
    """-t: a controlling terminal, in run and exec."""
    shown = run_on_terminal(c.run_argv(c.fresh(), ("sh", "-c", "tty; sleep 0.5; stty size; read l; echo got $l; exit 4"), "--rm", "-t"), typed="word\n")
    identity = c.started()
    inside = run_on_terminal(c.argv("tasks", "exec", "-t", "--exec-id", "e", identity, "sh", "-c", "tty; sleep 1; read l; echo got $l"), typed="word\n")
    c.remove(identity)
    return [_seen(shown), _seen(inside)]


def execs(c):
    """Exec with directory, user, its codes and failures; none into a paused task."""
    identity = c.started()
    execute = lambda *rest: c("tasks", "exec", "--exec-id", c.fresh(), *rest)
    seen = [
        _seen(execute(identity, "sh", "-c", "echo out; exit 9")),
        _seen(execute("--cwd", "/tmp", "--user", "33", identity, "sh", "-c", "id -u; pwd")),
        _error(execute(identity, "nope"), 'exec: "nope": executable file not found in $PATH'),
        _error(execute(identity, "/etc/passwd"), "permission denied"),
        _error(execute("--cwd", "/nope", identity, "true"), "no such file or directory"),
    ]
    c("tasks", "pause", identity).must()
    seen.append(_error(execute(identity, "true"), "cannot exec in a paused"))
    c("tasks", "resume", identity).must()
    c.remove(identity)
    return seen


def states(c):
    """Pause, resume, kill --all and ps."""
    identity = c.started(script="sleep 1000 & exec sleep 1000")
    until(lambda: len(c("tasks", "ps", identity).out.splitlines()) == 3, "two processes")
    seen = [c.status(identity)]
    c("tasks", "pause", identity).must()
    seen.append(c.status(identity))
    seen.append(c("tasks", "resume", identity).code)
    seen.append(c("tasks", "metrics", "--format", "json", identity).code)
    seen.append(_error(c("tasks", "delete", identity), "running"))
    c("tasks", "kill", "-s", "KILL", "--all", identity).must()
    until(lambda: c.status(identity) == "STOPPED", "a stopped task")
    seen.append(_error(c("tasks", "kill", identity), "process already finished"))
    seen.append(c("tasks", "delete", identity).code)
    c("containers", "delete", identity).must()
    return seen


def options(c):
    """Options of ctr run that reach the runtime."""
    look = "id; cat /proc/self/oom_score_adj; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; ls /dev | sort | tr '\\n' ' '; hostname; sleep 0.3"
    every = [(), ("--read-only",), ("--privileged",), ("--cap-add", "CAP_SYS_ADMIN"), ("--seccomp",), ("--user", "33:33"),
             ("--env", "A=b"), ("--device", "/dev/fuse"), ("--memory-limit", "67108864"), ("--no-pivot",), ("--with-ns", "uts:/proc/1/ns/uts"),
             ("--net-host",), ("--cgroup", f"/{c.namespace}/own")]
    return {" ".join(chosen): _no_worse(c.run("sh", "-c", look, options=chosen)) for chosen in every}


def _no_worse(outcome):
    return {"code": outcome.code, "no worse": True, "out": plain(outcome.out)}


CASES = [exit_codes, errors_of_programs, terminals, execs, states, options]


def open_with(scratch, runtime):
    return Containerd(scratch, runtime)


def choose(containerd, which):
    containerd.binary = "runc" if which == "runc" else containerd.path
