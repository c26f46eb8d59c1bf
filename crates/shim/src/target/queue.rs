//! Lines that wait for a target: bounded, in order, cheap to keep.

use std::collections::VecDeque;

use crate::log::Stream;

/// Bytes kept beside each line: length, time, flags.
const HEADER: usize = 4 + 8 + 1;

const STDERR: u8 = 1;
const PARTIAL: u8 = 2;
const LAST: u8 = 4;

/// One line, or one piece of a long one, without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) stream: Stream,
    /// Nanoseconds since 1970.
    pub(super) time_ns: i64,
    pub(super) line: Vec<u8>,
    /// A piece of a line that did not fit into one message.
    pub(super) is_piece: bool,
    /// The line ends here.
    pub(super) is_last: bool,
}

/// The queue. Lines lie one behind the other in one buffer.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: VecDeque<u8>,
    limit: usize,
    /// Lines that found no room since the last [`Queue::take_dropped`].
    dropped: u64,
}

impl Queue {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            dropped: 0,
        }
    }

    /// Keeps a line, or counts it as lost. COMPAT: a line alone is always taken, however long it is.
    pub(super) fn push(&mut self, message: &Message) {
        let needed = HEADER + message.line.len();
        if !self.bytes.is_empty() && self.bytes.len() + needed > self.limit {
            self.dropped += 1;
            return;
        }
        let mut flags = 0;
        for (is_set, flag) in [
            (message.stream == Stream::Stderr, STDERR),
            (message.is_piece, PARTIAL),
            (message.is_last, LAST),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let length = u32::try_from(message.line.len()).expect("invariant: lines are split at 16 KiB");
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(message.time_ns.to_le_bytes());
        self.bytes.push_back(flags);
        self.bytes.extend(&message.line);
    }

    /// The oldest line.
    pub(super) fn pop(&mut self) -> Option<Message> {
        if self.bytes.is_empty() {
            // Memory of a target that was away for long is given back.
            self.bytes.shrink_to(4096);
            return None;
        }
        let length = u32::from_le_bytes(self.take()) as usize;
        let time_ns = i64::from_le_bytes(self.take());
        let [flags] = self.take();
        let line = self.bytes.drain(..length).collect();
        Some(Message {
            stream: if flags & STDERR != 0 {
                Stream::Stderr
            } else {
                Stream::Stdout
            },
            time_ns,
            line,
            is_piece: flags & PARTIAL != 0,
            is_last: flags & LAST != 0,
        })
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        for byte in &mut taken {
            *byte = self.bytes.pop_front().expect("invariant: lines are kept whole");
        }
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether more than a part of the room is taken.
    pub(super) fn is_over(&self, hundredths: usize) -> bool {
        self.bytes.len() / 100 >= self.limit / 10_000 * hundredths && !self.bytes.is_empty()
    }

    /// Lines lost; counted from zero again.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Lines lost and not taken note of.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Gives everything up.
    pub(super) fn clear(&mut self) {
        while self.pop().is_some() {
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &[u8], stream: Stream) -> Message {
        Message {
            stream,
            time_ns: -5,
            line: line.to_vec(),
            is_piece: stream == Stream::Stderr,
            is_last: line.is_empty(),
        }
    }

    #[test]
    fn lines_come_back_in_order_and_unchanged() {
        let mut queue = Queue::new(1000);
        let lines = [message(b"", Stream::Stdout), message(b"\xff\n", Stream::Stderr)];
        lines.iter().for_each(|line| queue.push(line));
        assert_eq!([queue.pop(), queue.pop()], lines.map(Some));
        assert_eq!((queue.pop(), queue.take_dropped()), (None, 0));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_a_single_line_always_fits() {
        let mut queue = Queue::new(40);
        queue.push(&message(&[b'x'; 500], Stream::Stdout));
        queue.push(&message(b"y", Stream::Stdout));
        assert_eq!(queue.pop().map(|message| message.line.len()), Some(500));
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (1, 0));
        queue.push(&message(b"z", Stream::Stdout));
        queue.clear();
        assert_eq!((queue.pop(), queue.dropped()), (None, 1));
    }
}
