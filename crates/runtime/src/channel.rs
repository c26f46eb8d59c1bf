//! What the runtime and a process it is setting up say to each other, over
//! a pair of SEQPACKET sockets.
//!
//! ```text
//! runtime                          init
//!    | -- Ready-made (maps, cgroup) ->|   Prepared
//!    | -- filter ------------------->|   Filter(instructions)
//!    |<- warnings, console ---------- |   Warning, Console
//!    |<- network devices, please ----- |   MoveDevices (answered by DevicesMoved)
//!    |<- ids of a tree, please -------- |   MapIds     (answered by IdsMapped)
//!    |<- hooks, please -------------- |   RunHooks   (answered by HooksDone)
//!    |<- listener of the filter ------ |   Listener   (answered by ListenerTaken)
//!    |<- everything stands ---------- |   Standing
//!    | -- kept -------------------->|   Kept, when another process starts it
//!    | -- go ----------------------->|   Go
//!    |<- error, or the end ---------- |   Failed, or closed by execve
//! ```

use crate::{ErrorKind, RuntimeError};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_sys::fdpass;

/// More than the longest filter (4,096 instructions of 8 bytes).
const MAX_MESSAGE: usize = 40 * 1024;

/// One message.
#[derive(Debug)]
pub(crate) enum Message {
    /// Id maps are written and the cgroup is joined.
    Prepared,
    /// The compiled system call filter.
    Filter(Vec<u8>),
    /// Something failed without harm.
    Warning(String),
    /// The master side of the terminal.
    Console(OwnedFd),
    /// The network namespace stands; move the devices in.
    MoveDevices,
    /// They are in.
    DevicesMoved,
    /// This detached tree is the source of the mount with this index; map its ids.
    MapIds(usize, OwnedFd),
    /// They are mapped.
    IdsMapped,
    /// Mounts stand; run the hooks of this stage.
    RunHooks,
    /// They ran.
    HooksDone,
    /// Everything is set up.
    Standing,
    /// The filter is loaded; its listener has this number in the sender.
    Listener(i32),
    /// The agent has the listener.
    ListenerTaken,
    /// The container is recorded: init may outlive the runtime.
    Kept,
    /// Execute the program.
    Go,
    /// The step failed; the process ends.
    Failed(RuntimeError),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// Both ends: the runtime's and the child's.
pub(crate) fn pair() -> Result<(Channel, Channel), RuntimeError> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map(|(a, b)| (Channel(a), Channel(b)))
        .map_err(|errno| RuntimeError::system("channel", "make a socket pair", errno))
}

