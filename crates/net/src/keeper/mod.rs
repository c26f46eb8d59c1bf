//! The engine's side of the instance's keeper: the process (a role of the shim
//! binary) that serves names and loopback ports while engines come and go.
//!
//! ```text
//! <run>/keeper/sock   its control socket, one engine at a time
//!             /pid    "<pid> <start time in ticks>"
//! ```
//! A keeper holds no truth: [`Keeper::open`] adopts one or starts one and says
//! what it has; the caller sends what is missing. Requests and answers are
//! JSON behind a length of four bytes, big endian; descriptors travel with the
//! request that needs them, in the order of its changes.

mod process;
mod wire;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::NetError;
pub(crate) use process::{remove, watch};
use wire::Request;
pub(crate) use wire::{Answer, Change, PortKey};

/// Longest wait for an answer; the keeper's work is all in memory.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most descriptors of one request (`wharf_sys::fdpass` allows a few more).
const FDS_PER_REQUEST: usize = 60;
const ANSWER_MAX: usize = 16 << 20;

fn keeper_error(action: &'static str) -> impl FnOnce(io::Error) -> NetError {
    move |source| NetError::Keeper { action, source }
}

/// Where a keeper lives and what it is started from.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub instance: String,
    /// `<run>/keeper`
    pub directory: PathBuf,
    pub binary: PathBuf,
}

impl Home {
    pub(crate) fn new(instance: &str, run: &Path, binary: &Path) -> Home {
        Home {
            instance: instance.to_owned(),
            directory: run.join("keeper"),
            binary: binary.to_owned(),
        }
    }
}

/// A connection to the keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    stream: UnixStream,
    /// Its process.
    pub pid: i32,
    /// Ports it should hold and that somebody else has.
    pub ports_refused: Vec<PortKey>,
}

impl Keeper {
    /// Adopts the running keeper or starts one; answers what it holds already.
    pub(crate) fn open(home: &Home) -> Result<(Keeper, Answer), NetError> {
        if let Ok(stream) = process::connect(home)
            && let Ok(found) = Keeper::greet(stream)
        {
            return Ok(found);
        }
        process::remove(home)?;
        Keeper::greet(process::spawn(home)?)
    }

    fn greet(stream: UnixStream) -> Result<(Keeper, Answer), NetError> {
        let timeouts = stream
            .set_read_timeout(Some(DEADLINE))
            .and(stream.set_write_timeout(Some(DEADLINE)));
        timeouts.map_err(keeper_error("setting its deadline"))?;
        let mut keeper = Keeper {
            stream,
            pid: 0,
            ports_refused: Vec::new(),
        };
        let answer = keeper.call(&Request::Hello { version: wire::VERSION }, &[])?;
        keeper.pid = answer.pid;
        Ok((keeper, answer))
    }

    /// Makes changes, all those of one request at once.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<(), NetError> {
        let mut rest = changes;
        while !rest.is_empty() {
            let mut fds: Vec<BorrowedFd> = Vec::new();
            let fitting = rest.iter().take_while(|change| {
                let fits = fds.len() + change.descriptors().len() <= FDS_PER_REQUEST;
                fds.extend(change.descriptors());
                fits
            });
            let count = fitting.count();
            let (part, others) = rest.split_at(count);
            fds.truncate(part.iter().map(|change| change.descriptors().len()).sum());
            self.call(&Request::Apply { changes: part }, &fds)?;
            rest = others;
        }
        Ok(())
    }

    fn call(&mut self, request: &Request, fds: &[BorrowedFd]) -> Result<Answer, NetError> {
        let body = serde_json::to_vec(request).map_err(|error| keeper_error("writing a request")(error.into()))?;
        self.send(&body, fds).map_err(keeper_error("sending a request"))?;
        let answer = self.receive().map_err(keeper_error("reading an answer"))?;
        match answer.error {
            Some(message) => Err(NetError::KeeperAnswer { message }),
            None => Ok(answer),
        }
    }

    fn send(&mut self, body: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The descriptors travel with the length, and the whole of it: four bytes are never split.
        wharf_sys::fdpass::send(self.stream.as_fd(), &length.to_be_bytes(), fds)?;
        self.stream.write_all(body)
    }

    fn receive(&mut self) -> io::Result<Answer> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > ANSWER_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}
