//! Calls to another's shim, one at a time; the answers to waits come in between.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use wharf_sys::timeout::in_milliseconds;

use super::container::{fault, system};
use super::foreign::kind_of;
use crate::protocol::{Fault, FaultKind};
use crate::task_api::connection::Connection;
use crate::task_api::envelope::{Code, Request, Response, Status};
use crate::task_api::frame::{Frame, RESPONSE};
use crate::task_api::messages::{ProcessRequest, TASK_V2, TASK_V3};
use crate::task_api::proto::Message;

/// A shim's connection.
#[derive(Debug)]
pub(super) struct TaskClient {
    pub(super) connection: Connection,
    /// Where the shim listens as long as it serves.
    pub(super) socket: PathBuf,
    service: &'static str,
    next_stream: u32,
    /// Answers that nobody has looked at yet.
    others: Vec<Frame>,
}

/// Where a shim says it listens: an address alone, or a version with it.
#[derive(Debug, serde::Deserialize)]
struct Bootstrap {
    version: u32,
    address: String,
    protocol: String,
}

impl TaskClient {
    /// Connects to the address that a shim's `start` printed.
    pub(super) fn connect(printed: &str) -> Result<Self, Fault> {
        let bootstrap = parse(printed.trim())?;
        let path = bootstrap.address.strip_prefix("unix://");
        let path = path.ok_or_else(|| unusable(format!("address {:?} is no unix socket", bootstrap.address)))?;
        let failed = |errno| system(&format!("connect to the runtime's shim at {path}"), errno);
        let address = SocketAddrUnix::new(Path::new(path)).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        Ok(Self {
            connection: Connection::new(socket),
            socket: path.into(),
            service: if bootstrap.version >= 3 { TASK_V3 } else { TASK_V2 },
            next_stream: 1,
            others: Vec::new(),
        })
    }

    fn begin(&mut self, method: &str, message: &impl Message, limit: Duration) -> u32 {
        let stream = self.next_stream;
        self.next_stream = self.next_stream.wrapping_add(2);
        let request = Request::new(self.service, method, message, limit);
        self.connection.send(&request.frame(stream));
        stream
    }

    /// Asks for the end of a process; the answer comes by [`TaskClient::answers`] under this number.
    pub(super) fn wait(&mut self, request: &ProcessRequest) -> u32 {
        self.begin("Wait", request, Duration::ZERO)
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call<A: Message>(
        &mut self,
        method: &str,
        message: &impl Message,
        limit: Duration,
    ) -> Result<A, Fault> {
        let stream = self.begin(method, message, limit);
        let end = Instant::now() + limit;
        loop {
            self.collect();
            if let Some(at) = self.others.iter().position(|frame| frame.stream == stream) {
                let data = self.others.remove(at).data;
                let response = Response::decode(&data).map_err(|error| unusable(error.to_string()))?;
                let payload = response.outcome().map_err(|status| fault_of_status(method, status))?;
                return A::decode(&payload).map_err(|error| unusable(error.to_string()));
            }
            if self.connection.is_gone {
                return Err(unusable(format!("it hung up during {method}")));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unusable(format!("no answer to {method} within {} s", limit.as_secs())));
            }
            self.await_ready(left)?;
        }
    }

    /// Waits until something can be read, or written of what is owed.
    pub(super) fn await_ready(&self, limit: Duration) -> Result<(), Fault> {
        let mut fds = [PollFd::from_borrowed_fd(
            self.connection.fd(),
            self.connection.interest(),
        )];
        match poll(&mut fds, Some(&in_milliseconds(limit))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(system("wait for the runtime's shim", errno)),
        }
    }

    fn collect(&mut self) {
        self.connection.flush();
        let answers = self.connection.receive().into_iter();
        self.others.extend(answers.filter(|frame| frame.kind == RESPONSE));
    }

    /// What was answered beside calls so far: number of the wait, and message or error.
    pub(super) fn answers(&mut self) -> Vec<(u32, Result<Vec<u8>, Status>)> {
        self.collect();
        let outcome = |frame: Frame| match Response::decode(&frame.data) {
            Ok(response) => response.outcome(),
            Err(error) => Err(error.into()),
        };
        let others = std::mem::take(&mut self.others);
        others.into_iter().map(|frame| (frame.stream, outcome(frame))).collect()
    }
}

fn parse(printed: &str) -> Result<Bootstrap, Fault> {
    if !printed.starts_with('{') {
        return Ok(Bootstrap {
            version: 2,
            address: printed.to_owned(),
            protocol: "ttrpc".to_owned(),
        });
    }
    let bootstrap: Bootstrap = serde_json::from_str(printed)
        .map_err(|error| fault("read what the runtime's shim said", &std::io::Error::other(error)))?;
    if bootstrap.protocol != "ttrpc" {
        return Err(unusable(format!("it speaks {}, not ttrpc", bootstrap.protocol)));
    }
    Ok(bootstrap)
}

/// A shim that does not keep to the protocol.
pub(super) fn unusable(message: String) -> Fault {
    Fault {
        message: format!("the runtime's shim: {message}"),
        ..Fault::default()
    }
}

fn fault_of_status(method: &str, status: Status) -> Fault {
    let is = |code: Code| status.code == code as i32;
    let kind = if is(Code::NotFound) && method == "Kill" {
        FaultKind::Conflict
    } else if is(Code::Unimplemented) {
        FaultKind::Unsupported
    } else {
        kind_of(&status.message)
    };
    Fault {
        kind,
        message: super::foreign::in_runcs_words(&status.message),
        step: Some(method.to_owned()),
        errno: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_says_where_it_listens_in_one_of_two_ways() {
        let plain = parse("unix:///run/s/x").expect("plain");
        assert_eq!((plain.version, plain.address.as_str()), (2, "unix:///run/s/x"));
        let json = parse(r#"{"version":3,"address":"unix:///y","protocol":"ttrpc"}"#).expect("JSON");
        assert_eq!((json.version, json.address.as_str()), (3, "unix:///y"));
        assert!(parse(r#"{"version":3,"address":"unix:///y","protocol":"grpc"}"#).is_err());
        assert!(TaskClient::connect("vsock://1:2").is_err());
    }
}
