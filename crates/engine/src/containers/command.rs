//! What a container's task can be asked.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

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

/// Waits for what a command that was sent is answered; `None` when its task ended without an answer.
///
/// A command may enter the mailbox in the very moment in which the task ends, behind the last that its end takes out. There it
/// stays for as long as somebody holds the handle, with the sender of its answer: the answer alone would be waited for in vain.
pub(crate) async fn heard<T>(
    mailbox: &mpsc::Sender<Command>,
    mut answer: oneshot::Receiver<Result<T>>,
) -> Option<Result<T>> {
    tokio::select! {
        biased;
        answer = &mut answer => answer.ok(),
        () = mailbox.closed() => answer.try_recv().ok(),
    }
}

/// The time a stop gives a container.
pub(crate) fn stop_timeout(asked: Option<i64>, configured: Option<i64>) -> Option<Duration> {
    let seconds = asked.or(configured).unwrap_or(10);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::{OperationKind, Operations};

    fn restart() -> (Command, oneshot::Receiver<Result<()>>) {
        let operation = Operations::default().begin(OperationKind::Restart, "c1");
        let (reply, answer) = Reply::new(operation);
        (Command::Restart(StopOptions::default(), reply), answer)
    }

    #[tokio::test]
    async fn a_command_behind_the_end_of_the_task_has_no_answer() {
        let (sender, mailbox) = mpsc::channel(4);
        let place = sender.reserve().await.expect("open");
        drop(mailbox);
        let (command, mut answer) = restart();
        place.send(command);
        // It is not dropped while the sender lives, which is why the answer alone says nothing.
        assert_eq!(answer.try_recv().err(), Some(oneshot::error::TryRecvError::Empty));
        let heard = tokio::time::timeout(Duration::from_secs(10), heard(&sender, answer)).await;
        assert!(heard.expect("in time").is_none());
    }

    #[tokio::test]
    async fn the_last_answer_of_a_task_is_heard() {
        let (sender, mut mailbox) = mpsc::channel(4);
        let (command, answer) = restart();
        sender.send(command).await.expect("open");
        let Some(Command::Restart(_, reply)) = mailbox.recv().await else {
            panic!("another")
        };
        reply.send(Ok(()));
        drop(mailbox);
        assert!(matches!(heard(&sender, answer).await, Some(Ok(()))));
    }
}
