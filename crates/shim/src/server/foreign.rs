//! Containers made by another OCI runtime, through runc's command line.
//!
//! The runtime is executed for `create`, `start`, `exec` and `delete`; signals, freezing, limits and
//! the end of processes need no runtime and are the shim's own business, as it is the subreaper.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;
use serde_json::Value;
use wharf_runtime::Stdio;

use super::container::{Made, fault, system};
use super::foreign_bundle::{self, Prepared};
use super::home::Home;
use super::stdio::OurEnds;
use crate::plan::{ExecPlan, LaunchPlan, StdioPlan};
use crate::protocol::{Fault, FaultKind};

/// A container of a foreign runtime.
#[derive(Debug)]
pub(super) struct Foreign {
    path: PathBuf,
    args: Vec<String>,
    root: PathBuf,
    id: String,
    /// The shim's directory, as a path that other processes can use too.
    place: PathBuf,
    rootfs: PathBuf,
}

/// What runc says before the reason an exec failed for.
const EXEC_FAILED: &str = "exec failed: unable to start container process: ";

/// A runtime's executable, its arguments, and its directory of states.
pub(super) type Runtime<'a> = (&'a Path, &'a [String], &'a Path);

impl Foreign {
    /// Prepares a bundle of its own and has the runtime create the container.
    pub(super) fn create(plan: &LaunchPlan, runtime: Runtime<'_>, home: &Home) -> Result<(Self, Made), Fault> {
        let place = std::fs::read_link(wharf_sys::fd::proc_path(home.fd()))
            .map_err(|error| fault("find the shim's directory", &error))?;
        let Prepared { bundle, rootfs } = foreign_bundle::prepare(plan, &place)?;
        let foreign = Self {
            path: runtime.0.to_path_buf(),
            args: runtime.1.to_vec(),
            root: runtime.2.to_path_buf(),
            id: plan.id.clone(),
            place,
            rootfs,
        };
        foreign.forget_predecessor();
        let (stdio, ends) = super::stdio::prepare(plan.stdio).map_err(|errno| system("make the streams", errno))?;
        let bundle = bundle.to_string_lossy().into_owned();
        let made = foreign.make(&["create", "--bundle", &bundle], plan.stdio, (stdio, ends));
        match made {
            Ok(made) => Ok((foreign, made)),
            Err(error) => {
                // What a failed create leaves is removed; the failure itself is what counts.
                let _ = foreign.delete();
                Err(error)
            }
        }
    }

    pub(super) fn start(&self) -> Result<(), Fault> {
        self.call(&["start"], None)
    }

    /// A shim that was killed could not tell its runtime of the end, and that would refuse to
    /// create the container again.
    fn forget_predecessor(&self) {
        if self.root.join(&self.id).exists() {
            // What stays shows in the creation.
            let _ = self.call(&["delete", "--force"], None);
        }
    }

    /// Has the runtime run a further process, detached, so that it becomes the shim's to reap.
    pub(super) fn exec(&self, plan: &ExecPlan, stdio: Stdio, ends: OurEnds) -> Result<Made, Fault> {
        let mut process = plan.process.clone();
        process["terminal"] = plan.stdio.terminal.into();
        foreign_bundle::complete_process(&mut process, plan, &self.place)?;
        foreign_bundle::set_user(&mut process, &self.rootfs, plan.user.as_deref(), &plan.group_add)?;
        let file = self.place.join(format!("exec-{}.json", plan.id));
        write_json(&file, &process)?;
        let file_text = file.to_string_lossy().into_owned();
        let made = self.make(
            &["exec", "--detach", "--process", &file_text],
            plan.stdio,
            (stdio, ends),
        );
        let _ = std::fs::remove_file(&file);
        made
    }

    /// Has the runtime forget the container, and removes the bundle made for it.
    pub(super) fn delete(&self) -> Result<(), Fault> {
        let deleted = self.call(&["delete", "--force"], None);
        foreign_bundle::remove(&self.place);
        deleted
    }

    /// Runs a verb that makes a process, and takes over that process.
    fn make(&self, verb: &[&str], plan: StdioPlan, (stdio, mut ends): (Stdio, OurEnds)) -> Result<Made, Fault> {
        let pid_file = self.place.join("made.pid");
        let _ = std::fs::remove_file(&pid_file);
        let console = if plan.terminal {
            Some(Console::listen(&self.place)?)
        } else {
            None
        };
        let mut arguments: Vec<&str> = verb.to_vec();
        let pid_text = pid_file.to_string_lossy().into_owned();
        arguments.extend(["--pid-file", &pid_text]);
        let console_text = console
            .as_ref()
            .map(|console| console.path.to_string_lossy().into_owned());
        if let Some(console) = &console_text {
            arguments.extend(["--console-socket", console]);
        }
        self.call(&arguments, Some(stdio))?;
        if let Some(console) = console {
            ends.adopt_terminal(console.receive()?, plan)
                .map_err(|errno| system("take over the terminal", errno))?;
        }
        let text = std::fs::read_to_string(&pid_file).map_err(|error| fault("read the runtime's pid file", &error))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Fault {
            message: format!("no process id: {text:?}"),
            ..Fault::default()
        })?;
        let pidfd = wharf_sys::handle::open(pid).map_err(|errno| system("open the pidfd", errno))?;
        Ok(Made {
            pid: pid.as_raw_nonzero().get(),
            pidfd,
            ends,
        })
    }

    /// Runs a verb and waits for it; a failure carries the runtime's last message.
    fn call(&self, verb: &[&str], stdio: Option<Stdio>) -> Result<(), Fault> {
        let log = self.place.join("runtime.log");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new(&self.path);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
            .args(&self.args)
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(&log);
        command.args(["--log-format", "json"]).args(verb).arg(&self.id);
        connect(&mut command, stdio)?;
        let status = command
            .status()
            .map_err(|error| fault(&format!("run {}", self.path.display()), &error))?;
        if status.success() {
            return Ok(());
        }
        let message = last_message(&std::fs::read_to_string(&log).unwrap_or_default())
            .map(|message| in_runcs_words(&message))
            .unwrap_or_else(|| format!("{} {} failed: {status}", self.path.display(), verb[0]));
        Err(Fault {
            kind: kind_of(&message),
            message,
            step: verb.first().map(|verb| (*verb).to_owned()),
            errno: None,
        })
    }
}

