//! Making the standard streams of a process.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use wharf_runtime::Stdio;

use super::process::{Input, Output};
use crate::log::Stream;
use crate::plan::StdioPlan;

/// Our ends of a process's streams.
#[derive(Debug, Default)]
pub(super) struct OurEnds {
    pub(super) outputs: [Option<Output>; 2],
    pub(super) input: Input,
    pub(super) terminal: Option<OwnedFd>,
}

/// Makes pipes (or leaves the terminal to the runtime): the process's ends and ours.
pub(super) fn prepare(plan: StdioPlan) -> Result<(Stdio, OurEnds), Errno> {
    if plan.terminal {
        return Ok((Stdio::Terminal, OurEnds::default()));
    }
    let (stdin, input) = if plan.open_stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        (theirs, Some(never_block(ours)?))
    } else {
        (
            rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            None,
        )
    };
    let (ours_out, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (ours_err, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let output = |fd, stream| {
        Ok::<_, Errno>(Some(Output {
            fd: never_block(fd)?,
            stream,
        }))
    };
    let outputs = [output(ours_out, Stream::Stdout)?, output(ours_err, Stream::Stderr)?];
    Ok((
        Stdio::Fds { stdin, stdout, stderr },
        OurEnds {
            outputs,
            input: Input::new(input),
            terminal: None,
        },
    ))
}

impl OurEnds {
    /// Takes over the master side of a terminal: one descriptor to read, one to write, one to keep.
    pub(super) fn adopt_terminal(&mut self, master: OwnedFd, plan: StdioPlan) -> Result<(), Errno> {
        let master = never_block(master)?;
        let duplicate = || rustix::io::fcntl_dupfd_cloexec(&master, 3);
        self.outputs = [
            Some(Output {
                fd: duplicate()?,
                stream: Stream::Stdout,
            }),
            None,
        ];
        self.input = Input::new(if plan.open_stdin { Some(duplicate()?) } else { None });
        if let Some(size) = plan.console_size {
            wharf_sys::pty::resize(&master, size.rows, size.cols)?;
        }
        self.terminal = Some(master);
        Ok(())
    }
}

/// Only our end: the other end of a pipe is another open file.
fn never_block(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(fd)
}
