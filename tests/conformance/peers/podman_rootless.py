"""Podman in the hands of a user without privileges: its user namespace, newuidmap's ids, no cgroup on version 1."""
import os
import shutil
import subprocess

import image
import podman
from process import mounts, run_on_terminal, unmount_all, until

NEEDS = ("podman", "conmon", "runc", "newuidmap", "setpriv", "nsenter")
ROUND = "run, exec, kill, delete"
# A user that every Debian has, with a range of further ids in the mount namespace of this test only.
USER, UID, GID, RANGE = "games", 5, 60, "games:200000:65536\n"

# Holds a mount namespace with the user's ranges and place until its standard input ends.
HOLD = """
mount --make-rprivate /
for file in subuid subgid; do mount --bind "$1/$file" /etc/$file; done
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p "/run/user/$2" /run/lock; chown "$2:$3" "/run/user/$2"; chmod 700 "/run/user/$2"
echo ready; cat >/dev/null
"""


class RootlessPodman(podman.Podman):
    """Podman that becomes a user first."""

    name = "podman without privileges"

    def __init__(self, scratch, runtime):
        super().__init__(scratch, f"{scratch}/home/wharf-runtime")
        self.given = runtime

    def __enter__(self):
        os.chmod(self.scratch, 0o755)
        os.mkdir(f"{self.scratch}/home")
        shutil.copy(self.given, self.path)
        os.chown(f"{self.scratch}/home", UID, GID)
        for name in ("subuid", "subgid"):
            with open(f"/etc/{name}", encoding="utf-8") as now:  # the package uidmap brings it
                lines = [line for line in now if not line.startswith(f"{USER}:")]
            with open(f"{self.scratch}/{name}", "w", encoding="utf-8") as file:
                file.writelines([*lines, RANGE])
        self.holder = subprocess.Popen(["unshare", "--mount", "sh", "-ec", HOLD, "hold", self.scratch, str(UID), str(GID)],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != b"ready\n":
            raise RuntimeError("no mount namespace for the user")
        os.chdir(f"{self.scratch}/home")
        return super().__enter__()

    def __exit__(self, *_):
        self("rm", "-f", "-a", "-t", "0")
        # The process that keeps the user namespace.
        self("system", "migrate")
        self.holder.stdin.close()
        self.holder.wait()
        unmount_all(self.scratch)

    def argv(self, *arguments):
        home = f"{self.scratch}/home"
        become = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", f"--wd={home}", "setpriv", f"--reuid={UID}", f"--regid={GID}",
                  "--clear-groups", "--inh-caps=-all", "--"]
        return [*become, "podman", "--runtime", self.binary, "--root", f"{home}/root", "--runroot", f"{home}/run", "--tmpdir", f"{home}/tmp",
                "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--log-level", "error", *arguments]

    @property
    def env(self):
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": f"{self.scratch}/home",
                "XDG_RUNTIME_DIR": f"/run/user/{UID}", "CONTAINERS_CONF": f"{self.scratch}/containers.conf"}

    def _base(self):
        return ["--network=none"]

    def holdings(self):
        return {"conmons": len(podman.run(["pgrep", "-f", f"conmon.*{self.scratch}"]).out.split()),
                "mounts": mounts(self.scratch)}

    def cycle(self, number):
        identity = self.started()
        say = self("exec", identity, "echo", f"round {number}").must()
        assert say == f"round {number}", say
        self("kill", "-s", "TERM", identity).must()
        code = self("wait", identity).must()
        assert code == "3", code
        self("rm", identity).must()
        until(lambda: not self.holdings()["conmons"], "the end of conmon")


def ids(p):
    """Whose ids the container sees, and what they are outside."""
    script = "id; cat /proc/self/uid_map /proc/self/gid_map; touch /made; stat -c '%u %g' /made; cat /proc/self/setgroups"
    return [podman._seen(p.run(*options, image.SHORT, "sh", "-c", script))
            for options in ([], ["-u", "33:33"], ["--userns=keep-id"], ["--group-add=10"], ["-u", "1000"])]


def execs(p):
    """Exec with user, directory, streams, its codes and failures."""
    identity = p.started()
    seen = [
        podman._seen(p("exec", identity, "sh", "-c", "echo out; echo err >&2; exit 9")),
        podman._seen(p("exec", "-u", "33:33", "-w", "/tmp", "-e", "A=b", identity, "sh", "-c", "id; pwd; echo $A")),
        podman._seen(p("exec", "-i", identity, "cat", stdin="through\n")),
        podman._error(p("exec", identity, "nope"), "executable file not found in $PATH"),
    ]
    inside = run_on_terminal(p.argv("exec", "-it", identity, "sh", "-c", "tty; read l; echo got $l; exit 6"), typed="word\n", env=p.env)
    p.remove(identity)
    return [*seen, podman._seen(inside)]


def life(p):
    """Create, start, logs, stop, restart, kill."""
    identity = p("create", *p._base(), image.SHORT, "sh", "-c", "echo one; trap 'exit 3' TERM; while :; do sleep 0.1; done").must()
    p("start", identity).must()
    until(lambda: "one" in p("logs", identity).out, "the first line")
    return podman.ends(p, identity)


def options(p):
    """Options of podman run that reach the runtime."""
    look = ("id; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; ls /dev | sort | tr '\\n' ' '; pwd; ulimit -n; "
            "cut -d' ' -f5 /proc/self/mountinfo | grep -v ^/sys/fs/cgroup | sort -u")
    every = [[], ["--read-only"], ["--privileged"], ["--cap-drop=all"], ["--cap-add=SYS_ADMIN"], ["--security-opt=no-new-privileges"],
             ["--security-opt=seccomp=unconfined"], ["--ulimit=nofile=512:512"], ["--shm-size=2m"], ["--tmpfs=/t"], ["--pid=host"],
             ["--ipc=host"], ["--uts=host"], ["--workdir=/made/here"], ["-v", "/usr/share:/data:ro"], ["--network=host"]]
    return {" ".join(chosen): podman._no_worse(p.run(*chosen, image.SHORT, "sh", "-c", look)) for chosen in every}


def joined(p):
    """A container in the pid namespace of another."""
    identity = p.started()
    seen = podman._seen(p.run(f"--pid=container:{identity}", image.SHORT, "sh", "-c", "ps | grep -c '[w]hile :'"))
    p.remove(identity)
    return seen


CASES = [podman.exit_codes, podman.errors_of_programs, podman.terminals, ids, execs, life, options, joined]


def open_with(scratch, runtime):
    return RootlessPodman(scratch, runtime)


def choose(engine, which):
    podman.choose(engine, which)
