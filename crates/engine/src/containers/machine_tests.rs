//! Properties and tables of the state machine.
use proptest::prelude::*;

use super::*;

const SIGTERM: i32 = 15;

fn policy(kind: RestartKind, max_retries: u32) -> Policy {
    Policy { kind, max_retries }
}

fn running(policy: Policy) -> Machine {
    Machine {
        phase: Phase::Running,
        ran: true,
        ..Machine::new(policy, false)
    }
}

fn exited(code: i32) -> Input {
    Input::Exited {
        code,
        ran_for: Duration::from_secs(1),
    }
}

fn no() -> Policy {
    policy(RestartKind::No, 0)
}

#[test]
fn refusals_leave_a_reason() {
    let check = |phase: Phase, input: Input, expected: Refusal| {
        let machine = Machine {
            phase,
            ..Machine::new(no(), false)
        };
        assert_eq!(machine.step(input), Err(expected), "{phase:?} {input:?}");
    };
    let stop = Input::Stop {
        signal: SIGTERM,
        timeout: None,
    };
    let kill = Input::Kill {
        signal: SIGKILL,
        ends_it: true,
    };
    check(Phase::Running, Input::Start, Refusal::AlreadyRunning);
    check(Phase::Paused, Input::Start, Refusal::Paused);
    check(Phase::Created, stop, Refusal::NotRunning);
    check(Phase::Exited, kill, Refusal::NotRunning);
    check(Phase::Created, Input::Pause, Refusal::NotRunning);
    check(Phase::Paused, Input::Pause, Refusal::AlreadyPaused);
    check(Phase::Running, Input::Unpause, Refusal::NotPaused);
    check(Phase::Exited, Input::Unpause, Refusal::NotPaused);
    check(Phase::Running, Input::Remove { force: false }, Refusal::Running);
    check(Phase::Paused, Input::Remove { force: false }, Refusal::Paused);
    check(
        Phase::Removing,
        Input::Remove { force: true },
        Refusal::RemovalInProgress,
    );
    check(Phase::Removing, Input::Start, Refusal::RemovalInProgress);
}

#[test]
fn a_stop_signals_waits_and_kills() {
    let timeout = Duration::from_secs(10);
    let (m, effects) = running(no())
        .step(Input::Stop {
            signal: SIGTERM,
            timeout: Some(timeout),
        })
        .expect("runs");
    assert_eq!(effects, vec![Effect::Signal(SIGTERM), Effect::ArmStopTimer(timeout)]);
    let (m, effects) = m.step(Input::StopTimedOut).expect("accepted");
    assert_eq!(effects, vec![Effect::Signal(SIGKILL)]);
    let (m, effects) = m.step(exited(137)).expect("accepted");
    assert_eq!((m.phase, effects), (Phase::Exited, vec![Effect::DisarmStopTimer]));
}

#[test]
fn on_failure_restarts_up_to_its_bound_and_backs_off() {
    let mut m = running(policy(RestartKind::OnFailure, 2));
    let mut pauses = vec![];
    for _ in 0..2 {
        let (next, effects) = m.step(exited(3)).expect("accepted");
        assert_eq!(next.phase, Phase::Restarting);
        pauses.extend(effects.iter().filter_map(|e| match e {
            Effect::ArmRestartTimer(d) => Some(d.as_millis()),
            _ => None,
        }));
        m = next
            .step(Input::BackoffElapsed)
            .expect("accepted")
            .0
            .step(Input::Launched)
            .expect("accepted")
            .0;
    }
    let (m, _) = m.step(exited(3)).expect("accepted");
    assert_eq!((m.phase, m.restart_count, pauses), (Phase::Exited, 2, vec![100, 200]));
    let (ok, _) = running(policy(RestartKind::OnFailure, 2))
        .step(exited(0))
        .expect("accepted");
    assert_eq!(ok.phase, Phase::Exited);
}

#[test]
fn a_restart_launches_after_the_end() {
    let (m, _) = running(no())
        .step(Input::Restart {
            signal: SIGTERM,
            timeout: None,
        })
        .expect("runs");
    let (m, effects) = m.step(exited(0)).expect("accepted");
    assert_eq!(m.phase, Phase::Starting);
    assert!(effects.contains(&Effect::Launch));
}

#[test]
fn auto_remove_follows_the_end_and_a_failed_start() {
    let m = Machine {
        auto_remove: true,
        ..running(no())
    };
    let (m, effects) = m.step(exited(0)).expect("accepted");
    assert_eq!((m.phase, effects.contains(&Effect::Remove)), (Phase::Removing, true));
    let (m, _) = Machine::new(no(), true).step(Input::Start).expect("starts");
    let (m, effects) = m.step(Input::LaunchFailed).expect("accepted");
    assert_eq!((m.phase, effects), (Phase::Removing, vec![Effect::Remove]));
}

fn inputs() -> impl Strategy<Value = Input> {
    let timeout = prop_oneof![Just(None), Just(Some(Duration::from_secs(1)))];
    let kinds = prop_oneof![
        Just(RestartKind::No),
        Just(RestartKind::Always),
        Just(RestartKind::UnlessStopped),
        Just(RestartKind::OnFailure)
    ];
    prop_oneof![
        Just(Input::Start),
        timeout.clone().prop_map(|timeout| Input::Stop {
            signal: SIGTERM,
            timeout
        }),
        timeout.prop_map(|timeout| Input::Restart {
            signal: SIGTERM,
            timeout
        }),
        any::<bool>().prop_map(|ends_it| Input::Kill { signal: 1, ends_it }),
        Just(Input::Pause),
        Just(Input::Unpause),
        (0..3i32, 0..20u64).prop_map(|(code, secs)| Input::Exited {
            code,
            ran_for: Duration::from_secs(secs)
        }),
        Just(Input::StopTimedOut),
        Just(Input::BackoffElapsed),
        any::<bool>().prop_map(|force| Input::Remove { force }),
        (kinds, 0..4u32).prop_map(|(kind, max)| Input::SetPolicy(policy(kind, max))),
    ]
}

