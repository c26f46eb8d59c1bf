//! What a container's task can be asked.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::model::requests::{RemoveOptions, StopOptions, UpdateContainer};
use crate::model::{EndpointSettings, HealthProbe, NetworkRecord};
use crate::operations::Operation;

/// How the asker hears back, and the operation that it asked for.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    sender: oneshot::Sender<Result<T>>,
    operation: Arc<Operation>,
}

impl<T> Reply<T> {
    /// A reply and where it is heard.
    pub(crate) fn new(operation: Arc<Operation>) -> (Self, oneshot::Receiver<Result<T>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, operation }, receiver)
    }

    /// What was asked for.
    pub(crate) fn operation(&self) -> Arc<Operation> {
        Arc::clone(&self.operation)
    }

    /// Answers; the operation is over.
    pub(crate) fn send(self, result: Result<T>) {
        let _ = self.sender.send(result); // a caller that went away does not mind
    }
}

/// One request to a container's task.
#[derive(Debug)]
pub(crate) enum Command {
    Start(Reply<()>),
    Stop(StopOptions, Reply<()>),
    Restart(StopOptions, Reply<()>),
    Kill(i32, Reply<()>),
    Pause(Reply<()>),
    Unpause(Reply<()>),
    Remove(RemoveOptions, Reply<()>),
    Rename(String, Reply<()>),
    Update(Box<UpdateContainer>, Reply<Vec<String>>),
    Connect(Arc<NetworkRecord>, Box<EndpointSettings>, Reply<()>),
    Disconnect(Arc<NetworkRecord>, Reply<()>),
    /// A health probe ended; the run it belongs to is told by the number.
    Probed {
        run: u64,
        probe: HealthProbe,
    },
}

impl Command {
    /// The operation that was asked for; none for what the engine tells itself.
    pub(crate) fn operation(&self) -> Option<Arc<Operation>> {
        let operation = match self {
            Self::Start(reply)
            | Self::Stop(_, reply)
            | Self::Restart(_, reply)
            | Self::Kill(_, reply)
            | Self::Pause(reply)
            | Self::Unpause(reply)
            | Self::Remove(_, reply)
            | Self::Rename(_, reply)
            | Self::Connect(_, _, reply)
            | Self::Disconnect(_, reply) => &reply.operation,
            Self::Update(_, reply) => &reply.operation,
            Self::Probed { .. } => return None,
        };
        Some(Arc::clone(operation))
    }
}

/// The time a stop gives a container.
pub(crate) fn stop_timeout(asked: Option<i64>, configured: Option<i64>) -> Option<Duration> {
    let seconds = asked.or(configured).unwrap_or(10);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}
