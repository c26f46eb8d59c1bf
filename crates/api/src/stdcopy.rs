//! The framing of container streams: `[stream, 0, 0, 0, length as four bytes][payload]`, used by
//! logs, attach and exec when there is no terminal.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes before each payload.
pub const HEADER_LEN: usize = 8;

/// The largest payload accepted. Engines write at most 16 KiB of a log line or 32 KiB of a pipe
/// in one frame; the limit only bounds what a broken peer can make a client hold.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Standard input, which readers treat as output.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// An error of the engine; the stream ends with it.
    SystemError,
}

impl StreamKind {
    const fn code(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::SystemError => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::SystemError),
            _ => None,
        }
    }
}

/// What is wrong with a framed stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte of a header names no stream.
    #[error("unrecognized input header: {code}")]
    UnknownStream {
        /// The byte.
        code: u8,
    },
    /// A payload longer than [`MAX_PAYLOAD`].
    #[error("frame of {len} bytes is too long")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

/// The header of a frame.
///
/// # Panics
/// Never for payloads that fit a frame (under 4 GiB); longer ones must be split by the caller.
#[must_use]
pub fn header(kind: StreamKind, len: usize) -> [u8; HEADER_LEN] {
    let len = u32::try_from(len).expect("invariant: a frame is shorter than 4 GiB");
    let [a, b, c, d] = len.to_be_bytes();
    [kind.code(), 0, 0, 0, a, b, c, d]
}

/// A whole frame in one buffer.
#[must_use]
pub fn frame(kind: StreamKind, payload: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(HEADER_LEN + payload.len());
    buffer.extend_from_slice(&header(kind, payload.len()));
    buffer.extend_from_slice(payload);
    buffer.freeze()
}

/// Takes frames out of a stream that arrives in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are no frames; the stream cannot be read further.
    pub fn next_frame(&mut self) -> Result<Option<(StreamKind, Bytes)>, FrameError> {
        let Some((head, _)) = self.buffer.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [code, _, _, _, length @ ..] = *head;
        let kind = StreamKind::from_code(code).ok_or(FrameError::UnknownStream { code })?;
        let len = u32::from_be_bytes(length) as usize;
        if len > MAX_PAYLOAD {
            return Err(FrameError::TooLong { len });
        }
        if self.buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LEN);
        Ok(Some((kind, self.buffer.split_to(len).freeze())))
    }

    /// True in the middle of a frame: a stream that ends here was cut off.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = StreamKind> {
        prop_oneof![
            Just(StreamKind::Stdin),
            Just(StreamKind::Stdout),
            Just(StreamKind::Stderr),
            Just(StreamKind::SystemError)
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec((kind(), proptest::collection::vec(any::<u8>(), 0..200)), 0..10),
            piece in 1usize..50,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(k, p)| frame(*k, p).to_vec()).collect();
            let mut decoder = Decoder::new();
            let mut found = Vec::new();
            for bytes in wire.chunks(piece) {
                decoder.push(bytes);
                while let Some((kind, payload)) = decoder.next_frame().unwrap() {
                    found.push((kind, payload.to_vec()));
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert!(!decoder.is_partial());
        }
    }

    #[test]
    fn broken_headers_are_refused() {
        let mut decoder = Decoder::new();
        decoder.push(&[7, 0, 0, 0, 0, 0, 0, 1, b'x']);
        assert_eq!(decoder.next_frame(), Err(FrameError::UnknownStream { code: 7 }));
        let mut decoder = Decoder::new();
        decoder.push(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_cut_frame_is_partial() {
        let mut decoder = Decoder::new();
        decoder.push(&frame(StreamKind::Stdout, b"abc")[..9]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.is_partial());
    }
}
