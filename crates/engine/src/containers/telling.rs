//! Notes of a container's task for its story: pure, over what the machine decided.
use std::time::Duration;

use wharf_shim::protocol::ExitRecord;

use super::machine::{Effect, Goal, Input, Machine, Phase, Step};
use crate::model::{Cause, ContainerRecord, Happening, RestartKind, Timestamp};

/// Who is behind what follows an input.
pub(super) fn cause_of(input: &Input, machine: &Machine) -> Cause {
    match input {
        Input::Start => Cause::UserStart,
        Input::Stop { .. } => Cause::UserStop,
        Input::ShutDown { .. } => Cause::HostShutdown,
        Input::Restart { .. } => Cause::UserRestart,
        Input::Kill { .. } => Cause::UserKill,
        Input::Remove { .. } => Cause::UserRemove,
        Input::Pause | Input::Unpause => Cause::UserPause,
        Input::StopTimedOut => Cause::StopTimeout,
        Input::BackoffElapsed => Cause::PlannedRestart,
        Input::Unhealthy { .. } => Cause::Health,
        Input::Exited { .. } if machine.goal == Goal::Start => Cause::UserRestart,
        _ => Cause::Engine,
    }
}

/// Notes a freeze or thaw that was performed.
pub(super) fn performed(record: &mut ContainerRecord, input: &Input, by: Cause) {
    match input {
        Input::Frozen => record.story.push(Happening::Paused { by }),
        Input::Thawed => record.story.push(Happening::Unpaused { by }),
        _ => {}
    }
}

/// Notes the end of a run and what follows from it.
pub(super) fn ended(
    record: &mut ContainerRecord,
    before: &Machine,
    exit: &ExitRecord,
    ran_for: Duration,
    decided: &Step,
) {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    record.story.push_at(
        Timestamp::from_nanos(exit.exited_at_ns),
        Happening::Ended {
            code: exit.code,
            signal: exit.signal,
            ran_for_ms: millis(ran_for),
        },
    );
    let Ok((after, effects)) = decided else { return };
    for effect in effects {
        if let Effect::ArmRestartTimer(pause) = effect {
            record.story.push(Happening::RestartPlanned {
                after_ms: millis(*pause),
                attempt: after.restart_count,
                for_health: before.goal == Goal::Cure,
            });
        }
    }
    let used_up = before.policy.kind == RestartKind::OnFailure
        && before.policy.max_retries > 0
        && before.restart_count >= before.policy.max_retries;
    if used_up && exit.code != 0 && before.goal == Goal::None && after.phase == Phase::Exited {
        record.story.push(Happening::RestartsUsedUp {
            attempts: before.restart_count,
        });
    }
}
