//! What a task does about its container's health, about want of memory, and about an end that does not come.
use tokio::time::Instant;

use super::super::machine::{Input, Phase};
use super::super::patience::KILL_PATIENCE;
use super::super::{health, oom, patience};
use super::{Task, answer, stop_timeout};
use crate::error::Error;
use crate::model::{Happening, HealthProbe, OnUnhealthy, Timestamp};

impl Task {
    pub(super) async fn on_probe(&mut self, run: u64, probe: HealthProbe) {
        if run != self.run || self.shim.is_none() {
            return; // of an earlier run
        }
        let Some(monitor) = &self.monitor else { return };
        if self.machine.phase == Phase::Paused {
            return; // it was frozen under the probe
        }
        let failed = probe.exit_code != 0;
        if let Some(verdict) = monitor.judge(&mut self.record, probe) {
            self.record.story.push(Happening::Health { status: verdict });
            self.commit().await;
            self.happened(&format!("health_status: {}", verdict.as_str()), &[]);
        } else {
            self.handle.publish(&self.record);
        }
        if let Some(action) = health::remedy(&self.record, failed) {
            self.remedy(action).await;
        }
    }

    /// Does what was asked for an unhealthy container.
    async fn remedy(&mut self, action: OnUnhealthy) {
        let input = Input::Unhealthy {
            action,
            signal: self.stop_signal(),
            timeout: stop_timeout(None, self.record.config.stop_timeout),
        };
        let acts = matches!(self.machine.step(input), Ok((_, effects)) if !effects.is_empty());
        if !acts {
            return; // somebody ends it already
        }
        self.record.story.push(Happening::Remedy { action });
        self.user_stop = action == OnUnhealthy::Stop;
        let done = self.feed_or_refuse(input).await;
        if let Err(error) = done {
            tracing::warn!(container = self.record.id.short(), "unhealthy: {}", error.chain());
        }
        if self.machine.phase == Phase::Paused {
            self.happened("pause", &[]);
        }
    }

    pub(super) async fn note_oom(&mut self, at: Timestamp) {
        self.record.state.oom_killed = true;
        let report = oom::report(&self.record.id).await;
        self.record.story.push_at(at, Happening::OutOfMemory(report));
    }

    /// Tells those who wait for its end what it is stuck on. It ends once that lets go of it.
    pub(super) async fn give_up(&mut self) {
        if self.is_shim_silent {
            if self.settles_without_shim().await {
                return;
            }
            // Nobody else tells of the end.
            self.give_up_at = Some(Instant::now() + KILL_PATIENCE);
        }
        let stuck = patience::stuck_on(&self.shared, &self.record).await;
        let told = Happening::DoesNotEnd {
            message: format!("it was killed and does not end: {stuck}"),
        };
        if self.record.story.notes().last().is_none_or(|note| note.what != told) {
            self.record.story.push(told);
        }
        self.user_restart = false;
        let askers = std::mem::take(&mut self.askers);
        let _ = self.feed(Input::GivenUp).await; // never refused
        // COMPAT: the first half is Docker's.
        let message = |verb: &str| {
            let name = &self.record.name;
            format!(
                "cannot {verb} container: {name}: tried to kill container, but did not receive an exit event: {stuck}"
            )
        };
        for reply in askers.stop {
            answer(reply, Err(Error::internal(message("stop"))));
        }
        for reply in askers.start.into_iter().chain(askers.restart) {
            answer(reply, Err(Error::internal(message("restart"))));
        }
        for reply in askers.remove {
            answer(reply, Err(Error::internal(message("remove"))));
        }
    }
}
