//! What a build tells while it runs: structured facts, rendered by [`crate::classic`] for the
//! classic endpoint and later as BuildKit's vertices.

/// Which stream of a `RUN` process a chunk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One fact about a running build. Image ids are full digests (`sha256:<hex>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Step `index` of `total` begins; `text` is the instruction as shown to the user.
    StepStarted {
        /// Position, counted from 1.
        index: usize,
        /// Number of steps of the whole build, triggers not counted.
        total: usize,
        /// The instruction.
        text: String,
    },
    /// The base image has this many `ONBUILD` triggers, which follow as unnumbered steps.
    Triggers {
        /// How many.
        count: usize,
    },
    /// The step's result was found in the cache.
    CacheHit,
    /// A container was made for this step.
    ContainerStarted {
        /// Its full id.
        id: String,
    },
    /// Bytes that the step's process wrote.
    Output {
        /// To which stream.
        stream: OutputStream,
        /// What, unaltered.
        data: Vec<u8>,
    },
    /// The step's container is gone.
    ContainerRemoved {
        /// Its full id.
        id: String,
    },
    /// The step is complete; its result would have this image id.
    StepDone {
        /// Image id, or `None` after `FROM scratch`.
        image: Option<String>,
    },
    /// A stage is complete and is this image.
    StageDone {
        /// Image id.
        image: String,
    },
    /// Something the user should know that does not end the build.
    Warning {
        /// Without a trailing newline.
        text: String,
    },
    /// Progress of fetching an image or of a download, as Docker's pull shows it.
    PullStatus {
        /// The layer or tag it is about.
        id: Option<String>,
        /// `Downloading`, `Pull complete`, ...
        status: String,
        /// Bytes so far and in all, where known.
        progress: Option<(u64, Option<u64>)>,
    },
    /// The whole build is complete.
    Built {
        /// Image id.
        image: String,
    },
    /// The image has got this name.
    Tagged {
        /// Familiar form, `name:tag`.
        name: String,
    },
}

/// Where events go. Called from the build's thread, in order; must not block for long.
pub trait Events: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> Events for F {
    fn emit(&self, event: Event) {
        self(event);
    }
}