/// The runtime's own streams become the container's.
fn connect(command: &mut Command, stdio: Option<Stdio>) -> Result<(), Fault> {
    let null = || {
        let file = File::options().read(true).write(true).open("/dev/null");
        file.map(std::process::Stdio::from)
            .map_err(|error| fault("open /dev/null", &error))
    };
    match stdio {
        Some(Stdio::Fds { stdin, stdout, stderr }) => {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        Some(Stdio::Terminal | Stdio::Inherit | Stdio::Foreground) | None => {
            command.stdin(null()?).stdout(null()?).stderr(null()?);
        }
    }
    Ok(())
}

/// The message of the last error in a runtime's JSON log.
fn last_message(log: &str) -> Option<String> {
    let message = |line: &str| {
        let entry: Value = serde_json::from_str(line).ok()?;
        (entry["level"] == "error").then(|| entry["msg"].as_str().map(str::to_owned))?
    };
    log.lines().rev().find_map(message)
}

/// COMPAT: clients look for the words of runc, whichever runtime speaks; and the engine itself says of every runtime
/// that an exec failed.
pub(super) fn in_runcs_words(message: &str) -> String {
    message
        .trim_start_matches(EXEC_FAILED)
        .replace("No such file or directory", "no such file or directory")
        .replace("Permission denied", "permission denied")
}

/// COMPAT: clients, Docker's among them, tell these failures apart by their words alone.
pub(super) fn kind_of(message: &str) -> FaultKind {
    let has = |words: &str| message.contains(words);
    if has("executable file not found") || has("no such file or directory") {
        FaultKind::CommandNotFound
    } else if has("permission denied") || has("is a directory") {
        FaultKind::CommandNotExecutable
    } else {
        FaultKind::System
    }
}

/// Where the runtime sends the terminal.
struct Console {
    listener: OwnedFd,
    path: PathBuf,
    /// The path goes through this descriptor.
    _dir: File,
}

impl Console {
    /// The path goes through this process, as the real one may be too long for a socket.
    fn listen(place: &Path) -> Result<Self, Fault> {
        const NAME: &str = "console";
        let _ = std::fs::remove_file(place.join(NAME));
        let dir = File::open(place).map_err(|error| fault("open the shim's directory", &error))?;
        let short = crate::identity::socket_path(dir.as_fd(), NAME);
        let listener =
            std::os::unix::net::UnixListener::bind(short).map_err(|error| fault("make a console", &error))?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
        let path = PathBuf::from(format!("/proc/{}/fd/{number}/{NAME}", std::process::id()));
        Ok(Self {
            listener: listener.into(),
            path,
            _dir: dir,
        })
    }

    /// The terminal, which was sent before the runtime returned.
    fn receive(self) -> Result<OwnedFd, Fault> {
        let socket = rustix::net::accept(&self.listener).map_err(|errno| system("accept the console", errno))?;
        let mut name = [0u8; 4096];
        let (_, fds) =
            wharf_sys::fdpass::receive(&socket, &mut name).map_err(|errno| system("receive the console", errno))?;
        fds.into_iter().next().ok_or_else(|| Fault {
            message: "the runtime sent no console".into(),
            ..Fault::default()
        })
    }
}

/// Writes a value for the runtime to read.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), Fault> {
    let text = serde_json::to_vec(value).map_err(|error| fault("spell JSON", &std::io::Error::other(error)))?;
    std::fs::write(path, text).map_err(|error| fault(&format!("write {}", path.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_runtime_is_its_message() {
        let log = "{\"level\":\"error\",\"msg\":\"first\"}\nnoise\n{\"level\":\"error\",\"msg\":\"second\"}\n{\"level\":\"info\",\"msg\":\"x\"}\n";
        assert_eq!(last_message(log).as_deref(), Some("second"));
        assert_eq!(last_message(""), None);
    }

    #[test]
    fn messages_get_the_words_that_clients_look_for() {
        let check = |said: &str, expected: &str| assert_eq!(in_runcs_words(said), expected);
        check(
            "executable file `/x` not found in $PATH: No such file or directory",
            "executable file `/x` not found in $PATH: no such file or directory",
        );
        check(
            "exec failed: unable to start container process: exec: \"x\": permission denied",
            "exec: \"x\": permission denied",
        );
    }

    #[test]
    fn failures_are_told_apart_by_their_words() {
        assert_eq!(
            kind_of("exec: \"x\": executable file not found in $PATH"),
            FaultKind::CommandNotFound
        );
        assert_eq!(
            kind_of("exec: \"/etc\": permission denied"),
            FaultKind::CommandNotExecutable
        );
        assert_eq!(kind_of("cgroup trouble"), FaultKind::System);
    }
}
