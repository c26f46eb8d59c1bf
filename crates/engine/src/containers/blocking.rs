//! Running work that blocks on a thread where that is allowed, with a deadline.
use std::time::Duration;

use crate::error::{Error, Result};

/// Longest time one blocking step of an operation may take before the operation is given up.
/// The thread itself cannot be stopped; it is left behind and its result ignored.
pub(crate) const STEP_DEADLINE: Duration = Duration::from_secs(60);

/// Runs `work` for at most [`STEP_DEADLINE`]; `what` names it in errors.
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
