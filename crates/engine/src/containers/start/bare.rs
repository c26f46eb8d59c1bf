//! The mount namespace that containers' mounts begin in: made once by each engine, gone with it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use wharf_shim::plan::BarePlan;

/// That namespace, once it is there. Without it every start copies all of the host's mounts.
#[derive(Debug, Default, Clone)]
pub(crate) struct BareMounts(Arc<OnceLock<(OwnedFd, BarePlan)>>);

impl BareMounts {
    /// Has it made beside all else; `place` is any directory.
    pub(crate) fn make(place: &Path) -> Self {
        let (made, place) = (Self::default(), PathBuf::from(place));
        let found = made.clone();
        let make = move || match make(&place) {
            Ok(namespace) => drop(found.0.set(namespace)), // the first
            Err(errno) => tracing::info!("every start copies the host's mounts: no bare mount namespace: {errno}"),
        };
        let spawned = std::thread::Builder::new().name("bare mounts".into()).spawn(make);
        if let Err(error) = spawned {
            tracing::warn!("every start copies the host's mounts: no thread: {error}");
        }
        made
    }

    /// What a shim is told of it.
    pub(crate) fn plan(&self) -> Option<BarePlan> {
        self.0.get().map(|(_, plan)| plan.clone())
    }
}

fn make(place: &Path) -> Result<(OwnedFd, BarePlan), rustix::io::Errno> {
    let made = wharf_runtime::bare::make(place)?;
    let plan = BarePlan::of(&made)?;
    Ok((made, plan))
}
