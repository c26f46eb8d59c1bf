//! The calls, one method each.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wharf_cgroup::Resources;

use super::error::CallError;
use super::link::Link;
use crate::plan::{AttachSpec, ConsoleSize, ExecPlan};
use crate::protocol::{Call, Reply, State};

/// For what a shim answers from memory.
const QUICK: Duration = Duration::from_secs(5);
/// For what the kernel takes its time over: starting, freezing, limits, removal.
const SLOW: Duration = Duration::from_secs(30);

/// A process was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its id on the host.
    pub pid: u32,
    /// Its start time in clock ticks.
    pub start_ticks: u64,
    /// When, nanoseconds since 1970.
    pub at_ns: i64,
}

/// A connection to one shim.
#[derive(Clone, Debug)]
pub struct ShimClient {
    link: Arc<Link>,
}

impl ShimClient {
    pub(super) fn over(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// The shim's directory.
    pub fn dir(&self) -> &Path {
        self.link.dir()
    }

    /// How things stand.
    ///
    /// # Errors
    /// [`CallError`], as for every call.
    pub async fn state(&self) -> Result<State, CallError> {
        match self.link.call(Call::State, &[], QUICK).await? {
            Reply::State(state) => Ok(*state),
            _ => Err(CallError::Unexpected { call: "state" }),
        }
    }

    /// Lets the created process run; answers once exec has succeeded.
    ///
    /// # Errors
    /// [`CallError::Fault`] with the reason if the command could not be executed; an `Exited` event
    /// follows in that case too.
    pub async fn start(&self) -> Result<Started, CallError> {
        started("start", self.link.call(Call::Start, &[], SLOW).await?)
    }

    /// Signals the container's first process. SIGKILL also thaws a paused container.
    ///
    /// # Errors
    /// A conflict if it has ended.
    pub async fn kill(&self, signal: i32) -> Result<(), CallError> {
        self.done(
            Call::Kill {
                exec: None,
                signal,
                all: false,
            },
            QUICK,
        )
        .await
    }

    /// Signals every process of the container.
    ///
    /// # Errors
    /// A conflict if it has ended.
    pub async fn kill_all(&self, signal: i32) -> Result<(), CallError> {
        self.done(
            Call::Kill {
                exec: None,
                signal,
                all: true,
            },
            SLOW,
        )
        .await
    }

    /// Hands over a client's connection.
    ///
    /// # Errors
    /// A conflict if the container has ended.
    pub async fn attach(&self, spec: AttachSpec, client: OwnedFd) -> Result<(), CallError> {
        self.link
            .call(Call::Attach { exec: None, spec }, &[client], QUICK)
            .await
            .map(drop)
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// A conflict if it has ended or has no terminal.
    pub async fn resize(&self, size: ConsoleSize) -> Result<(), CallError> {
        self.done(Call::Resize { exec: None, size }, QUICK).await
    }

    /// Closes the container's standard input, once what is typed ahead has been read.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn close_stdin(&self) -> Result<(), CallError> {
        self.done(Call::CloseStdin { exec: None }, QUICK).await
    }

    /// Runs a further process. The descriptors are only used on success, so a caller that wants to
    /// tell the client about a failure keeps a duplicate.
    ///
    /// The clients of the exec hear its end only once its exit was acknowledged (or after a
    /// second), so that a client that then asks for the exit code finds it.
    ///
    /// # Errors
    /// [`CallError::Fault`] with the reason if the command could not be executed.
    pub async fn exec(&self, plan: ExecPlan, attaches: Vec<(AttachSpec, OwnedFd)>) -> Result<Started, CallError> {
        let (attaches, fds): (Vec<_>, Vec<_>) = attaches.into_iter().unzip();
        let call = Call::Exec {
            plan: Box::new(plan),
            attaches,
        };
        started("exec", self.link.call(call, &fds, SLOW).await?)
    }

    /// Signals an exec.
    ///
    /// # Errors
    /// A conflict if it has ended, not found if there is none.
    pub async fn exec_kill(&self, exec: &str, signal: i32) -> Result<(), CallError> {
        self.done(
            Call::Kill {
                exec: Some(exec.to_owned()),
                signal,
                all: false,
            },
            QUICK,
        )
        .await
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// A conflict if it has ended or has no terminal, not found if there is none.
    pub async fn exec_resize(&self, exec: &str, size: ConsoleSize) -> Result<(), CallError> {
        self.done(
            Call::Resize {
                exec: Some(exec.to_owned()),
                size,
            },
            QUICK,
        )
        .await
    }

    /// Hands over a connection to an exec that runs already.
    ///
    /// # Errors
    /// A conflict if it has ended, not found if there is none.
    pub async fn exec_attach(&self, exec: &str, spec: AttachSpec, client: OwnedFd) -> Result<(), CallError> {
        self.link
            .call(
                Call::Attach {
                    exec: Some(exec.to_owned()),
                    spec,
                },
                &[client],
                QUICK,
            )
            .await
            .map(drop)
    }

    /// The exit of an exec was taken; its file is removed and its clients hear the end.
    ///
    /// # Errors
    /// A conflict if it still runs, not found if there is none.
    pub async fn acknowledge_exec(&self, exec: &str) -> Result<(), CallError> {
        self.done(Call::AcknowledgeExec { exec: exec.to_owned() }, QUICK).await
    }

    /// Freezes the container.
    ///
    /// # Errors
    /// A conflict unless it runs.
    pub async fn pause(&self) -> Result<(), CallError> {
        self.done(Call::Pause, SLOW).await
    }

    /// Thaws the container.
    ///
    /// # Errors
    /// A conflict unless it is paused.
    pub async fn resume(&self) -> Result<(), CallError> {
        self.done(Call::Resume, SLOW).await
    }

    /// Changes limits of the running container.
    ///
    /// # Errors
    /// [`CallError::Fault`]: invalid for what cannot be, unsupported for a missing controller.
    pub async fn update(&self, resources: Resources) -> Result<(), CallError> {
        self.done(
            Call::Update {
                resources: Box::new(resources),
            },
            SLOW,
        )
        .await
    }

    /// Starts a new log file now.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn rotate_log(&self) -> Result<(), CallError> {
        self.done(Call::RotateLog, QUICK).await
    }

    /// The exit was taken: the shim removes its directory and ends.
    ///
    /// # Errors
    /// A conflict if the container has not ended.
    pub async fn acknowledge_exit(&self) -> Result<(), CallError> {
        self.done(Call::Shutdown { force: false }, SLOW).await
    }

    /// Kills the container if it lives, then as [`ShimClient::acknowledge_exit`]; for a created
    /// container that shall never start, and for cleaning up.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn destroy(&self) -> Result<(), CallError> {
        self.done(Call::Shutdown { force: true }, SLOW).await
    }

    async fn done(&self, call: Call, deadline: Duration) -> Result<(), CallError> {
        self.link.call(call, &[], deadline).await.map(drop)
    }
}

fn started(call: &'static str, reply: Reply) -> Result<Started, CallError> {
    match reply {
        Reply::Started {
            pid,
            start_ticks,
            at_ns,
        } => Ok(Started {
            pid,
            start_ticks,
            at_ns,
        }),
        _ => Err(CallError::Unexpected { call }),
    }
}
