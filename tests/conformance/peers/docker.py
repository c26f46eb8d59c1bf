"""dockerd with the runtime under test as its default, and runc beside it."""
import json
import os
import re
import subprocess
import threading

import image
from process import Outcome, cgroups, descriptors, plain, remove_cgroups, run, run_on_terminal, unmount_all, until

NEEDS = ("dockerd", "containerd", "docker", "runc")
ROUND = "run, exec, pause, resume, update, kill, delete"


class Docker:
    """A daemon with roots of its own; `runtime` says which runtime its containers get."""

    name = "docker"

    def __init__(self, scratch, runtime):
        self.scratch, self.path = scratch, runtime
        self.parent = f"peers{os.getpid()}"
        self.socket = f"unix://{scratch}/docker.sock"
        self.env = {**os.environ, "DOCKER_CONFIG": f"{scratch}/client", "DOCKER_HOST": self.socket}
        self.runtime = "wharf"

    def __enter__(self):
        self._start()
        archive = f"{self.scratch}/image.tar"
        image.write_archive(archive)
        self("load", "-i", archive).must()
        return self

    def _start(self):
        s = self.scratch
        with open(f"{s}/daemon.json", "w", encoding="utf-8") as file:
            file.write("{}")
        self.log = open(f"{s}/dockerd.log", "ab")
        self.daemon = subprocess.Popen([
            "dockerd", "--data-root", f"{s}/data", "--exec-root", f"{s}/exec", "--pidfile", f"{s}/dockerd.pid",
            "-H", self.socket, "--bridge", "none", "--iptables=false", "--ip6tables=false", "--live-restore",
            "--cgroup-parent", f"/{self.parent}", "--config-file", f"{s}/daemon.json",
            "--add-runtime", f"wharf={self.path}", "--default-runtime", "wharf",
        ], stdout=self.log, stderr=self.log, env={**os.environ, "TMPDIR": s})
        until(lambda: run(["docker", "version"], env=self.env).code == 0 or self.daemon.poll() is not None, "dockerd")
        if self.daemon.poll() is not None:
            raise RuntimeError(f"dockerd ended, see {s}/dockerd.log")

    def _stop(self):
        self.daemon.terminate()
        try:
            self.daemon.wait(60)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        self.log.close()

    def __exit__(self, *_):
        for identity in self("ps", "-aq").out.split():
            self("rm", "-f", identity)
        self._stop()
        unmount_all(self.scratch)
        remove_cgroups(self.parent)

    def __call__(self, *arguments, stdin=None, timeout=120):
        return run(["docker", *arguments], stdin=stdin, timeout=timeout, env=self.env)

    def run(self, *arguments, **more):
        return self("run", "--rm", f"--runtime={self.runtime}", "--network=none", *arguments, **more)

    def started(self, *arguments, script="trap 'exit 3' TERM; while :; do sleep 0.1; done"):
        """The id of a running container."""
        return self("run", "-d", f"--runtime={self.runtime}", "--network=none", *arguments, image.SHORT, "sh", "-c", script).must()

    def inspect(self, identity, template):
        return self("inspect", "-f", template, identity).must()

    def remove(self, identity):
        self("rm", "-f", identity).must()

    def restart_daemon(self):
        self._stop()
        self._start()

    # What a leak would change.
    def holdings(self):
        shims = run(["pgrep", "-f", f"containerd-shim.*{self.scratch}"]).out.split()
        states = [name for root in ("exec/runtime-wharf/moby", "exec/containerd/daemon/io.containerd.runtime.v2.task/moby")
                  for name in _names(f"{self.scratch}/{root}")]
        return {"shims": len(shims), "states": states, "descriptors": descriptors(self.daemon.pid) // 16,
                "cgroups": [path for path in cgroups(f"/{self.parent}") if os.path.basename(path) != self.parent]}

    def cycle(self, number):
        """A container's whole life; every answer is checked."""
        identity = self.started("--memory=64m", f"--name=cycle{number}")
        say = self("exec", identity, "echo", f"round {number}").must()
        assert say == f"round {number}", say
        self("pause", identity).must()
        assert self.inspect(identity, "{{.State.Status}}") == "paused"
        self("unpause", identity).must()
        self("update", "--memory=48m", "--memory-swap=48m", "--cpu-shares=512", identity).must()
        self("kill", "-s", "TERM", identity).must()
        code = self("wait", identity).must()
        assert code == "3", code
        self("rm", identity).must()


