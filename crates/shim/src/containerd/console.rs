//! Copying between a terminal and containerd's fifos.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

/// What may wait in one direction.
const MAX_WAITING: usize = 32 << 10;

/// How long a client may take to read what an ended process wrote.
const LINGER: Duration = Duration::from_secs(10);

/// The master side of a process's terminal, and the client's streams.
#[derive(Debug)]
pub(super) struct Console {
    master: OwnedFd,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    to_process: Vec<u8>,
    to_client: Vec<u8>,
    /// The process has nothing more to say.
    is_silent: bool,
    /// The process has ended; from then on the client has limited time.
    ends_at: Option<Instant>,
}

impl Console {
    /// All three descriptors must not block.
    pub(super) fn new(master: OwnedFd, (stdin, stdout): (Option<OwnedFd>, Option<OwnedFd>)) -> Self {
        Self {
            master,
            stdin,
            stdout,
            to_process: Vec::new(),
            to_client: Vec::new(),
            is_silent: false,
            ends_at: None,
        }
    }

    pub(super) fn resize(&self, rows: u16, cols: u16) -> Result<(), Errno> {
        wharf_sys::pty::resize(&self.master, rows, cols)
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::new();
        let mut master = PollFlags::empty();
        master.set(PollFlags::IN, self.to_client.len() < MAX_WAITING);
        master.set(PollFlags::OUT, !self.to_process.is_empty());
        if !self.is_silent && !master.is_empty() {
            all.push((self.master.as_fd(), master));
        }
        if let Some(stdin) = &self.stdin
            && self.to_process.len() < MAX_WAITING
        {
            all.push((stdin.as_fd(), PollFlags::IN));
        }
        if let Some(stdout) = &self.stdout
            && !self.to_client.is_empty()
        {
            all.push((stdout.as_fd(), PollFlags::OUT));
        }
        all
    }

    /// Moves what can be moved.
    pub(super) fn pump(&mut self) {
        if let Some(stdin) = &self.stdin
            && self.to_process.len() < MAX_WAITING
        {
            let _ = read_into(stdin, &mut self.to_process);
        }
        let _ = write_from(&self.master, &mut self.to_process);
        loop {
            let has_room = self.to_client.len() < MAX_WAITING;
            let has_read = has_room && !self.is_silent && self.read_master();
            match &self.stdout {
                // Nobody wants it.
                None => self.to_client.clear(),
                Some(stdout) => {
                    let _ = write_from(stdout, &mut self.to_client);
                }
            }
            if !has_read {
                break;
            }
        }
    }

    /// A terminal whose other side nobody has open reports an input/output error.
    fn read_master(&mut self) -> bool {
        match read_into(&self.master, &mut self.to_client) {
            // A process that was left behind may hold the terminal open: what is there now is everything.
            Ok(0) => {
                self.is_silent = self.ends_at.is_some();
                false
            }
            Ok(_) => true,
            Err(_) => {
                self.is_silent = true;
                false
            }
        }
    }

    /// The process has ended: what it wrote still goes to the client.
    pub(super) fn finish(&mut self) {
        self.stdin = None;
        self.to_process = Vec::new();
        self.ends_at.get_or_insert(Instant::now() + LINGER);
        self.pump();
    }

    /// Until when a client that does not read is waited for.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.ends_at
    }

    /// Whether the client got everything, or had its time.
    pub(super) fn is_over(&self) -> bool {
        self.ends_at
            .is_some_and(|at| (self.is_silent && self.to_client.is_empty()) || Instant::now() >= at)
    }
}

/// How many bytes were there; an end is an error.
fn read_into(fd: &OwnedFd, waiting: &mut Vec<u8>) -> Result<usize, Errno> {
    let mut buffer = [0u8; 8 << 10];
    match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut buffer)) {
        Ok(0) => Err(Errno::IO),
        Ok(length) => {
            waiting.extend_from_slice(&buffer[..length]);
            Ok(length)
        }
        Err(Errno::AGAIN) => Ok(0),
        Err(errno) => Err(errno),
    }
}

fn write_from(fd: &OwnedFd, waiting: &mut Vec<u8>) -> Result<(), Errno> {
    while !waiting.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(fd, waiting)) {
            Ok(count) => drop(waiting.drain(..count)),
            Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => {
                waiting.clear();
                return Err(errno);
            }
        }
    }
    waiting.shrink_to(0);
    Ok(())
}