impl Channel {
    /// An end inherited or accepted from elsewhere.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends one message.
    pub(crate) fn send(&self, message: &Message) -> Result<(), Errno> {
        let fds: Vec<BorrowedFd<'_>> = match message {
            Message::Console(fd) | Message::MapIds(_, fd) => vec![fd.as_fd()],
            _ => Vec::new(),
        };
        fdpass::send(&self.0, &encode(message)?, &fds).map(drop)
    }

    /// Sends one message without descriptors by write(2) and no other call.
    pub(crate) fn send_by_write(&self, message: &Message) -> Result<(), Errno> {
        rustix::io::write(&self.0, &encode(message)?).map(drop)
    }

    /// Waits for a message and takes it, in a buffer of its size: most are a byte long, and memory that was
    /// written to is what a process of this kind costs.
    fn receive_bytes(&self) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
        let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, length) = rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut [0u8; 0][..], peek))?;
        let mut bytes = vec![0u8; length.min(MAX_MESSAGE)];
        let (length, fds) = fdpass::receive(&self.0, &mut bytes)?;
        bytes.truncate(length);
        Ok((bytes, fds))
    }

    /// Receives one message; none when the other end is closed.
    pub(crate) fn receive(&self) -> Result<Option<Message>, RuntimeError> {
        // The other end closed without having read all that was sent to it. The kernel tells that once, and before
        // what is still queued from there: its last words come after.
        let mut received = self.receive_bytes();
        if matches!(received, Err(Errno::CONNRESET)) {
            received = self.receive_bytes();
        }
        let (bytes, mut fds) = match received {
            Ok(received) => received,
            Err(Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(RuntimeError::system("channel", "receive a message", errno)),
        };
        let Some((tag, body)) = bytes.split_first() else {
            return Ok(None);
        };
        let message = match tag {
            b'P' => Message::Prepared,
            b'F' => Message::Filter(body.to_vec()),
            b'W' => Message::Warning(String::from_utf8_lossy(body).into_owned()),
            b'C' => Message::Console(fds.pop().ok_or_else(|| unexpected("a console without descriptor"))?),
            b'N' => Message::MoveDevices,
            b'M' => Message::DevicesMoved,
            b'I' => Message::MapIds(
                usize::from_ne_bytes(
                    body.try_into()
                        .map_err(|_| unexpected("a tree without the index of its mount"))?,
                ),
                fds.pop().ok_or_else(|| unexpected("a tree without descriptor"))?,
            ),
            b'J' => Message::IdsMapped,
            b'H' => Message::RunHooks,
            b'D' => Message::HooksDone,
            b'S' => Message::Standing,
            b'L' => Message::Listener(i32::from_ne_bytes(
                body.try_into().map_err(|_| unexpected("a listener without a number"))?,
            )),
            b'T' => Message::ListenerTaken,
            b'K' => Message::Kept,
            b'G' => Message::Go,
            b'E' => {
                Message::Failed(serde_json::from_slice(body).map_err(|_| unexpected("an error that cannot be read"))?)
            }
            _ => return Err(unexpected("an unknown message")),
        };
        Ok(Some(message))
    }
}

/// Tag and body; descriptors travel beside them.
fn encode(message: &Message) -> Result<Vec<u8>, Errno> {
    let (tag, body): (u8, std::borrow::Cow<'_, [u8]>) = match message {
        Message::Prepared => (b'P', (&[][..]).into()),
        Message::Filter(bytes) => (b'F', bytes.as_slice().into()),
        Message::Warning(text) => (b'W', text.as_bytes().into()),
        Message::Console(_) => (b'C', (&[][..]).into()),
        Message::MoveDevices => (b'N', (&[][..]).into()),
        Message::DevicesMoved => (b'M', (&[][..]).into()),
        Message::MapIds(index, _) => (b'I', index.to_ne_bytes().to_vec().into()),
        Message::IdsMapped => (b'J', (&[][..]).into()),
        Message::RunHooks => (b'H', (&[][..]).into()),
        Message::HooksDone => (b'D', (&[][..]).into()),
        Message::Standing => (b'S', (&[][..]).into()),
        Message::Listener(number) => (b'L', number.to_ne_bytes().to_vec().into()),
        Message::ListenerTaken => (b'T', (&[][..]).into()),
        Message::Kept => (b'K', (&[][..]).into()),
        Message::Go => (b'G', (&[][..]).into()),
        Message::Failed(error) => (
            b'E',
            serde_json::to_vec(&error.shortened()).map_err(|_| Errno::INVAL)?.into(),
        ),
    };
    Ok([&[tag], body.as_ref()].concat())
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The other end said what it must not say here.
pub(crate) fn unexpected(what: &str) -> RuntimeError {
    RuntimeError::new(ErrorKind::System, "channel", format!("the other end sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_an_end_that_did_not_listen_are_heard() {
        let (ours, theirs) = pair().expect("a channel");
        ours.send(&Message::Prepared).expect("send");
        theirs.send(&Message::Warning("careful".into())).expect("send");
        theirs.send(&Message::Failed(unexpected("nothing"))).expect("send");
        drop(theirs);
        assert!(matches!(ours.receive(), Ok(Some(Message::Warning(text))) if text == "careful"));
        assert!(matches!(ours.receive(), Ok(Some(Message::Failed(_)))));
        assert!(matches!(ours.receive(), Ok(None)));
    }
}
