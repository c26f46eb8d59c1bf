//! GELF 1.1 (Graylog's documentation): JSON, compressed and chunked in datagrams, ended by a zero
//! byte in a stream.

use std::io::Write as _;

use flate2::Compression as Level;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::encode::{Encode, random};
use super::outgoing::Outgoing;
use super::plan::{Compression, Format};
use super::queue::Message;
use crate::log::Stream;

/// Bytes of a datagram, header included. COMPAT: Docker's.
const DATAGRAM: usize = 1420;
const CHUNK_HEADER: usize = 12;
const MOST_CHUNKS: usize = 128;

const ERROR: u8 = 3;
const INFORMATIONAL: u8 = 6;

#[derive(Debug)]
pub(super) struct GelfEncoder {
    /// The fields after the line, ready to send, with the closing brace.
    tail: String,
    hostname: String,
    compression: Compression,
    level: i32,
    is_datagram: bool,
}

impl GelfEncoder {
    pub(super) fn new(format: &Format, is_datagram: bool) -> Option<Self> {
        let Format::Gelf {
            hostname,
            extra,
            compression,
            level,
        } = format
        else {
            return None;
        };
        let object = serde_json::json!(extra).to_string();
        let fields = object.trim_start_matches('{');
        let tail = if extra.is_empty() {
            "}".to_owned()
        } else {
            format!(",{fields}")
        };
        Some(Self {
            tail,
            hostname: serde_json::json!(hostname).to_string(),
            compression: *compression,
            level: *level,
            is_datagram,
        })
    }

    fn json(&self, message: &Message) -> String {
        let level = if message.stream == Stream::Stderr {
            ERROR
        } else {
            INFORMATIONAL
        };
        let text = serde_json::json!(String::from_utf8_lossy(&message.line)).to_string();
        let millis = message.time_ns.div_euclid(1_000_000);
        format!(
            "{{\"version\":\"1.1\",\"host\":{},\"short_message\":{text},\"timestamp\":{}.{:03},\"level\":{level}{}",
            self.hostname,
            millis.div_euclid(1000),
            millis.rem_euclid(1000),
            self.tail
        )
    }

    fn compressed(&self, json: &[u8]) -> Vec<u8> {
        let level = match self.level {
            // COMPAT: zlib's default.
            ..0 => Level::default(),
            level => Level::new(level.unsigned_abs().min(9)),
        };
        let pressed = match self.compression {
            Compression::None => return json.to_vec(),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(json).and_then(|()| encoder.finish())
            }
            Compression::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(json).and_then(|()| encoder.finish())
            }
        };
        pressed.expect("invariant: memory takes every byte")
    }
}

impl Encode for GelfEncoder {
    /// COMPAT: empty lines are not sent; a message of more than 128 chunks is none.
    fn encode(&mut self, message: &Message, out: &mut Outgoing) {
        if message.line.is_empty() {
            return;
        }
        let json = self.json(message);
        if !self.is_datagram {
            out.buffer().extend_from_slice(json.as_bytes());
            out.buffer().push(0);
            out.end_packet();
            return;
        }
        let bytes = self.compressed(json.as_bytes());
        if bytes.len() <= DATAGRAM {
            out.buffer().extend_from_slice(&bytes);
            out.end_packet();
            return;
        }
        let chunks = bytes.chunks(DATAGRAM - CHUNK_HEADER);
        let count = chunks.len();
        if count > MOST_CHUNKS {
            return;
        }
        let id = random::<8>();
        for (number, chunk) in (0u8..).zip(chunks) {
            out.buffer().extend_from_slice(&[0x1e, 0x0f]);
            out.buffer().extend_from_slice(&id);
            out.buffer()
                .extend_from_slice(&[number, u8::try_from(count).expect("invariant: at most 128")]);
            out.buffer().extend_from_slice(chunk);
            out.end_packet();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn encoder(compression: Compression, is_datagram: bool) -> GelfEncoder {
        let format = Format::Gelf {
            hostname: "h\"".into(),
            extra: BTreeMap::from([("_tag".into(), "t".into())]),
            compression,
            level: 1,
        };
        GelfEncoder::new(&format, is_datagram).expect("GELF")
    }

    fn message(line: Vec<u8>) -> Message {
        Message {
            stream: Stream::Stdout,
            time_ns: 1_700_000_000_005_999_999,
            line,
            is_piece: false,
            is_last: true,
        }
    }

    #[test]
    fn a_stream_gets_json_and_a_zero_byte() {
        let mut out = Outgoing::default();
        encoder(Compression::Gzip, false).encode(&message(b"a\"b\xff".to_vec()), &mut out);
        let text = String::from_utf8(out.buffer().clone()).expect("text");
        let expected = "{\"version\":\"1.1\",\"host\":\"h\\\"\",\"short_message\":\"a\\\"b\u{fffd}\",\
            \"timestamp\":1700000000.005,\"level\":6,\"_tag\":\"t\"}\0";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_messages_are_chunked() {
        let mut out = Outgoing::default();
        encoder(Compression::None, true).encode(&message(vec![b'x'; 3000]), &mut out);
        assert_eq!(out.packets(), 3);
        assert_eq!(&out.buffer()[..2], &[0x1e, 0x0f]);
        assert_eq!((out.buffer()[10], out.buffer()[11], out.buffer()[1420 + 10]), (0, 3, 1));
    }

    #[test]
    fn both_compressions_can_be_undone() {
        for compression in [Compression::Gzip, Compression::Zlib] {
            let mut out = Outgoing::default();
            encoder(compression, true).encode(&message(b"hello".to_vec()), &mut out);
            let mut text = String::new();
            let bytes = out.buffer().as_slice();
            let read = match compression {
                Compression::Gzip => std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes), &mut text),
                _ => std::io::Read::read_to_string(&mut flate2::read::ZlibDecoder::new(bytes), &mut text),
            };
            read.expect("compressed");
            assert!(text.contains("\"short_message\":\"hello\""), "{text}");
        }
    }
}