def _names(path):
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _error(outcome, *phrases):
    """What callers see of a failure: the code, and whether the words they match on are there."""
    text = outcome.out + outcome.err
    return {"code": outcome.code, **{phrase: phrase in text for phrase in phrases}}


def _no_worse(outcome):
    """For what runc cannot do where the machine's root lacks a capability."""
    return {"code": outcome.code, "no worse": True, "out": plain(outcome.out)}


def _seen(outcome):
    return {"code": outcome.code, "out": plain(outcome.out), "err": plain(outcome.err)}


def exit_codes(d):
    """Codes of programs, and of signals, come through."""
    codes = [d.run(image.SHORT, "sh", "-c", script).code for script in ("exit 0", "exit 7", "exit 255", "sh -c 'kill -9 $$'")]
    return codes + [d.run(image.SHORT, "sh", "-c", "kill -TERM 1; sleep 1").code]


def errors_of_programs(d):
    """A missing program is 127, one that cannot be executed 126, with the words clients match on."""
    return [
        _error(d.run(image.SHORT, "nope"), 'exec: "nope": executable file not found in $PATH', "OCI runtime create failed"),
        _error(d.run(image.SHORT, "/nope"), "stat /nope: no such file or directory"),
        _error(d.run(image.SHORT, "/etc/passwd"), "permission denied"),
        _error(d.run(image.SHORT, "/etc"), 'exec: "/etc"'),
        # runc lets the start succeed and the container fail; here the start fails.
        "exec format error" in str(d.run(image.SHORT, "/etc/garbage")),
    ]


def errors_of_settings(d):
    """Settings that the runtime refuses."""
    return [
        _error(d.run("-w", "/etc/passwd/x", image.SHORT, "true"), "not a directory"),
        _error(d.run("-u", "nobody-such", image.SHORT, "true"), "unable to find user"),
        _error(d.run("--sysctl", "kernel.panic=1", image.SHORT, "true"), "kernel.panic", "not in a separate kernel namespace"),
        _error(d.run("-v", "/etc:/proc/sys", image.SHORT, "true"), "proc"),
        _error(d.run("--memory=6m", "--memory-swap=6m", image.SHORT, "sh", "-c", "echo alive")),
    ]


def killed_for_memory(d):
    """A container that takes too much is reported as killed for it."""
    identity = d.started("--memory=12m", "--memory-swap=12m", script="x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done")
    code = d("wait", identity).must()
    seen = [code, d.inspect(identity, "{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}")]
    d.remove(identity)
    return seen


def terminals(d):
    """-t and -it: a controlling terminal of the right size, in run and in exec."""
    base = ["docker", "run", "--rm", f"--runtime={d.runtime}", "--network=none"]
    shown = run_on_terminal([*base, "-it", image.SHORT, "sh", "-c", "tty; sleep 0.5; stty size; echo $TERM; read line; echo got $line"],
                            typed="word\n", env=d.env)
    without = d.run("-t", image.SHORT, "sh", "-c", "tty; test -t 0 && echo terminal; ls -l /dev/console | cut -c1")
    identity = d.started()
    inside = run_on_terminal(["docker", "exec", "-it", identity, "sh", "-c", "tty; sleep 0.5; stty size; read line; echo got $line; exit 4"],
                             typed="word\n", env=d.env)
    d.remove(identity)
    attached = d.started("-t", script="sleep 0.3; tty; stty -a | head -1 | cut -c1-5; exit 5")
    d("wait", attached).must()
    logged = d("logs", attached).out
    d.remove(attached)
    return [_seen(shown), _seen(without), _seen(inside), logged]


