//! ttrpc's frames: the length of the data, the number of the call, its kind and flags, the data.

/// Bytes before the data.
const HEADER: usize = 10;

/// No data may be longer (PROTOCOL.md).
pub(crate) const MAX_DATA: usize = 4 << 20;

/// Begins a call.
pub(crate) const REQUEST: u8 = 1;
/// Ends it.
pub(crate) const RESPONSE: u8 = 2;

/// One frame. Flags are only for calls with streams, which the task service has none of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Which call.
    pub(crate) stream: u32,
    /// [`REQUEST`], [`RESPONSE`], or what this does not know.
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
}

/// A frame that announces more than a frame may hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {length} bytes, more than {MAX_DATA}")]
pub(crate) struct TooLong {
    length: usize,
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(HEADER + self.data.len());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&[self.kind, 0]);
        out.extend_from_slice(&self.data);
        out
    }
}

/// Puts frames together from bytes as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, TooLong> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, s0, s1, s2, s3, kind, _flags] = *header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_DATA {
            return Err(TooLong { length });
        }
        let Some(data) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame {
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind,
            data: data.to_vec(),
        };
        self.bytes.drain(..HEADER + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let frames = [(1, REQUEST, "ab"), (3, RESPONSE, "")].map(|(stream, kind, data)| Frame {
            stream,
            kind,
            data: data.into(),
        });
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        assert_eq!(bytes[..12], [0, 0, 0, 2, 0, 0, 0, 1, 1, 0, b'a', b'b']);
        for cut in 0..=bytes.len() {
            let mut assembler = Assembler::default();
            let mut got = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                assembler.push(part);
                while let Some(frame) = assembler.next_frame().expect("short") {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_it_arrives() {
        let mut assembler = Assembler::default();
        assembler.push(&[0xff; HEADER]);
        assert!(assembler.next_frame().is_err());
    }
}
