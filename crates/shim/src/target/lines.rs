//! Bytes to lines, and long lines to pieces.

use super::queue::Message;
use crate::log::{PIECE, Stream, cut_between_characters};

/// Collects the unfinished lines of both streams.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    open: [Open; 2],
}

#[derive(Debug, Default)]
struct Open {
    bytes: Vec<u8>,
    /// Pieces of this line have been given out already.
    is_continued: bool,
}

impl LineSplitter {
    /// Gives out every line that ends in `bytes`, and the pieces of those that grow too long.
    pub(super) fn split(&mut self, stream: Stream, mut bytes: &[u8], time_ns: i64, mut emit: impl FnMut(&Message)) {
        let open = &mut self.open[usize::from(stream == Stream::Stderr)];
        while !bytes.is_empty() {
            let room = PIECE - open.bytes.len();
            let newline = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let take = match newline {
                Some(at) => at,
                None if bytes.len() < room => {
                    open.bytes.extend_from_slice(bytes);
                    return;
                }
                None => cut_between_characters(bytes, room, open.bytes.is_empty()),
            };
            open.bytes.extend_from_slice(&bytes[..take]);
            emit(&Message {
                stream,
                time_ns,
                line: std::mem::take(&mut open.bytes),
                is_piece: open.is_continued || newline.is_none(),
                is_last: newline.is_some(),
            });
            open.is_continued = newline.is_none();
            bytes = &bytes[take + usize::from(newline.is_some())..];
        }
    }

    /// Gives out what has no newline. COMPAT: it counts as a piece that is not the last.
    pub(super) fn finish(&mut self, time_ns: i64, mut emit: impl FnMut(&Message)) {
        for (open, stream) in self.open.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if !open.bytes.is_empty() {
                emit(&Message {
                    stream,
                    time_ns,
                    line: std::mem::take(&mut open.bytes),
                    is_piece: true,
                    is_last: false,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_pieces_come_whole() {
        let mut splitter = LineSplitter::default();
        let mut seen = Vec::new();
        let mut take = |message: &Message| seen.push((message.line.len(), message.is_piece, message.is_last));
        splitter.split(Stream::Stdout, b"a\n\nbc", 1, &mut take);
        splitter.split(Stream::Stdout, b"d\n", 1, &mut take);
        splitter.split(Stream::Stdout, &[b'x'; PIECE + 10], 1, &mut take);
        splitter.split(Stream::Stdout, b"\ny", 1, &mut take);
        splitter.finish(1, &mut take);
        let expected = [
            (1, false, true),
            (0, false, true),
            (3, false, true),
            (PIECE, true, false),
            (10, true, true),
            (1, true, false),
        ];
        assert_eq!(seen, expected);
    }
}
