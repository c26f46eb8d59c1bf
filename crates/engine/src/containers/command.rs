//! What a container's task can be asked.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::model::requests::{RemoveOptions, StopOptions, UpdateContainer};
use crate::model::{EndpointSettings, HealthProbe, NetworkRecord};

/// How the asker hears back.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

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

/// The time a stop gives a container.
pub(crate) fn stop_timeout(asked: Option<i64>, configured: Option<i64>) -> Option<Duration> {
    let seconds = asked.or(configured).unwrap_or(10);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}
