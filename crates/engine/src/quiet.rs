//! Giving memory back once the engine has been quiet for a while.
//!
//! A pull or a build leaves tens of megabytes in the allocator, and code that runs once stays
//! mapped. Neither is worth its memory when the next request may come tomorrow.
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;

use crate::Shared;

/// How long nothing must have happened. Longer than the pauses of somebody who types commands.
const QUIET: Duration = Duration::from_secs(5);

/// How long a thread without work is kept. Shorter than the quiet after which memory is given back: what a thread
/// freed stays with it, and keeps whole pages, until it ends.
pub const IDLE_THREAD: Duration = Duration::from_secs(3);

/// Prepares a process for an engine; to be called first thing, while it has one thread and few descriptors.
pub fn settle_process() {
    settle_memory();
    if let Err(error) = wharf_sys::spawn::lower() {
        tracing::debug!("shims are started with copies of all descriptors: {error}");
    }
}

/// Has the process keep its memory in few places.
///
/// Requests of containers run on many short-lived threads. Without this each has a store of free memory of its own,
/// sixteen on two processors, none of which is ever empty enough to be given back.
fn settle_memory() {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    wharf_sys::memory::limit_arenas(processors.max(2));
}

/// Waits for work to end and for quiet after it, then gives memory back; for ever.
///
/// ORDER: what can be read again from disk goes first. The allocator gives back whole pages only, and after a thousand
/// containers came and went, the few small things that stay would each keep one.
pub(crate) async fn give_back(shared: Weak<Shared>) {
    loop {
        let Some(worked) = shared.upgrade().map(|shared| Arc::clone(shared.operations.worked())) else {
            return;
        };
        worked.notified().await;
        while timeout(QUIET, worked.notified()).await.is_ok() {}
        let shared = shared.upgrade();
        let done = tokio::task::spawn_blocking(move || {
            if let Some(shared) = shared {
                shared.db.shrink();
                shared.events.forget_saved();
            }
            wharf_sys::memory::trim();
            wharf_sys::memory::forget_program();
        });
        if let Err(error) = done.await {
            tracing::debug!(%error, "memory was not given back");
        }
    }
}
