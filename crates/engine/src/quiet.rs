//! Giving memory back once the engine has been quiet for a while.
//!
//! A pull or a build leaves tens of megabytes in the allocator, and code that runs once stays
//! mapped. Neither is worth its memory when the next request may come tomorrow.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long nothing must have happened. Longer than the pauses of somebody who types commands.
const QUIET: Duration = Duration::from_secs(5);

/// Waits for work to end and for quiet after it, then gives memory back; for ever.
pub(crate) async fn give_back(worked: Arc<Notify>) {
    loop {
        worked.notified().await;
        while timeout(QUIET, worked.notified()).await.is_ok() {}
        let done = tokio::task::spawn_blocking(|| {
            wharf_sys::memory::trim();
            wharf_sys::memory::forget_program();
        });
        if let Err(error) = done.await {
            tracing::debug!(%error, "memory was not given back");
        }
    }
}
