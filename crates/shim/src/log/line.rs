//! One line of a log as JSON, both ways.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::reader::{Record, Stream};
use super::time::{format_time, parse_time};

/// What follows the text in each line of a stream that came at one time. Formatting a time takes longer than all else of a
/// line, and in a flood hundreds of lines have the same.
#[derive(Debug, Default)]
pub(super) struct Ending {
    of: Option<(Stream, i64)>,
    text: Vec<u8>,
}

impl Ending {
    /// The ending for a stream and a time. `attrs` is empty or a JSON object, and the same in every call.
    pub(super) fn of(&mut self, stream: Stream, time_ns: i64, attrs: &str) -> &[u8] {
        if self.of != Some((stream, time_ns)) {
            self.of = Some((stream, time_ns));
            self.text.clear();
            self.text.extend_from_slice(b"\",\"stream\":\"");
            self.text.extend_from_slice(stream_name(stream).as_bytes());
            self.text.push(b'"');
            if !attrs.is_empty() {
                self.text.extend_from_slice(b",\"attrs\":");
                self.text.extend_from_slice(attrs.as_bytes());
            }
            self.text.extend_from_slice(b",\"time\":\"");
            self.text.extend_from_slice(format_time(time_ns).as_bytes());
        }
        &self.text
    }
}

/// Appends a line to `out`.
pub(super) fn write_line(out: &mut Vec<u8>, bytes: &[u8], ending: &[u8]) {
    out.extend_from_slice(b"{\"log\":\"");
    let is_text = write_text(out, bytes);
    out.extend_from_slice(ending);
    if !is_text {
        out.extend_from_slice(b"\",\"hex\":\"");
        out.extend(
            bytes
                .iter()
                .flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]),
        );
    }
    out.extend_from_slice(b"\"}\n");
}

/// Writes the content of a JSON string; false if something was not UTF-8 and was replaced.
fn write_text(out: &mut Vec<u8>, mut bytes: &[u8]) -> bool {
    let mut is_text = true;
    loop {
        let (plain, rest) = bytes.split_at(plain_length(bytes));
        out.extend_from_slice(plain);
        // No ASCII byte is part of a longer character, so the pieces can be looked at one by one.
        let foreign = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
        let (foreign, rest) = rest.split_at(foreign);
        for chunk in foreign.utf8_chunks() {
            out.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                is_text = false;
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        let Some((byte, rest)) = rest.split_first() else {
            return is_text;
        };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f | 0x7f => {
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex_digit(byte >> 4), hex_digit(byte & 15)]);
            }
            _ => out.push(*byte),
        }
        bytes = rest;
    }
}

/// How many bytes stand for themselves at the beginning: ASCII that needs no escape. Eight at a time: a bit of `odd` is set
/// for the first that does not, and perhaps for some behind it.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let below = |value: u64, least: u8| value.wrapping_sub(ONES * u64::from(least)) & !value;
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let odd = (word | below(word, 0x20) | is(b'"') | is(b'\\') | is(0x7f)) & HIGHS;
        if odd != 0 {
            return at * 8 + (odd.trailing_zeros() / 8) as usize;
        }
    }
    let is_plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
    bytes.len() - rest.len() + rest.iter().take_while(|byte| is_plain(byte)).count()
}

fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value & 15)]
}

/// A line as Docker and we write it; unknown fields are skipped.
#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    hex: Option<Cow<'a, str>>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// Parses a line; `None` if it is torn or foreign.
pub(super) fn parse_line(line: &[u8]) -> Option<Record> {
    let raw: RawLine<'_> = serde_json::from_slice(line).ok()?;
    let exact = raw.hex.as_deref().and_then(parse_hex);
    Some(Record {
        stream: if raw.stream == "stderr" {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        time_ns: parse_time(&raw.time)?,
        line: exact.unwrap_or_else(|| raw.log.into_owned().into_bytes()),
        attrs: raw.attrs.into_iter().collect(),
    })
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect()
}

fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: Stream, time_ns: i64, bytes: &[u8], attrs: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_line(&mut out, bytes, Ending::default().of(stream, time_ns, attrs));
        out
    }

    #[test]
    fn a_line_has_the_shape_that_log_shippers_know() {
        let out = line(Stream::Stderr, 1, b"a \"b\"\t\x01\n", "");
        let expected = "{\"log\":\"a \\\"b\\\"\\t\\u0001\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00.000000001Z\"}\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn bytes_that_are_no_text_come_back_exactly() {
        let out = line(Stream::Stdout, 5, b"\xff\xfe ok \xc3", "{\"k\":\"v\"}");
        let record = parse_line(&out).expect("a record");
        assert_eq!(record.line, b"\xff\xfe ok \xc3");
        assert_eq!(record.attrs, [("k".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn an_ending_is_that_of_its_stream_and_time() {
        let mut ending = Ending::default();
        let first = ending.of(Stream::Stdout, 1, "").to_vec();
        assert_eq!(ending.of(Stream::Stdout, 1, ""), first);
        let others =
            [(Stream::Stderr, 1), (Stream::Stdout, 2)].map(|(stream, time)| ending.of(stream, time, "").to_vec());
        assert!(others[0] != first && others[1] != first && others[0] != others[1]);
        assert_eq!(ending.of(Stream::Stdout, 1, ""), first);
    }

    /// Every byte at every place of a word, between plain ones and behind every other kind of byte.
    #[test]
    fn every_byte_is_found_wherever_it_stands() {
        for byte in 0..=0xff_u8 {
            let is_plain = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
            for at in 0..20 {
                let mut bytes = *b" !#09AZ[]^az{|}~    ";
                bytes[at] = byte;
                assert_eq!(
                    plain_length(&bytes),
                    if is_plain { 20 } else { at },
                    "{byte:#x} at {at}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), text in ".{0,64}") {
            let mixed = [text.as_bytes(), &bytes, text.as_bytes()].concat();
            for bytes in [text.as_bytes(), &bytes, &mixed] {
                let out = line(Stream::Stdout, 7, bytes, "");
                assert_eq!(parse_line(&out).expect("a record").line, bytes);
                let document: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
                assert_eq!(document["log"], String::from_utf8_lossy(bytes).as_ref());
                assert_eq!(document.get("hex").is_some(), std::str::from_utf8(bytes).is_err());
            }
        }
    }

    #[test]
    fn lines_that_docker_wrote_are_read() {
        let line = br#"{"log":"hi\u003c\n","stream":"stdout","time":"2024-05-01T10:00:00.5Z"}"#;
        let record = parse_line(line).expect("a record");
        assert_eq!((record.line.as_slice(), record.stream), (&b"hi<\n"[..], Stream::Stdout));
        assert!(parse_line(b"{\"log\":\"torn").is_none());
    }
}