/// What the outside world would be, were the effects performed.
#[derive(Default)]
struct World {
    alive: bool,
    removed: bool,
    restart_timer: bool,
    user_wants_it_stopped: bool,
}

impl World {
    /// Performs effects and returns the inputs that answer them.
    fn perform(&mut self, effects: &[Effect], launches_work: bool) -> Vec<Input> {
        let mut answers = vec![];
        for effect in effects {
            match effect {
                Effect::Launch => {
                    assert!(!self.alive, "launched twice");
                    assert!(!self.user_wants_it_stopped, "launched against the user's will");
                    self.alive = launches_work;
                    answers.push(if launches_work {
                        Input::Launched
                    } else {
                        Input::LaunchFailed
                    });
                }
                Effect::Signal(_) | Effect::Freeze | Effect::Thaw => {
                    assert!(self.alive, "{effect:?} without a process");
                    match effect {
                        Effect::Freeze => answers.push(Input::Frozen),
                        Effect::Thaw => answers.push(Input::Thawed),
                        _ => {}
                    }
                }
                Effect::ArmRestartTimer(_) => self.restart_timer = true,
                Effect::DisarmRestartTimer => self.restart_timer = false,
                Effect::Remove => {
                    assert!(!self.alive, "removed while its process runs");
                    assert!(!self.removed, "removed twice");
                    self.removed = true;
                    answers.push(Input::Removed);
                }
                Effect::ArmStopTimer(_) | Effect::DisarmStopTimer => {}
            }
        }
        answers
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_of_inputs_breaks_the_invariants(
        steps in proptest::collection::vec((inputs(), any::<bool>()), 1..60),
        auto_remove in any::<bool>(),
    ) {
        let mut machine = Machine::new(no(), auto_remove);
        let mut world = World::default();
        for (input, launches_work) in steps {
            // Only what the world can produce.
            match input {
                Input::Exited { .. } if !world.alive => continue,
                Input::BackoffElapsed if !world.restart_timer => continue,
                _ => {}
            }
            let mut queue = vec![input];
            while let Some(input) = queue.pop() {
                let Ok((next, effects)) = machine.step(input) else { continue };
                match input {
                    Input::Exited { .. } => world.alive = false,
                    Input::BackoffElapsed => world.restart_timer = false,
                    Input::Stop { .. } => world.user_wants_it_stopped = true,
                    Input::Start | Input::Restart { .. } => world.user_wants_it_stopped = false,
                    _ => {}
                }
                machine = next;
                queue.extend(world.perform(&effects, launches_work));
                if queue.is_empty() {
                    prop_assert_eq!(machine.is_alive(), world.alive, "after {:?}", input);
                    prop_assert_eq!(machine.phase == Phase::Restarting, world.restart_timer);
                    prop_assert!(machine.phase != Phase::Starting);
                    prop_assert_eq!(machine.phase == Phase::Removed, world.removed);
                }
            }
        }
    }
}

#[test]
fn an_unhealthy_container_gets_what_was_asked_and_no_more() {
    let unhealthy = |action| Input::Unhealthy {
        action,
        signal: SIGTERM,
        timeout: None,
    };
    let check = |action, phase, restarts, manually_stopped| {
        let m = running(policy(RestartKind::UnlessStopped, 0));
        let (m, effects) = m.step(unhealthy(action)).expect("accepted");
        assert!(matches!(effects[..], [Effect::Signal(_)]), "{action:?}: {effects:?}");
        let (again, none) = m.step(unhealthy(action)).expect("accepted");
        assert_eq!((again, none), (m, vec![]), "it is asked for once");
        let (m, effects) = m.step(exited(137)).expect("accepted");
        assert_eq!(
            (m.phase, m.restart_count, m.manually_stopped),
            (phase, restarts, manually_stopped)
        );
        let waits = effects.contains(&Effect::ArmRestartTimer(FIRST_BACKOFF));
        assert_eq!(waits, phase == Phase::Restarting);
    };
    check(OnUnhealthy::Kill, Phase::Restarting, 1, false); // its policy
    check(OnUnhealthy::Restart, Phase::Restarting, 1, false);
    check(OnUnhealthy::Stop, Phase::Exited, 0, true);
    let (_, effects) = running(no()).step(unhealthy(OnUnhealthy::Freeze)).expect("accepted");
    assert_eq!(effects, vec![Effect::Freeze]);
    let (_, effects) = running(no()).step(unhealthy(OnUnhealthy::None)).expect("accepted");
    assert_eq!(effects, vec![]);
}

#[test]
fn a_user_s_word_wins_over_health() {
    let stop = Input::Stop {
        signal: SIGTERM,
        timeout: None,
    };
    let cure = Input::Unhealthy {
        action: OnUnhealthy::Restart,
        signal: SIGTERM,
        timeout: None,
    };
    for order in [[stop, cure], [cure, stop]] {
        let mut m = running(no());
        for input in order {
            m = m.step(input).expect("accepted").0;
        }
        let (m, _) = m.step(exited(143)).expect("accepted");
        assert_eq!(m.phase, Phase::Exited, "{order:?}");
    }
}