def execs(d):
    """Exec with user, directory, environment, and its failures."""
    identity = d.started()
    seen = [
        _seen(d("exec", identity, "sh", "-c", "echo out; echo err >&2; exit 9")),
        _seen(d("exec", "-u", "33:33", "-w", "/tmp", "-e", "A=b", identity, "sh", "-c", "id; pwd; echo $A")),
        _seen(d("exec", "-i", identity, "cat", stdin="through\n")),
        _error(d("exec", identity, "nope"), "executable file not found in $PATH"),
        _error(d("exec", identity, "/etc/passwd"), "permission denied"),
        _error(d("exec", "-w", "/nope", identity, "true"), "/nope", "no such file or directory"),
        _error(d("exec", "-u", "nobody-such", identity, "true"), "unable to find user"),
        _no_worse(d("exec", "--privileged", identity, "sh", "-c", "grep CapEff /proc/self/status")),
        _seen(d("exec", identity, "sh", "-c", "grep -E 'Cap|Seccomp:|NoNew' /proc/self/status; cat /proc/self/oom_score_adj")),
        _seen(d("exec", "-d", identity, "sh", "-c", "echo detached >/tmp/said")),
    ]
    until(lambda: d("exec", identity, "cat", "/tmp/said").out == "detached\n", "the detached exec")
    d("pause", identity).must()
    seen.append(_error(d("exec", identity, "true"), "is paused"))
    d("unpause", identity).must()
    d.remove(identity)
    return seen


