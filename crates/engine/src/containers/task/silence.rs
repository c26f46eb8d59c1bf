//! A shim that does not answer: what it would have done for a kill is done without it.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;
use wharf_cgroup::Cgroup;

use super::super::blocking::blocking;
use super::super::handle::is_alive;
use super::super::machine::SIGKILL;
use super::super::paths::{Places, cgroup_path};
use super::super::patience::{self, KILL_PATIENCE};
use super::super::recovery;
use super::Task;
use crate::error::Context as _;
use crate::model::Happening;

/// How long a shim that was silent is listened to once more before its run is ended without it.
const LAST_CHANCE: Duration = Duration::from_secs(1);

impl Task {
    /// The shim did not take a signal in time. SIGKILL reaches the container all the same; any other would come to
    /// its first process twice if the shim goes on.
    pub(super) async fn signal_without_shim(&mut self, signal: i32) {
        self.is_shim_silent = true;
        let dir = Places::of(&self.shared.config, &self.record.id).shim;
        let doing = blocking("looking at a silent shim", move || Ok(patience::keeper_does(&dir))).await;
        let doing = doing.unwrap_or_else(|error| error.chain());
        tracing::warn!(
            container = self.record.id.short(),
            "its shim did not take signal {signal}: {doing}"
        );
        if signal != SIGKILL {
            return;
        }
        self.record.story.push(Happening::KeeperSilent { message: doing });
        let (shared, path) = (Arc::clone(&self.shared), cgroup_path(&self.shared.config, &self.record));
        // Thaws it, too.
        let killed = blocking("killing a container without its shim", move || {
            let group = Cgroup::open(&shared.hierarchy, &path).internal(|| format!("open the cgroup {path}"))?;
            group.kill().internal(|| format!("kill the processes of {path}"))
        });
        if let Err(error) = killed.await {
            tracing::warn!(container = self.record.id.short(), "{}", error.chain());
        }
    }

    /// Whether nobody has to be told that the container does not end: its silent shim answers again, or the run was
    /// ended without it, as nothing of it lives.
    pub(super) async fn settles_without_shim(&mut self) -> bool {
        if let Some(shim) = self.shim.clone()
            && matches!(tokio::time::timeout(LAST_CHANCE, shim.state()).await, Ok(Ok(_)))
        {
            // ORDER: it takes requests in their order, so that it has taken the signal, too.
            self.is_shim_silent = false;
            self.give_up_at = Some(Instant::now() + KILL_PATIENCE);
            return true;
        }
        if !self.is_dead().await {
            return false;
        }
        match recovery::end_silent(&self.shared, &self.record).await {
            Ok(exit) => {
                self.shim = None;
                self.on_exit(exit).await;
                true
            }
            Err(error) => {
                tracing::warn!(container = self.record.id.short(), "{}", error.chain());
                false
            }
        }
    }

    /// Whether no process of the container lives.
    async fn is_dead(&self) -> bool {
        let (shared, path) = (Arc::clone(&self.shared), cgroup_path(&self.shared.config, &self.record));
        let first = self.record.state.pid;
        let look = blocking("looking for processes of a container", move || {
            let pids = Cgroup::open(&shared.hierarchy, &path).and_then(|group| group.pids());
            let is_empty = match pids {
                Ok(pids) => pids.is_empty(),
                // The shim may have removed it already.
                Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => true,
                Err(error) => return Err(error).internal(|| format!("list the processes of {path}")),
            };
            Ok(is_empty && !is_alive(first))
        });
        look.await.unwrap_or(false)
    }
}
