//! A target and everything between it and the output of the container.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::encode::{Encode, encoder_of};
use super::lines::LineSplitter;
use super::link::{Link, Step, Wish};
use super::outgoing::{Outgoing, Sent};
use super::plan::{Address, TargetPlan};
use super::queue::{Message, Queue};
use crate::log::Stream;

/// How long a container waits for a target that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long connecting may take, names and TLS included.
const CONNECT: Duration = Duration::from_secs(20);

/// Encoded bytes that lie ready.
const READY: usize = 32 << 10;

/// Messages of a container on their way to a target. Never blocks.
#[derive(Debug)]
pub struct Remote {
    plan: TargetPlan,
    link: Link,
    encoder: Option<Box<dyn Encode>>,
    lines: LineSplitter,
    queue: Queue,
    outgoing: Outgoing,
    /// What the receiver has to say before more is sent, and what it has said so far.
    awaited: Option<Vec<u8>>,
    /// The message that it is about, to be sent again otherwise.
    unconfirmed: Vec<u8>,
    answer: Vec<u8>,
    retry_at: Option<Instant>,
    connecting_since: Instant,
    wait: Duration,
    attempts: u32,
    last_progress: Instant,
    last_ns: i64,
    dropped: u64,
    error: Option<String>,
    is_given_up: bool,
}

impl Remote {
    /// Begins to connect.
    pub fn new(plan: TargetPlan) -> Self {
        let is_datagram = matches!(plan.address, Address::Udp { .. });
        let now = Instant::now();
        let mut remote = Self {
            link: Link::new(plan.address.clone(), plan.helper.clone()),
            encoder: encoder_of(&plan.format, is_datagram),
            lines: LineSplitter::default(),
            queue: Queue::new(plan.buffer_bytes),
            outgoing: Outgoing::default(),
            awaited: None,
            unconfirmed: Vec::new(),
            answer: Vec::new(),
            retry_at: None,
            connecting_since: now,
            wait: Duration::from_millis(plan.retry_ms),
            attempts: 0,
            last_progress: now,
            last_ns: 0,
            dropped: 0,
            error: None,
            is_given_up: false,
            plan,
        };
        if remote.encoder.is_none() {
            remote.give_up("this shim does not know the target's format");
        } else {
            remote.connect();
        }
        remote
    }

    /// Takes what a process wrote to a stream at a time.
    pub fn append(&mut self, stream: Stream, bytes: &[u8], time_ns: i64) {
        self.last_ns = time_ns;
        let queue = &mut self.queue;
        self.lines.split(stream, bytes, time_ns, |message| queue.push(message));
        self.after_append();
    }

    /// Takes unfinished lines as they are; call when the streams have ended.
    pub fn finish(&mut self) {
        let queue = &mut self.queue;
        self.lines.finish(self.last_ns, |message| queue.push(message));
        self.after_append();
    }

    fn after_append(&mut self) {
        if self.is_given_up {
            self.queue.clear();
        } else {
            self.pump();
        }
    }

    /// Acts on the readiness of the descriptor.
    pub fn on_ready(&mut self, readable: bool, hung_up: bool) {
        if self.link.is_up() {
            if (readable || hung_up) && self.read_answer().is_err() {
                self.fail("the target closed the connection");
            }
        } else {
            let step = self.link.advance();
            self.take_step(step);
        }
        self.pump();
    }

