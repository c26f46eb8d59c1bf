//! The seccomp listener: the descriptor on which an agent answers notified
//! calls is taken out of the process that loaded the filter and sent to the
//! agent's socket (config-linux.md#seccomp, runtime-linux.md).
//!
//! ```text
//! init                              runtime                     agent
//!   | load the filter, listener = n    |                          |
//!   | -- write: Listener(n) ---------> | pidfd_getfd(init, n)      |
//!   |                                  | -- state, descriptor --> |
//!   | <- ListenerTaken --------------- |                          |
//! ```
//!
//! ORDER: from the load on every call of init may be one that the agent must
//! answer, who has no descriptor yet; `write` alone never is, so init says the
//! number with it and the runtime fetches the descriptor from outside.

use crate::channel::{Channel, Message, unexpected};
use crate::hooks::HookState;
use crate::spec::Seccomp;
use crate::{ErrorKind, RuntimeError};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::Serialize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `fds` of the state: which descriptor is which.
const SECCOMP_FD_NAME: &str = "seccompFd";

const FIELD: &str = "linux.seccomp.listenerPath";

/// What an agent gets beside the descriptor (runtime-linux.md#containerprocessstate).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: &'a HookState<'a>,
}

/// Whether calls are notified, so that someone must listen.
pub(crate) fn is_wanted(seccomp: &Seccomp) -> bool {
    seccomp.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY")
}

/// A process that loads a filter with notified calls.
pub(crate) struct Listened<'a> {
    pub(crate) seccomp: &'a Seccomp,
    pub(crate) pid: i32,
    pub(crate) pidfd: BorrowedFd<'a>,
    pub(crate) state: HookState<'a>,
}

impl Listened<'_> {
    /// Fetches the listener and hands it to the agent.
    pub(crate) fn hand_over(&self, number: i32) -> Result<(), RuntimeError> {
        let listener = pidfd_getfd(self.pidfd, number, PidfdGetfdFlags::empty()).map_err(|errno| match errno {
            Errno::NOSYS => RuntimeError::invalid(
                "linux.seccomp",
                "linux.seccomp: SCMP_ACT_NOTIFY needs pidfd_getfd(2) of Linux 5.6",
            ),
            errno => RuntimeError::system("linux.seccomp", "take the seccomp listener", errno),
        })?;
        let path = self.seccomp.listener_path.as_deref().unwrap_or(Path::new(""));
        let document = ContainerProcessState {
            oci_version: crate::spec::VERSION,
            fds: [SECCOMP_FD_NAME],
            pid: self.pid,
            metadata: self.seccomp.listener_metadata.as_deref(),
            state: &self.state,
        };
        let text = serde_json::to_vec(&document).map_err(|error| {
            RuntimeError::new(ErrorKind::System, "linux.seccomp", format!("write the state: {error}"))
        })?;
        let failed = |what: &'static str| {
            move |errno| RuntimeError::system(FIELD, format!("{FIELD}: {what} {}", path.display()), errno)
        };
        let agent = connect(path).map_err(failed("failed to connect with seccomp agent"))?;
        send(&agent, &text, &listener).map_err(failed("send the listener to seccomp agent"))
    }
}

fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The descriptor goes with the first bytes; the end of the stream ends the document.
fn send(socket: &OwnedFd, text: &[u8], listener: &OwnedFd) -> Result<(), Errno> {
    let mut left = text;
    let mut sent = wharf_sys::fdpass::send(socket, left, &[listener.as_fd()])?;
    loop {
        left = left.get(sent..).unwrap_or_default();
        if left.is_empty() {
            return Ok(());
        }
        sent = wharf_sys::fdpass::send(socket, left, &[])?;
    }
}

/// The filtered process's side: tells the number and waits until the agent listens.
pub(crate) fn announce(channel: &Channel, listener: OwnedFd) -> Result<(), RuntimeError> {
    channel
        .send_by_write(&Message::Listener(listener.as_raw_fd()))
        .map_err(|errno| RuntimeError::system("linux.seccomp", "announce the seccomp listener", errno))?;
    match channel.receive()? {
        Some(Message::ListenerTaken) => Ok(()),
        _ => Err(unexpected("something else than that the seccomp listener is taken")),
    }
}
