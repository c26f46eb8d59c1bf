"""Podman with conmon and the runtime under test."""
import json
import os

import image
from process import cgroups, mounts, plain, remove_cgroups, run, run_on_terminal, unmount_all, until

NEEDS = ("podman", "conmon", "runc")
ROUND = "run, exec, pause, resume, update, kill, delete"


class Podman:
    """Podman with a root of its own; it has no daemon."""

    name = "podman"

    def __init__(self, scratch, runtime):
        self.scratch, self.path = scratch, runtime
        self.parent = f"peers{os.getpid()}"
        self.binary = runtime

    def __enter__(self):
        with open(f"{self.scratch}/containers.conf", "w", encoding="utf-8") as file:
            # Podman raises limits by itself, which not every machine's root may.
            limits = '"nofile=1024:1024", "nproc=1000:1000"'
            file.write(f'[containers]\ndefault_ulimits = [{limits}]\n[engine]\nruntime_supports_json = ["crun", "runc", "wharf-runtime"]\n')
        with open(f"{self.scratch}/policy.json", "w", encoding="utf-8") as file:
            file.write('{"default": [{"type": "insecureAcceptAnything"}]}')
        image.write_archive(f"{self.scratch}/image.tar")
        self("load", "--signature-policy", f"{self.scratch}/policy.json", "-i", f"{self.scratch}/image.tar").must()
        return self

    def __exit__(self, *_):
        self("rm", "-f", "-a", "-t", "0")
        unmount_all(self.scratch)
        remove_cgroups(self.parent)

    def argv(self, *arguments):
        s = self.scratch
        return ["podman", "--runtime", self.binary, "--root", f"{s}/root", "--runroot", f"{s}/run", "--tmpdir", f"{s}/tmp",
                "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--log-level", "error", *arguments]

    @property
    def env(self):
        return {**os.environ, "CONTAINERS_CONF": f"{self.scratch}/containers.conf"}

    def __call__(self, *arguments, **more):
        return run(self.argv(*arguments), env=self.env, **more)

    def _base(self):
        return ["--network=none", f"--cgroup-parent=/{self.parent}"]

    def run(self, *arguments, **more):
        return self("run", "--rm", *self._base(), *arguments, **more)

    def started(self, *options, script="trap 'exit 3' TERM; while :; do sleep 0.1; done"):
        return self("run", "-d", *self._base(), *options, image.SHORT, "sh", "-c", script).must()

    def remove(self, identity):
        self("rm", "-f", "-t", "0", identity).must()

    def inspect(self, identity, template):
        return self("inspect", "-f", template, identity).must()

    def holdings(self):
        return {"conmons": len(run(["pgrep", "-f", f"conmon.*{self.scratch}"]).out.split()),
                "mounts": [point for point in mounts(self.scratch) if "/merged" in point or "/shm" in point],
                "cgroups": [path for path in cgroups(f"/{self.parent}") if os.path.basename(path) != self.parent]}

    def cycle(self, number):
        identity = self.started("--memory=64m")
        say = self("exec", identity, "echo", f"round {number}").must()
        assert say == f"round {number}", say
        self("pause", identity).must()
        assert self.inspect(identity, "{{.State.Status}}") == "paused"
        self("unpause", identity).must()
        self("update", "--memory=48m", "--cpu-shares=512", identity).must()
        self("kill", "-s", "TERM", identity).must()
        code = self("wait", identity).must()
        assert code == "3", code
        self("rm", identity).must()
        until(lambda: not self.holdings()["conmons"], "the end of conmon")


def _error(outcome, *phrases):
    text = outcome.out + outcome.err
    return {"code": outcome.code, **{phrase: phrase in text for phrase in phrases}}


def _seen(outcome):
    return {"code": outcome.code, "out": plain(outcome.out), "err": plain(outcome.err)}


def _no_worse(outcome):
    return {"code": outcome.code, "no worse": True, "out": plain(outcome.out)}


def exit_codes(p):
    """Codes of programs come through."""
    return [p.run(image.SHORT, "sh", "-c", script).code for script in ("exit 0", "exit 7", "sh -c 'kill -9 $$'")]


def errors_of_programs(p):
    """Podman's own reading of the error decides on 126 and 127."""
    return [
        _error(p.run(image.SHORT, "nope"), "executable file not found"),
        _error(p.run(image.SHORT, "/nope"), "no such file or directory"),
        _error(p.run(image.SHORT, "/etc/passwd"), "permission denied"),
        _error(p.run("-w", "/etc/passwd/x", image.SHORT, "true"), "not a directory"),
        _error(p.run("-v", "/no-such:/x", image.SHORT, "true"), "no such file or directory"),
        _error(p.run("--sysctl", "kernel.panic=1", image.SHORT, "true"), "kernel.panic"),
    ]


def killed_for_memory(p):
    """A container that takes too much is reported as killed for it."""
    identity = p.started("--memory=12m", "--memory-swap=12m", script="x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done")
    seen = [p("wait", identity).must(), p.inspect(identity, "{{.State.OOMKilled}} {{.State.ExitCode}}")]
    p.remove(identity)
    return seen


