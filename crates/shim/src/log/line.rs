//! One line of a log as JSON, both ways.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::reader::{Record, Stream};
use super::time::{format_time, parse_time};

/// Appends a line to `out`. `attrs` is empty or a JSON object.
pub(super) fn write_line(out: &mut Vec<u8>, stream: Stream, time_ns: i64, bytes: &[u8], attrs: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    let is_text = write_text(out, bytes);
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream_name(stream).as_bytes());
    if !attrs.is_empty() {
        out.extend_from_slice(b"\",\"attrs\":");
        out.extend_from_slice(attrs.as_bytes());
        out.extend_from_slice(b",\"time\":\"");
    } else {
        out.extend_from_slice(b"\",\"time\":\"");
    }
    out.extend_from_slice(format_time(time_ns).as_bytes());
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
fn write_text(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let mut is_text = true;
    for chunk in bytes.utf8_chunks() {
        write_escaped(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            is_text = false;
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    is_text
}

fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => Some(b'"'),
            b'\\' => Some(b'\\'),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            0..=0x1f | 0x7f => None,
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        match short {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex_digit(byte >> 4), hex_digit(byte & 15)]),
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
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

    #[test]
    fn a_line_has_the_shape_that_log_shippers_know() {
        let mut out = Vec::new();
        write_line(&mut out, Stream::Stderr, 1, b"a \"b\"\t\x01\n", "");
        let expected = "{\"log\":\"a \\\"b\\\"\\t\\u0001\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00.000000001Z\"}\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn bytes_that_are_no_text_come_back_exactly() {
        let mut out = Vec::new();
        write_line(&mut out, Stream::Stdout, 5, b"\xff\xfe ok \xc3", "{\"k\":\"v\"}");
        let record = parse_line(&out).expect("a record");
        assert_eq!(record.line, b"\xff\xfe ok \xc3");
        assert_eq!(record.attrs, [("k".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn lines_that_docker_wrote_are_read() {
        let line = br#"{"log":"hi\u003c\n","stream":"stdout","time":"2024-05-01T10:00:00.5Z"}"#;
        let record = parse_line(line).expect("a record");
        assert_eq!((record.line.as_slice(), record.stream), (&b"hi<\n"[..], Stream::Stdout));
        assert!(parse_line(b"{\"log\":\"torn").is_none());
    }
}
