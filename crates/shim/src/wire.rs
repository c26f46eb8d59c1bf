//! Messages as bytes: a little-endian `u32` length, then that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::MAX_MESSAGE;

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The announced length is out of range.
    #[error("message of {length} bytes is longer than {MAX_MESSAGE}")]
    TooLong {
        /// What was announced.
        length: usize,
    },
    /// The content is not what was expected.
    #[error("malformed message")]
    Malformed {
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

/// A message with its length in front.
///
/// # Errors
/// [`WireError::TooLong`], or [`WireError::Malformed`] for a value that has no JSON form.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(|source| WireError::Malformed { source })?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_MESSAGE => bytes[..4].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(WireError::TooLong { length }),
    }
    Ok(bytes)
}

/// Parses the content of a message.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(content).map_err(|source| WireError::Malformed { source })
}

/// Collects bytes until a message is whole.
#[derive(Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Adds what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The content of the next whole message.
    ///
    /// # Errors
    /// [`WireError::TooLong`]; the connection is of no use then.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let Some(prefix) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(WireError::TooLong { length });
        }
        if self.bytes.len() < 4 + length {
            return Ok(None);
        }
        let rest = self.bytes.split_off(4 + length);
        let mut message = std::mem::replace(&mut self.bytes, rest);
        message.drain(..4);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{AttachSpec, ConsoleSize, ExecPlan};
    use crate::protocol::{Call, Envelope, Event, ExitRecord, Fault, FaultKind, Outcome, Reply, Request, Response};

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
        let bytes = encode(message).expect("encoded");
        let mut assembler = Assembler::default();
        for byte in &bytes {
            assert!(assembler.next_message().expect("no error").is_none());
            assembler.push(&[*byte]);
        }
        let content = assembler.next_message().expect("no error").expect("a whole message");
        assert_eq!(&decode::<T>(&content).expect("decoded"), message);
    }

    #[test]
    fn every_call_survives_the_wire_byte_by_byte() {
        let exec = Some("e1".to_owned());
        let calls = [
            Call::State,
            Call::Start,
            Call::Kill {
                exec: exec.clone(),
                signal: 9,
                all: true,
            },
            Call::Attach {
                exec: None,
                spec: AttachSpec {
                    early_stdin: vec![0, 255],
                    ..AttachSpec::default()
                },
            },
            Call::Resize {
                exec: exec.clone(),
                size: ConsoleSize { rows: 24, cols: 80 },
            },
            Call::CloseStdin { exec },
            Call::Exec {
                plan: Box::new(ExecPlan {
                    id: "e".into(),
                    ..ExecPlan::default()
                }),
                attaches: vec![],
            },
            Call::Pause,
            Call::Resume,
            Call::Update {
                resources: Box::default(),
            },
            Call::RotateLog,
            Call::AcknowledgeExec { exec: "e".into() },
            Call::Shutdown { force: true },
        ];
        for call in calls {
            round_trip(&Request { id: 7, fds: 1, call });
        }
    }

    #[test]
    fn answers_and_events_survive_the_wire() {
        let started = Reply::Started {
            pid: 1,
            start_ticks: 2,
            at_ns: 3,
        };
        for reply in [Reply::Done, started, Reply::State(Box::default())] {
            round_trip(&Response {
                id: 1,
                outcome: Outcome::Ok(reply),
            });
        }
        let fault = Fault {
            kind: FaultKind::CommandNotFound,
            message: "no".into(),
            step: None,
            errno: Some(2),
        };
        round_trip(&Response {
            id: 1,
            outcome: Outcome::Err(fault),
        });
        round_trip(&Event::Exited(ExitRecord {
            code: 137,
            signal: Some(9),
            ..ExitRecord::default()
        }));
        round_trip(&Event::OutOfMemory);
    }

    #[test]
    fn fields_and_calls_from_the_future_are_told_apart() {
        let newer = br#"{"id":3,"call":"start","args":null,"deadline":12}"#;
        assert_eq!(decode::<Request>(newer).expect("a known call").call, Call::Start);
        let unknown = br#"{"id":4,"fds":2,"call":"checkpoint","args":{"to":"/x"}}"#;
        assert!(decode::<Request>(unknown).is_err());
        assert_eq!(
            decode::<Envelope>(unknown).expect("an envelope"),
            Envelope { id: 4, fds: 2 }
        );
        let state = br#"{"id":1,"ok":{"state":{"id":"c","phase":"running","mood":"good"}}}"#;
        assert!(decode::<Response>(state).is_ok());
    }

    #[test]
    fn a_length_out_of_range_is_an_error() {
        let mut assembler = Assembler::default();
        assembler.push(&u32::MAX.to_le_bytes());
        assert!(matches!(assembler.next_message(), Err(WireError::TooLong { .. })));
    }
}
