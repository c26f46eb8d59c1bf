//! The journal's native protocol (systemd: docs/JOURNAL_NATIVE_PROTOCOL.md): one datagram per entry.

use std::collections::BTreeMap;

use super::encode::{Encode, Pieces};
use super::outgoing::Outgoing;
use super::queue::Message;
use crate::log::{Stream, format_time};

#[derive(Debug)]
pub(super) struct JournaldEncoder {
    /// The fields that every entry has, ready to send.
    fixed: Vec<u8>,
    ordinal: u64,
    pieces: Pieces,
}

impl JournaldEncoder {
    pub(super) fn new(fields: &BTreeMap<String, String>) -> Self {
        let mut fixed = Vec::new();
        for (name, value) in fields {
            write_field(&mut fixed, name, value.as_bytes());
        }
        Self {
            fixed,
            ordinal: 0,
            pieces: Pieces::default(),
        }
    }
}

impl Encode for JournaldEncoder {
    fn encode(&mut self, message: &Message, out: &mut Outgoing) {
        self.ordinal += 1;
        let bytes = out.buffer();
        let priority: &[u8] = if message.stream == Stream::Stderr { b"3" } else { b"6" };
        write_field(bytes, "PRIORITY", priority);
        write_field(bytes, "MESSAGE", &message.line);
        bytes.extend_from_slice(&self.fixed);
        write_field(bytes, "CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes());
        write_field(bytes, "SYSLOG_TIMESTAMP", short_time(message.time_ns).as_bytes());
        if let Some((id, number)) = self.pieces.next(message) {
            write_field(bytes, "CONTAINER_PARTIAL_ID", id.as_bytes());
            write_field(bytes, "CONTAINER_PARTIAL_ORDINAL", number.to_string().as_bytes());
            write_field(bytes, "CONTAINER_PARTIAL_LAST", message.is_last.to_string().as_bytes());
            if !message.is_last {
                write_field(bytes, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
        out.end_packet();
    }
}

/// COMPAT: the fraction has no zeros at its end.
fn short_time(time_ns: i64) -> String {
    let time = format_time(time_ns);
    let digits = time.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{digits}Z")
}

/// `NAME=value`, or with the length before a value of several lines.
fn write_field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_exactly_these_bytes() {
        let fields = BTreeMap::from([("A".to_owned(), "x".to_owned()), ("B".to_owned(), "1\n2".to_owned())]);
        let mut encoder = JournaldEncoder::new(&fields);
        let mut out = Outgoing::default();
        let message = Message {
            stream: Stream::Stderr,
            time_ns: 1_500_000_000,
            line: b"hello".to_vec(),
            is_piece: false,
            is_last: true,
        };
        encoder.encode(&message, &mut out);
        let expected = b"PRIORITY=3\nMESSAGE=hello\nA=x\nB\n\x03\0\0\0\0\0\0\x001\n2\nCONTAINER_LOG_ORDINAL=1\n\
            SYSLOG_TIMESTAMP=1970-01-01T00:00:01.5Z\n";
        assert_eq!(out.buffer().as_slice(), expected);
    }

    #[test]
    fn pieces_of_a_line_know_each_other() {
        let mut encoder = JournaldEncoder::new(&BTreeMap::new());
        let mut piece = |is_last| {
            let mut out = Outgoing::default();
            let message = Message {
                stream: Stream::Stdout,
                time_ns: 0,
                line: b"p".to_vec(),
                is_piece: true,
                is_last,
            };
            encoder.encode(&message, &mut out);
            String::from_utf8(out.buffer().clone()).expect("text")
        };
        let (first, second, other) = (piece(false), piece(true), piece(true));
        let id = |text: &str| {
            let line = text.lines().find(|line| line.starts_with("CONTAINER_PARTIAL_ID="));
            line.map(str::to_owned).expect("an id")
        };
        assert_eq!(id(&first), id(&second));
        assert_ne!(id(&first), id(&other));
        assert!(first.contains("CONTAINER_PARTIAL_ORDINAL=1\n") && second.contains("CONTAINER_PARTIAL_ORDINAL=2\n"));
        assert!(first.contains("CONTAINER_PARTIAL_MESSAGE=true\n") && !second.contains("PARTIAL_MESSAGE"));
        assert!(first.contains("PARTIAL_LAST=false\n") && second.contains("PARTIAL_LAST=true\n"));
    }
}
