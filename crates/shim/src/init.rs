//! The init of containers that ask for one (`--init`): runs one program, hands signals on to
//! it, reaps whatever the container leaves behind, and ends as the program ended.
//!
//! It is this binary, mounted into the container and called as `docker-init`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use wharf_sys::Errno;
use wharf_sys::clone::fork;
use wharf_sys::signal::{SignalSet, block, open_signalfd, read_signalfd, set_mask};

/// As a shell says that a program does not exist.
const NOT_FOUND: i32 = 127;
/// As a shell says that a program cannot be executed.
const NOT_EXECUTABLE: i32 = 126;
/// SIGCHLD.
const CHILD_ENDED: i32 = 17;

/// Runs `[--] PROGRAM ARGS...` and returns the exit code to end with.
pub fn run(args: &[OsString]) -> i32 {
    let args = match args.first() {
        Some(first) if first == "--" => &args[1..],
        _ => args,
    };
    let Some((program, rest)) = args.split_first() else {
        eprintln!("docker-init: no program given");
        return NOT_FOUND;
    };
    match start_and_wait(program, rest) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("docker-init: {error}");
            NOT_EXECUTABLE
        }
    }
}

fn start_and_wait(program: &OsStr, args: &[OsString]) -> io::Result<i32> {
    // ORDER: blocked before the program exists, so that its end is not missed.
    block(SignalSet::all())?;
    let signals = open_signalfd(SignalSet::all())?;
    let child = fork(|| become_program(program, args))?;
    // A terminal's keys go to the program's own group; without a terminal there is nothing to do.
    let _ = rustix::termios::tcsetpgrp(io::stdin(), child.pid);
    serve(&signals, child.pid)
}

/// In the child: executes the program with nothing blocked, in a group of its own. Returns only
/// when that fails, with the exit code that says so.
fn become_program(program: &OsStr, args: &[OsString]) -> i32 {
    let ready = rustix::process::setpgid(None, None).and_then(|()| set_mask(SignalSet::empty()));
    let error = match ready {
        Ok(_) => Command::new(program).args(args).exec(),
        Err(errno) => errno.into(),
    };
    eprintln!("docker-init: exec {}: {error}", program.display());
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

/// Hands signals on and reaps until the program has ended.
fn serve(signals: &OwnedFd, program: Pid) -> io::Result<i32> {
    loop {
        match poll(&mut [PollFd::new(signals, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(number) = read_signalfd(signals.as_fd())? {
            if number == CHILD_ENDED {
                if let Some(code) = reap(program)? {
                    return Ok(code);
                }
            } else if let Some(signal) = Signal::from_named_raw(number) {
                let _ = kill_process(program, signal); // it may just have ended
            }
        }
    }
}

/// Reaps all who have ended; the program's exit code when it is among them.
fn reap(program: Pid) -> io::Result<Option<i32>> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => ended = Some(code_of(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(ended),
            Err(error) => return Err(error.into()),
        }
    }
}

fn code_of(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_end_as_in_a_shell() {
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(run(&[]), NOT_FOUND);
        assert_eq!(
            become_program(OsStr::new("/no/such/program"), &words(&["x"])),
            NOT_FOUND
        );
        assert_eq!(become_program(OsStr::new("/"), &[]), NOT_EXECUTABLE);
    }
}
