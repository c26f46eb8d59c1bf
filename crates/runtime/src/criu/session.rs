//! One `criu swrk` process and the requests it serves (criu.org/RPC).

use super::wire::{Message, Value, parse};
use crate::{ErrorKind, RuntimeError};
use rustix::fs::{Access, MemfdFlags, access, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::WaitIdOptions;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use wharf_sys::fdpass;
use wharf_sys::handle;
use wharf_sys::spawn::{Program, Spawn, Spawned};

/// More than CRIU ever answers.
const MAX_ANSWER: usize = 64 << 10;

/// What a request is for (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl Kind {
    fn number(self) -> u64 {
        self as u64
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Dump => "dump",
            Kind::Restore => "restore",
            Kind::PreDump => "pre-dump",
            Kind::Notify => "notify",
            Kind::FeatureCheck => "feature check",
            Kind::Version => "version",
        }
    }
}

/// The installed program.
#[derive(Debug, Clone)]
pub(crate) struct Criu {
    path: PathBuf,
}

/// What CRIU asks on the way.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) script: String,
    pub(crate) pid: i32,
    /// A terminal that nobody holds any more.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// The answer to a request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    kind: u64,
    success: bool,
    errno: i32,
    message: String,
    /// Init of a restored container.
    pub(crate) pid: i32,
    /// `major * 10000 + minor * 100 + sublevel`.
    pub(crate) version: u64,
    /// Numbers of the features that are there.
    pub(crate) features: Vec<u32>,
    notice: Option<Notice>,
}

/// Standard streams of CRIU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// None; what it says is kept for the error.
    Own,
    /// The caller's, for the processes that it restores.
    Inherited,
}

/// A running `criu swrk`; killed and reaped unless it ended.
pub(crate) struct Session {
    socket: OwnedFd,
    child: Option<Spawned>,
    said: OwnedFd,
}

fn failed(what: &'static str) -> impl FnOnce(Errno) -> RuntimeError {
    move |errno| RuntimeError::system("criu", format!("criu: {what}"), errno)
}

fn broken(why: impl Into<String>) -> RuntimeError {
    RuntimeError::new(ErrorKind::System, "criu", why)
}

