//! Fluentd's forward protocol (Fluentd Forward Protocol Specification v1), message mode: MessagePack.

use std::collections::BTreeMap;

use super::encode::{Encode, Pieces, random_hex};
use super::outgoing::Outgoing;
use super::plan::Format;
use super::queue::Message;
use crate::log::Stream;

#[derive(Debug)]
pub(super) struct FluentdEncoder {
    tag: String,
    record: BTreeMap<String, String>,
    sub_second: bool,
    ack: bool,
    awaited: Option<Vec<u8>>,
    pieces: Pieces,
}

impl FluentdEncoder {
    pub(super) fn new(format: &Format) -> Option<Self> {
        let Format::Fluentd {
            tag,
            record,
            sub_second,
            ack,
        } = format
        else {
            return None;
        };
        Some(Self {
            tag: tag.clone(),
            record: record.clone(),
            sub_second: *sub_second,
            ack: *ack,
            awaited: None,
            pieces: Pieces::default(),
        })
    }
}

impl Encode for FluentdEncoder {
    fn encode(&mut self, message: &Message, out: &mut Outgoing) {
        let source = if message.stream == Stream::Stderr {
            "stderr"
        } else {
            "stdout"
        };
        let mut record: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
            ("source", source.into()),
            ("log", String::from_utf8_lossy(&message.line).into_owned().into_bytes()),
        ]);
        for (key, value) in &self.record {
            record.insert(key, value.clone().into_bytes());
        }
        if let Some((id, number)) = self.pieces.next(message) {
            record.insert("partial_message", b"true".to_vec());
            record.insert("partial_id", id.into_bytes());
            record.insert("partial_ordinal", number.to_string().into_bytes());
            record.insert("partial_last", message.is_last.to_string().into_bytes());
        }
        let bytes = out.buffer();
        bytes.push(0x94); // an array of four: tag, time, record, options
        write_text(bytes, self.tag.as_bytes());
        write_time(bytes, message.time_ns, self.sub_second);
        write_map(bytes, record.len());
        for (key, value) in &record {
            write_text(bytes, key.as_bytes());
            write_text(bytes, value);
        }
        self.awaited = self.ack.then(|| random_hex::<16>().into_bytes());
        write_map(bytes, usize::from(self.ack));
        if let Some(chunk) = &self.awaited {
            write_text(bytes, b"chunk");
            write_text(bytes, chunk);
        }
        out.end_packet();
    }

    fn awaited(&self) -> Option<&[u8]> {
        self.awaited.as_deref()
    }
}

fn write_text(bytes: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ 0..32 => bytes.push(0xa0 | u8::try_from(length).expect("invariant: below 32")),
        length @ 32..256 => bytes.extend_from_slice(&[0xd9, u8::try_from(length).expect("invariant: below 256")]),
        length => {
            bytes.push(0xdb);
            bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    bytes.extend_from_slice(text);
}

fn write_map(bytes: &mut Vec<u8>, entries: usize) {
    match u8::try_from(entries) {
        Ok(few @ 0..16) => bytes.push(0x80 | few),
        _ => {
            bytes.push(0xdf);
            bytes.extend_from_slice(&u32::try_from(entries).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// Seconds as an integer, or an EventTime extension with nanoseconds.
fn write_time(bytes: &mut Vec<u8>, time_ns: i64, sub_second: bool) {
    let (seconds, nanos) = (time_ns.div_euclid(1_000_000_000), time_ns.rem_euclid(1_000_000_000));
    if sub_second {
        bytes.extend_from_slice(&[0xd7, 0x00]);
        bytes.extend_from_slice(&u32::try_from(seconds).unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(nanos).unwrap_or(0).to_be_bytes());
    } else {
        bytes.push(0xd3);
        bytes.extend_from_slice(&seconds.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(sub_second: bool, ack: bool) -> (Vec<u8>, Option<Vec<u8>>) {
        let format = Format::Fluentd {
            tag: "t".into(),
            record: BTreeMap::from([("container_id".into(), "c".into())]),
            sub_second,
            ack,
        };
        let mut encoder = FluentdEncoder::new(&format).expect("fluentd");
        let mut out = Outgoing::default();
        let message = Message {
            stream: Stream::Stdout,
            time_ns: 2_000_000_003,
            line: b"hi".to_vec(),
            is_piece: false,
            is_last: true,
        };
        encoder.encode(&message, &mut out);
        (out.buffer().clone(), encoder.awaited().map(<[u8]>::to_vec))
    }

    #[test]
    fn a_message_has_exactly_these_bytes() {
        let mut expected = b"\x94\xa1t\xd3\0\0\0\0\0\0\0\x02\x83".to_vec();
        expected.extend_from_slice(b"\xaccontainer_id\xa1c\xa3log\xa2hi\xa6source\xa6stdout\x80");
        assert_eq!(encoded(false, false), (expected, None));
    }

    #[test]
    fn finer_times_and_confirmations_are_asked_for_as_the_protocol_says() {
        let (bytes, chunk) = encoded(true, true);
        assert_eq!(&bytes[3..13], b"\xd7\0\0\0\0\x02\0\0\0\x03");
        let chunk = chunk.expect("a chunk");
        let mut end = b"\x81\xa5chunk\xd9\x20".to_vec();
        end.extend_from_slice(&chunk);
        assert!(bytes.ends_with(&end), "{bytes:?}");
    }
}