def many_execs_at_once(d):
    """Twenty execs at once all give their own answers."""
    identity = d.started()
    codes = {}
    threads = [threading.Thread(target=lambda n=n: codes.__setitem__(n, d("exec", identity, "sh", "-c", f"exit {n}").code)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    d.remove(identity)
    return sorted(codes.items())


def signals(d):
    """Signals, stop and restart; a paused container can be killed."""
    seen = []
    for signal in ("TERM", "INT", "USR1", "KILL", "15"):
        identity = d.started(script="trap 'exit 3' TERM; trap 'exit 4' INT; trap 'exit 5' USR1; while :; do sleep 0.05; done")
        d("exec", identity, "true").must()
        d("kill", "-s", signal, identity).must()
        seen.append((signal, d("wait", identity).must()))
        d.remove(identity)
    identity = d.started(script="trap '' TERM; while :; do sleep 0.1; done")
    d("stop", "-t", "1", identity).must()
    seen.append(d.inspect(identity, "{{.State.ExitCode}} {{.State.Status}}"))
    d("start", identity).must()
    d("restart", "-t", "0", identity).must()
    seen.append(d.inspect(identity, "{{.State.Status}}"))
    d("pause", identity).must()
    seen.append(_error(d("kill", identity), "paused"))
    d("unpause", identity)
    d.remove(identity)
    seen.append(_error(d("kill", "nobody"), "No such container"))
    return seen


def stats_top_logs(d):
    """Figures, processes and logs of a running container."""
    identity = d.started("--memory=64m", script="echo one; echo two >&2; sleep 1000 & exec sleep 1000")
    until(lambda: len(d("top", identity).out.splitlines()) >= 3, "two processes")
    top = [line.split()[-2:] for line in d("top", identity).must().splitlines()[1:]]
    stats = json.loads(d("stats", "--no-stream", "--format", "{{json .}}", identity).must())
    logs = d("logs", identity)
    d.remove(identity)
    return [sorted(top), stats["PIDs"], stats["MemUsage"].split("/")[1].strip(), stats["MemUsage"][:2] != "0B", logs.out, logs.err]


def updates(d):
    """Limits that are changed are those inside."""
    identity = d.started("--memory=64m", "--cpus=0.5", "--pids-limit=50")
    d("update", "--memory=32m", "--memory-swap=40m", "--cpus=0.25", "--pids-limit=20", "--cpu-shares=256", "--cpuset-cpus=0", identity).must()
    read = ("cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us "
            "pids/pids.max 2>/dev/null; cat memory.max cpu.max cpu.weight pids.max 2>/dev/null; grep Cpus_allowed_list /proc/1/status")
    values = d("exec", identity, "sh", "-c", f"cd /sys/fs/cgroup; {read}").must()
    refused = d("update", "--memory=64m", identity)
    d.remove(identity)
    return [values, _error(refused, "memoryswap")]


_LOOK = """id; hostname; ulimit -n; cat /proc/self/oom_score_adj; grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/self/status
    ls /dev | sort | tr '\\n' ' '; for n in ipc mnt net pid uts cgroup user; do test $(readlink /proc/self/ns/$n) = "$HOST" && echo $n; done
    cut -d' ' -f3,5,6 /proc/self/mountinfo | sed -E 's/^[0-9]+:[0-9]+ //' | sort -k1,1; cat /proc/sys/net/ipv4/ip_forward; ls /proc/self/fd | wc -l; umask; pwd"""

OPTIONS = [
    [], ["--read-only"], ["--read-only", "--tmpfs", "/tmp:size=1m,mode=1777"], ["--privileged"], ["--cap-drop=ALL"],
    ["--cap-add=SYS_ADMIN", "--cap-drop=CHOWN"], ["--security-opt=no-new-privileges"], ["--security-opt=seccomp=unconfined"],
    ["-u", "33:100"], ["-u", "www", "--group-add", "10"], ["--ulimit", "nofile=512:512"], ["--sysctl", "net.ipv4.ip_forward=1"],
    ["--hostname", "peer", "--domainname", "test"], ["--init"], ["--shm-size=2m"], ["--cgroupns=host"], ["--cgroupns=private"],
    ["--pid=host"], ["--ipc=host"], ["--uts=host"], ["--ipc=none"], ["--device=/dev/fuse"], ["--device-cgroup-rule=c 10:200 rwm"],
    ["-w", "/made/here"], ["--oom-score-adj=500"], ["-v", "/usr/share:/data:ro"], ["-v", "/usr/share:/data:rslave"],
    ["--mount", "type=tmpfs,dst=/scratch,tmpfs-size=1m"], ["--memory=64m", "--memory-swappiness=0"], ["--cpuset-cpus=0"],
    ["--blkio-weight=300"], ["--pids-limit=30"], ["--stop-signal=INT"], ["--security-opt=systempaths=unconfined"],
]


def every_option(d):
    """The same view from inside under every option of docker run that reaches the runtime."""
    seen = {}
    for options in OPTIONS:
        outcome = d.run("--hostname=here", *options, image.SHORT, "sh", "-c", _LOOK) if "--uts=host" not in options else \
            d.run(*options, image.SHORT, "sh", "-c", _LOOK)
        seen[" ".join(options)] = _view(outcome)
    return seen


def _view(outcome: Outcome):
    # Which hierarchies of cgroup version 1 a container joins, and which /dev/null masks a file, is the runtime's own.
    own = re.compile("^(/sys/fs/cgroup|/proc/keys|/proc/timer_list|/proc/latency_stats)[ /]")
    lines = [line for line in plain(outcome.out).splitlines() if not own.search(line)]
    return {"code": outcome.code, "no worse": True, "lines": lines, "err": plain(outcome.err)}


def joined_namespaces(d):
    """Containers in the namespaces of another."""
    first = d.started("--ipc=shareable")
    links = "for n in pid ipc net; do readlink /proc/self/ns/$n; done"
    own = d("exec", first, "sh", "-c", links).must()
    joined = d("run", "--rm", f"--runtime={d.runtime}", f"--pid=container:{first}", f"--ipc=container:{first}",
               f"--network=container:{first}", image.SHORT, "sh", "-c", links).must()
    d.remove(first)
    return own == joined


def copies_and_health(d):
    """cp both ways, diff, commit, and a health check."""
    identity = d.started("--health-cmd=test -e /tmp/fine", "--health-interval=1s", "--health-retries=1")
    with open(f"{d.scratch}/file", "w", encoding="utf-8") as file:
        file.write("copied")
    d("cp", f"{d.scratch}/file", f"{identity}:/tmp/fine").must()
    until(lambda: d.inspect(identity, "{{.State.Health.Status}}") == "healthy", "a healthy container")
    seen = [d("exec", identity, "cat", "/tmp/fine").must(), d("diff", identity).must()]
    d.remove(identity)
    return seen


def restarts(d):
    """A restart policy counts, and a container lives through a restart of the daemon."""
    failing = d("run", "-d", f"--runtime={d.runtime}", "--network=none", "--restart=on-failure:2", image.SHORT, "false").must()
    until(lambda: d.inspect(failing, "{{.RestartCount}} {{.State.Status}}") == "2 exited", "two restarts")
    living = d.started()
    d.restart_daemon()
    seen = [d.inspect(living, "{{.State.Status}}"), d("exec", living, "echo", "still").must()]
    d("stop", "-t", "5", living).must()
    seen.append(d.inspect(living, "{{.State.ExitCode}}"))
    d.remove(failing)
    d.remove(living)
    return seen


CASES = [exit_codes, errors_of_programs, errors_of_settings, killed_for_memory, terminals, execs, many_execs_at_once, signals,
         stats_top_logs, updates, every_option, joined_namespaces, copies_and_health, restarts]


def open_with(scratch, runtime):
    return Docker(scratch, runtime)


def choose(docker, which):
    """`runc` is the one that the daemon knows by itself."""
    docker.runtime = which