impl Criu {
    /// Finds the program: `named`, or `criu` in the search path.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, RuntimeError> {
        let is_program = |path: &PathBuf| access(path.as_path(), Access::EXEC_OK).is_ok() && path.is_file();
        let search = std::env::var_os("PATH").unwrap_or_default();
        let path = match named {
            Some(path) if path.components().count() > 1 => Some(path.to_owned()),
            other => std::env::split_paths(&search)
                .map(|directory| directory.join(other.unwrap_or(Path::new("criu"))))
                .find(is_program),
        };
        let missing = |name: &Path| {
            let text = format!("criu is not installed: {} is no program in $PATH", name.display());
            RuntimeError::new(ErrorKind::Invalid, "criu", text)
        };
        path.filter(is_program)
            .map(|path| Self { path })
            .ok_or_else(|| missing(named.unwrap_or(Path::new("criu"))))
    }

    /// Starts a session; `fds` are at the numbers from 4 on inside.
    pub(crate) fn start(&self, streams: Streams, fds: &[BorrowedFd<'_>]) -> Result<Session, RuntimeError> {
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(failed("make a socket pair"))?;
        let said = memfd_create(c"criu", MemfdFlags::CLOEXEC).map_err(failed("make a file for its messages"))?;
        let mut inside = vec![(theirs.as_fd(), 3)];
        inside.extend(fds.iter().copied().zip(4..));
        match streams {
            Streams::Own => inside.extend([(said.as_fd(), 1), (said.as_fd(), 2)]),
            Streams::Inherited => {
                let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
                inside.extend(own.into_iter().zip(0..));
            }
        }
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| broken("criu: its path holds a NUL byte"));
        let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            text(&[name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let spawn = Spawn {
            program: Program::Path(text(self.path.as_os_str().as_bytes())?),
            args: ["criu", "swrk", "3"]
                .map(|arg| CString::new(arg).unwrap_or_default())
                .to_vec(),
            env: std::env::vars_os().map(entry).collect::<Result<_, _>>()?,
            fds: inside,
            directory: None,
            new_session: false,
            cgroup: None,
        };
        let child = spawn
            .spawn()
            .map_err(|errno| RuntimeError::system("criu", format!("run {}", self.path.display()), errno))?;
        Ok(Session {
            socket,
            child: Some(child),
            said,
        })
    }

    /// The version, as one number.
    pub(crate) fn version(&self) -> Result<u64, RuntimeError> {
        let session = self.start(Streams::Own, &[])?;
        Ok(session.request(Kind::Version, &[], &mut |_| Ok(()))?.version)
    }

    /// Refuses when CRIU or the kernel lacks this feature.
    pub(crate) fn require_feature(&self, feature: u32, name: &str) -> Result<(), RuntimeError> {
        let mut asked = Message::default();
        asked.flag(feature, true);
        let session = self.start(Streams::Own, &[])?;
        let answer = session.request(Kind::FeatureCheck, &[(5, &asked)], &mut |_| Ok(()))?;
        if answer.features.contains(&feature) {
            return Ok(());
        }
        Err(broken(format!("criu: it or the kernel has no {name}")))
    }
}

impl Session {
    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid.as_raw_nonzero().get())
    }

    /// Makes one request and serves the notices until its answer.
    pub(crate) fn request(
        mut self,
        kind: Kind,
        parts: &[(u32, &Message)],
        serve: &mut dyn FnMut(Notice) -> Result<(), RuntimeError>,
    ) -> Result<Answer, RuntimeError> {
        let mut request = Message::default();
        request.number(1, kind.number());
        for (field, part) in parts {
            request.message(*field, part);
        }
        self.send(&request)?;
        loop {
            let mut answer = self.receive(kind)?;
            if answer.kind != Kind::Notify.number() {
                return self.finish(kind, answer);
            }
            let served = match answer.notice.take() {
                Some(notice) => serve(notice),
                None => Err(broken("criu: a notice says nothing")),
            };
            let mut reply = Message::default();
            reply.number(1, Kind::Notify.number()).flag(3, served.is_ok());
            self.send(&reply)?;
            served?;
        }
    }

    fn send(&self, message: &Message) -> Result<(), RuntimeError> {
        fdpass::send(&self.socket, message.bytes(), &[])
            .map(drop)
            .map_err(failed("send a request"))
    }

    fn receive(&self, kind: Kind) -> Result<Answer, RuntimeError> {
        let mut bytes = vec![0u8; MAX_ANSWER];
        let (length, fds) = match fdpass::receive(&self.socket, &mut bytes) {
            Err(Errno::CONNRESET) => (0, Vec::new()),
            other => other.map_err(failed("receive its answer"))?,
        };
        if length == 0 {
            return Err(self.explain(broken(format!("criu {} ended without an answer", kind.name()))));
        }
        let mut answer = parse_answer(bytes.get(..length).unwrap_or_default())
            .ok_or_else(|| broken("criu: its answer cannot be read"))?;
        if let Some(notice) = &mut answer.notice {
            notice.descriptor = fds.into_iter().next();
        }
        Ok(answer)
    }

    fn finish(&mut self, kind: Kind, answer: Answer) -> Result<Answer, RuntimeError> {
        if !answer.success {
            let mut error = broken(format!("criu {} failed", kind.name()));
            if answer.errno != 0 {
                error.errno = Some(answer.errno);
                error.chain.push(crate::error::errno_text(answer.errno));
            }
            let said = answer.message.lines().next().map(|line| line.trim().to_owned());
            error.chain.extend(said.filter(|text| !text.is_empty()));
            return Err(self.explain(error));
        }
        if answer.kind != kind.number() {
            return Err(broken(format!(
                "criu: an answer of kind {} to a {}",
                answer.kind,
                kind.name()
            )));
        }
        // A pre-dump goes on waiting for the dump; it is ended with the session.
        if kind != Kind::PreDump {
            self.reap()?;
        }
        Ok(answer)
    }

    /// Waits for the end, which closing the socket brings about.
    fn reap(&mut self) -> Result<(), RuntimeError> {
        let Some(child) = &self.child else { return Ok(()) };
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).map_err(failed("close its socket"))?;
        let status = handle::wait(&child.pidfd, WaitIdOptions::EXITED).map_err(failed("wait for it"))?;
        self.child = None;
        match status.and_then(|status| status.exit_status()) {
            Some(0) => Ok(()),
            Some(code) => Err(self.explain(broken(format!("criu exited with code {code}")))),
            None => Err(broken("criu was ended by a signal")),
        }
    }

    /// Adds the first error that it said aloud.
    fn explain(&self, mut error: RuntimeError) -> RuntimeError {
        let mut bytes = vec![0u8; MAX_ANSWER];
        let length = rustix::io::pread(&self.said, &mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        error.chain.extend(first_error(&text));
        error
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = wharf_sys::signal::send(&child.pidfd, 9);
            let _ = handle::wait(&child.pidfd, WaitIdOptions::EXITED);
        }
    }
}

