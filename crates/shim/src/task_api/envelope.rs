//! What is around the messages of a call: request, response, and errors by gRPC's codes.

use std::time::Duration;

use super::frame::{Frame, REQUEST, RESPONSE};
use super::proto::{Malformed, Message, message};

message! {
    /// A call.
    Request {
        service: String = 1,
        method: String = 2,
        payload: Vec<u8> = 3,
        timeout_ns: i64 = 4,
        metadata: Vec<KeyValue> = 5,
    }
    /// A word for the other side beside the message.
    KeyValue { key: String = 1, value: String = 2 }
    /// How a call ended.
    Response { status: Option<Status> = 1, payload: Vec<u8> = 2 }
    /// An error (google.rpc.Status).
    Status { code: i32 = 1, message: String = 2 }
}

/// gRPC's numbers of errors, those in use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
        }
    }
}

impl From<Malformed> for Status {
    fn from(error: Malformed) -> Self {
        Self::new(Code::InvalidArgument, format!("invalid message: {error}"))
    }
}

impl Request {
    /// A call of a method of `service`.
    pub(crate) fn new(service: &str, method: &str, payload: &impl Message, timeout: Duration) -> Self {
        Self {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: payload.encode(),
            timeout_ns: i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
            metadata: Vec::new(),
        }
    }

    pub(crate) fn frame(&self, stream: u32) -> Frame {
        Frame {
            stream,
            kind: REQUEST,
            data: self.encode(),
        }
    }
}

impl Response {
    /// The message of an answer, or the error it carries.
    pub(crate) fn outcome(self) -> Result<Vec<u8>, Status> {
        match self.status {
            Some(status) if status.code != 0 => Err(status),
            _ => Ok(self.payload),
        }
    }
}

/// The frame that answers a call: an encoded message or an error.
pub(crate) fn answer(stream: u32, outcome: Result<Vec<u8>, Status>) -> Frame {
    let response = match outcome {
        Ok(payload) => Response { status: None, payload },
        Err(status) => Response {
            status: Some(status),
            payload: Vec::new(),
        },
    };
    Frame {
        stream,
        kind: RESPONSE,
        data: response.encode(),
    }
}
