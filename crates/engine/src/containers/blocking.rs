//! Running work that blocks on a thread where that is allowed, with a deadline.
use std::time::Duration;

use crate::error::{Error, Result};
use crate::operations;

/// Longest time one blocking step of an operation may take before the operation is given up.
/// The thread itself cannot be stopped; it is left behind and its result ignored.
pub(crate) const STEP_DEADLINE: Duration = Duration::from_secs(60);

/// What a step has even when its operation's deadline is over: undoing must get its chance.
const LEAST: Duration = Duration::from_secs(5);

/// Runs `work` for at most [`STEP_DEADLINE`]; `what` names it in errors and in the list of operations.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    blocking_within(STEP_DEADLINE, what, work).await
}

/// Runs `work`, which asks file systems that are not the engine's own, for at most `limit`.
pub(crate) async fn blocking_within<T: Send + 'static>(
    limit: Duration,
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let _waiting = operations::waiting(what);
    let left = operations::time_left().unwrap_or(limit);
    let limit = limit.min(left.max(LEAST));
    let task = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(join)) => Err(Error::internal(format!("{what} was interrupted")).with_source(join)),
        Err(_) => Err(
            Error::unavailable(format!("{what} did not end within {} s", limit.as_secs()))
                .with_hint("a mount or disk it depends on may be stuck"),
        ),
    }
}
