"""Running programs with a deadline, with or without a terminal, and what they leave."""
import os
import pty
import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def must(self):
        if self.code != 0:
            raise RuntimeError(f"code {self.code}: {self.out.strip()} {self.err.strip()}")
        return self.out.strip()


def run(argv, stdin=None, timeout=120, env=None):
    """Runs to the end; a program that takes too long is ended and its code is -1."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, env=env)
    except subprocess.TimeoutExpired as late:
        return Outcome(-1, str(late.stdout or ""), f"did not end within {timeout} s")
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_on_terminal(argv, typed="", timeout=60, env=None, size=(33, 101)):
    """Runs on a terminal of its own, types `typed` once something was printed."""
    import fcntl
    import struct
    import termios
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, env or os.environ)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    said, end, pending = b"", time.monotonic() + timeout, typed.encode()
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.2)[0]:
            continue
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
        if pending:
            os.write(master, pending)
            pending = b""
    else:
        os.kill(pid, 9)
    os.close(master)
    _, status = os.waitpid(pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), said.decode(errors="replace").replace("\r", ""), "")


def until(condition, what, timeout=60):
    """Waits until the condition holds and returns what it gave."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise RuntimeError(f"not within {timeout} s: {what}")


def mounts(below):
    """Mount points below a directory."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
        return sorted(line.split()[4] for line in table if line.split()[4].startswith(below.rstrip("/") + "/"))


def unmount_all(below):
    """Lets go of every mount below a directory, last first."""
    for point in reversed(mounts(below)):
        run(["umount", "-l", point])


def remove_cgroups(name):
    """Removes the cgroup of that name and what is left below it, in every hierarchy."""
    for directory in sorted(cgroups(f"/{name}"), key=len, reverse=True):
        until(lambda: _remove(directory), f"{directory} to be empty", 10)


def _remove(directory):
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError:
        # A hierarchy that is not mounted is a plain directory, into which engines write all the same.
        if os.stat(directory).st_dev == os.stat("/sys/fs/cgroup").st_dev:
            shutil.rmtree(directory)
            return True
        return False
    return True


def cgroups(name):
    """Cgroup directories whose path holds the name."""
    found = run(["find", "/sys/fs/cgroup", "-type", "d", "-path", f"*{name}*"])
    return sorted(found.out.split())


def descriptors(pid):
    """How many descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def processes(word):
    """Command lines of processes that hold the word, ours and our parents apart."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and int(pid) not in (os.getpid(), os.getppid()) and "tests/conformance" not in line:
            found.append(f"{pid} {line.strip()}")
    return found


def plain(text):
    """Without what differs from run to run: ids, times, numbers of processes."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "ID", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
    return text.strip()
