//! What happens during a transfer, as data; the engine turns it into Docker's JSON lines.

use std::sync::Arc;
use wharf_store::Digest;

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The manifest that the name leads to.
    Resolved(Digest),
    /// A layer (or another blob) moved on.
    Layer {
        /// The blob.
        blob: Digest,
        /// Where it is now.
        state: LayerState,
    },
}

/// The states of a blob, in Docker's terms. Sizes are bytes of the blob as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// Known to be needed.
    PullingFsLayer,
    /// Waits for its turn.
    Waiting,
    /// Arriving.
    Downloading {
        /// Bytes here.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Broke off; goes on after a pause, from where it stopped.
    Retrying {
        /// The pause, in seconds, rounded up.
        seconds: u64,
    },
    /// Here, its digest verified.
    DownloadComplete,
    /// Being unpacked.
    Extracting {
        /// Bytes consumed.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Unpacked and visible.
    PullComplete,
    /// Was here before (pull).
    AlreadyExists,
    /// Known to be pushed.
    Preparing,
    /// Leaving.
    Pushing {
        /// Bytes sent.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The registry has it now.
    Pushed,
    /// The registry had it before (push).
    LayerAlreadyExists,
    /// The registry took it over from another repository of its own.
    MountedFrom(String),
}

/// Where news goes; called from several threads.
pub type Sink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The sink of one blob.
#[derive(Clone)]
pub(crate) struct BlobSink {
    pub(crate) blob: Digest,
    pub(crate) sink: Sink,
}

impl BlobSink {
    pub(crate) fn tell(&self, state: LayerState) {
        (self.sink)(Progress::Layer {
            blob: self.blob.clone(),
            state,
        });
    }
}