def terminals(p):
    """-t and -it, in run and in exec."""
    shown = run_on_terminal(p.argv("run", "--rm", *p._base(), "-it", image.SHORT, "sh", "-c", "tty; sleep 0.5; stty size; read l; echo got $l; exit 4"), typed="word\n", env=p.env)
    identity = p.started()
    inside = run_on_terminal(p.argv("exec", "-it", identity, "sh", "-c", "tty; read l; echo got $l; exit 6"), typed="word\n", env=p.env)
    p.remove(identity)
    return [_seen(shown), _seen(inside)]


def execs(p):
    """Exec with user, directory, streams, its codes and failures."""
    identity = p.started()
    seen = [
        _seen(p("exec", identity, "sh", "-c", "echo out; echo err >&2; exit 9")),
        _seen(p("exec", "-u", "33:33", "-w", "/tmp", "-e", "A=b", identity, "sh", "-c", "id; pwd; echo $A")),
        _seen(p("exec", "-i", identity, "cat", stdin="through\n")),
        _error(p("exec", identity, "nope"), "executable file not found in $PATH"),
        _error(p("exec", identity, "/etc/passwd"), "permission denied"),
        _error(p("exec", "-w", "/nope", identity, "true"), "no such file or directory"),
        _no_worse(p("exec", "--privileged", identity, "sh", "-c", "grep CapEff /proc/self/status")),
    ]
    p("pause", identity).must()
    seen.append(p("exec", identity, "true").code)
    p("unpause", identity).must()
    p.remove(identity)
    return seen


def life(p):
    """Create, start, logs, top, stats, stop, restart, kill."""
    identity = p("create", *p._base(), image.SHORT, "sh", "-c", "echo one; echo two >&2; trap 'exit 3' TERM; while :; do sleep 0.1; done").must()
    p("start", identity).must()
    until(lambda: "one" in p("logs", identity).out, "the first line")
    logs = p("logs", identity)
    seen = [logs.out, logs.err, len(p("top", identity).must().splitlines()) >= 2]
    stats = json.loads(p("stats", "--no-stream", "--format", "json", identity).must())[0]
    seen.append([stats["pids"] in ("1", "2"), sorted(stats)])
    return seen + ends(p, identity)


def ends(p, identity):
    """How a running container stops, starts again, and is killed and removed."""
    p("stop", "-t", "5", identity).must()
    seen = [p.inspect(identity, "{{.State.ExitCode}} {{.State.Status}}")]
    p("start", identity).must()
    p("restart", "-t", "0", identity).must()
    seen.append(p.inspect(identity, "{{.State.Status}}"))
    p("kill", identity).must()
    seen.append(p("wait", identity).must())
    p.remove(identity)
    return seen


def options(p):
    """Options of podman run that reach the runtime."""
    look = ("id; cat /proc/self/oom_score_adj; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; ls /dev | sort | tr '\\n' ' '; umask; pwd; "
            "ulimit -n; cut -d' ' -f5 /proc/self/mountinfo | grep -v ^/sys/fs/cgroup | sort; cat /proc/self/uid_map")
    every = [[], ["--read-only"], ["--privileged"], ["--cap-drop=all"], ["--cap-add=SYS_ADMIN"], ["--security-opt=no-new-privileges"],
             ["--security-opt=seccomp=unconfined"], ["-u", "33:33"], ["--ulimit=nofile=512:512"], ["--shm-size=2m"], ["--tmpfs=/t"],
             ["--device=/dev/fuse"], ["--pid=host"], ["--ipc=host"], ["--uts=host"], ["--cgroupns=host"], ["--init=false"], ["--umask=0077"],
             ["--workdir=/made/here"], ["--uidmap=0:100000:1000", "--gidmap=0:100000:1000"], ["--cgroups=disabled"], ["--memory=64m"],
             ["--pids-limit=30"], ["--oom-score-adj=500"], ["-v", "/usr/share:/data:ro"], ["--mount=type=tmpfs,dst=/s,tmpfs-size=1m"],
             ["--sysctl=net.ipv4.ip_forward=1"]]
    return {" ".join(chosen): _no_worse(p.run("--hostname=here", *chosen, image.SHORT, "sh", "-c", look) if "--uts=host" not in chosen
                                        else p.run(*chosen, image.SHORT, "sh", "-c", look)) for chosen in every}


def pods(p):
    """A pod shares its namespaces."""
    pod = p("pod", "create", "--infra-image", image.NAME, "--infra-command", "/bin/sleep 1000", "--network=none", f"--cgroup-parent=/{p.parent}")
    if pod.code != 0:
        return _seen(pod)
    name = pod.must()
    links = "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc"
    seen = [p("run", "--rm", "--pod", name, image.SHORT, "sh", "-c", links) for _ in range(2)]
    p("pod", "rm", "-f", "-t", "0", name)
    return [outcome.code for outcome in seen] + [seen[0].out == seen[1].out]


CASES = [exit_codes, errors_of_programs, killed_for_memory, terminals, execs, life, options, pods]


def open_with(scratch, runtime):
    return Podman(scratch, runtime)


def choose(podman, which):
    podman.binary = "/usr/sbin/runc" if which == "runc" else podman.path