    /// Does what is due by now.
    pub fn on_time(&mut self) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.connect();
            self.pump();
        }
        if self.stalled_at().is_some_and(|at| at <= now) {
            let is_up = self.link.is_up();
            self.fail(if is_up {
                "the target takes nothing"
            } else {
                "connecting took too long"
            });
        }
    }

    /// When [`Remote::on_time`] or [`Remote::holds_up`] is to be asked again.
    pub fn deadline(&self) -> Option<Instant> {
        let patience = Some(self.last_progress + PATIENCE).filter(|_| self.holds_up(true));
        [self.retry_at, self.stalled_at(), patience].into_iter().flatten().min()
    }

    /// When the present connection counts as dead.
    fn stalled_at(&self) -> Option<Instant> {
        if self.link.is_down() {
            return None;
        }
        if !self.link.is_up() {
            return Some(self.connecting_since + CONNECT);
        }
        let is_owed = !self.outgoing.is_empty() || self.awaited.is_some();
        (is_owed && self.plan.stall_ms > 0).then(|| self.last_progress + Duration::from_millis(self.plan.stall_ms))
    }

    /// The descriptor to watch, a number that changes with it, and for what.
    pub fn watched(&self) -> Option<(BorrowedFd<'_>, u32, Wish)> {
        self.link.watched(!self.outgoing.is_empty())
    }

    /// Whether the container has to wait for the target, given whether it waits already.
    pub fn holds_up(&self, is_waiting: bool) -> bool {
        let fill = if is_waiting { 25 } else { 50 };
        self.plan.waits
            && self.attempts == 0
            && !self.is_given_up
            && self.queue.is_over(fill)
            && self.last_progress.elapsed() < PATIENCE
    }

    /// Whether nothing is owed to the target, or nothing can be given to it.
    pub fn is_done(&self) -> bool {
        self.is_given_up || (self.queue.is_empty() && self.outgoing.is_empty() && self.awaited.is_none())
    }

    /// Lines lost since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.queue.dropped()
    }

    /// Why the target takes nothing at present.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    fn connect(&mut self) {
        self.retry_at = None;
        self.connecting_since = Instant::now();
        let step = self.link.begin();
        self.take_step(step);
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Pending => {}
            Step::Up => {
                self.error = None;
                // ORDER: a target that has just come is given its time.
                self.last_progress = Instant::now();
            }
            Step::Failed(reason) => self.fail(&reason),
        }
    }

    /// Closes the connection and tries again later.
    fn fail(&mut self, reason: &str) {
        self.link.close();
        if self.awaited.take().is_some() {
            self.outgoing.buffer().append(&mut self.unconfirmed);
            self.outgoing.end_packet();
        }
        self.outgoing.rewind();
        self.answer.clear();
        self.error = Some(reason.to_owned());
        self.attempts = self.attempts.saturating_add(1);
        if self.plan.max_retries.is_some_and(|most| self.attempts > most) {
            return self.give_up(&format!("given up: {reason}"));
        }
        self.retry_at = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(Duration::from_millis(self.plan.retry_max_ms.max(self.plan.retry_ms)));
    }

    fn give_up(&mut self, reason: &str) {
        self.is_given_up = true;
        self.error = Some(reason.to_owned());
        self.retry_at = None;
        self.dropped += u64::try_from(self.outgoing.packets()).unwrap_or(0);
        self.outgoing.clear();
        self.queue.clear();
    }

    /// Sends until the target takes no more or everything is sent.
    fn pump(&mut self) {
        while self.awaited.is_none() && self.refill() {
            let Some((fd, is_datagram)) = self.link.connected() else {
                return;
            };
            let before = self.outgoing.position();
            if self.encoder.as_ref().is_some_and(|encoder| encoder.awaited().is_some()) {
                self.unconfirmed.clone_from(self.outgoing.buffer());
            }
            let sent = self.outgoing.send(fd, is_datagram);
            self.dropped += self.outgoing.take_refused();
            if sent == Ok(Sent::All) || self.outgoing.position() != before {
                self.note_progress();
            }
            match sent {
                Ok(Sent::All) => {
                    self.awaited = self
                        .encoder
                        .as_ref()
                        .and_then(|encoder| encoder.awaited())
                        .map(<[u8]>::to_vec);
                }
                Ok(Sent::Full) => return,
                Err(errno) => return self.fail(&format!("cannot send to the target: {}", std::io::Error::from(errno))),
            }
        }
    }

    fn note_progress(&mut self) {
        self.last_progress = Instant::now();
        self.attempts = 0;
        self.wait = Duration::from_millis(self.plan.retry_ms);
    }

    /// Encodes waiting lines; false if there is nothing to send.
    fn refill(&mut self) -> bool {
        let Some(encoder) = &mut self.encoder else { return false };
        if !self.link.is_up() || !self.outgoing.is_empty() {
            return !self.outgoing.is_empty();
        }
        while self.outgoing.len() < READY {
            let lost = if self.queue.is_over(50) {
                0
            } else {
                self.queue.take_dropped()
            };
            if lost > 0 {
                self.dropped += lost;
                encoder.encode(&note(lost, self.last_ns), &mut self.outgoing);
            } else if let Some(message) = self.queue.pop() {
                encoder.encode(&message, &mut self.outgoing);
            } else {
                break;
            }
            if encoder.awaited().is_some() {
                break;
            }
        }
        !self.outgoing.is_empty()
    }

    /// Reads what the target says: confirmations, or nothing of interest.
    fn read_answer(&mut self) -> Result<(), Errno> {
        let Some((fd, is_datagram)) = self.link.connected() else {
            return Ok(());
        };
        if is_datagram {
            // Taken off the socket, which would be reported as ready for ever; sending tells the rest.
            let _ = rustix::net::sockopt::socket_error(fd);
            return Ok(());
        }
        let mut chunk = [0u8; 1024];
        loop {
            match rustix::io::read(fd, &mut chunk) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(length) => self.answer.extend_from_slice(&chunk[..length]),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno),
            }
            let is_confirmed = |wanted: &Vec<u8>| self.answer.windows(wanted.len()).any(|part| part == wanted);
            if self.awaited.as_ref().is_some_and(is_confirmed) {
                self.awaited = None;
                self.answer.clear();
                self.last_progress = Instant::now();
            }
            if self.answer.len() > 8192 {
                self.answer.clear();
            }
        }
        Ok(())
    }
}

/// What the target is told about lines it did not get.
fn note(lost: u64, time_ns: i64) -> Message {
    Message {
        stream: Stream::Stderr,
        time_ns,
        line: format!("wharf: {lost} log lines were dropped, the target was too slow or away").into_bytes(),
        is_piece: false,
        is_last: true,
    }
}