/// The first line with an error in what CRIU wrote, those after it follow
/// from it; that a helper program failed says less than what it was for.
pub(crate) fn first_error(text: &str) -> Option<String> {
    let errors = || text.lines().filter(|line| line.contains("Error ("));
    errors()
        .find(|line| !line.contains("exited, status="))
        .or_else(|| errors().next())
        .map(|line| line.trim().to_owned())
}

fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let mut answer = Answer::default();
    for (field, value) in parse(bytes)? {
        match field {
            1 => answer.kind = value.as_number(),
            2 => answer.success = value.as_number() != 0,
            4 => answer.pid = first(value, 1)?.map_or(0, Value::as_i32),
            5 => {
                answer.notice = Some(Notice {
                    script: first(value, 1)?.map(Value::as_text).unwrap_or_default(),
                    pid: first(value, 2)?.map_or(0, Value::as_i32),
                    descriptor: None,
                });
            }
            7 => answer.errno = value.as_i32(),
            8 => {
                let features = parse(value.as_block())?;
                let present = features.iter().filter(|(_, value)| value.as_number() != 0);
                answer.features = present.map(|(feature, _)| *feature).collect();
            }
            9 => answer.message = value.as_text(),
            10 => {
                let part = |number| Some(first(value, number)?.map_or(0, Value::as_number));
                answer.version = part(1)? * 10_000 + part(2)? * 100 + part(4)?;
            }
            _ => {}
        }
    }
    Some(answer)
}

/// The first value of a field in a message.
fn first(message: Value<'_>, field: u32) -> Option<Option<Value<'_>>> {
    let fields = parse(message.as_block())?;
    Some(
        fields
            .iter()
            .find(|(number, _)| *number == field)
            .map(|(_, value)| *value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let answer = parse_answer(b"\x08\n\x10\x01R\x06\x08\x03\x10\x11 \x01").expect("well-formed");
        assert_eq!((answer.version, answer.success), (31_701, true));
        let mut notify = Message::default();
        notify.text(1, "post-restore").integer(2, 77);
        let mut message = Message::default();
        message.number(1, 6).flag(2, true).message(5, &notify);
        let answer = parse_answer(message.bytes()).expect("well-formed");
        let notice = answer.notice.expect("a notice");
        assert_eq!((notice.script.as_str(), notice.pid), ("post-restore", 77));
        assert!(parse_answer(b"\x12\x05abc").is_none());
    }

    #[test]
    fn the_first_error_explains_a_failure() {
        let log = "(00.1) Dumping\n(00.2) Error (criu/x.c:1): no such thing\n(00.3) Error (criu/y.c:2): failed\n";
        assert_eq!(
            first_error(log).as_deref(),
            Some("(00.2) Error (criu/x.c:1): no such thing")
        );
        let helper = "(1) Error (criu/util.c:642): exited, status=1\n(2) Error (criu/f.c:4): Can't dump tmpfs\n";
        assert_eq!(
            first_error(helper).as_deref(),
            Some("(2) Error (criu/f.c:4): Can't dump tmpfs")
        );
        assert_eq!(first_error("all is well"), None);
    }
}
