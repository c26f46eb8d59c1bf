//! Health checks: one monitor per running container that has a check.
//!
//! The monitor runs probes one after another as exec sessions without a record and sends
//! their results to the container's task, which judges them.
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use wharf_shim::client::ShimClient;
use wharf_shim::plan::AttachSpec;

use super::command::Command;
use super::exec;
use super::handle::Handle;
use crate::model::requests::CreateExec;
use crate::model::{ContainerRecord, Health, HealthConfig, HealthProbe, HealthStatus, OnUnhealthy, Status, Timestamp};

/// Bytes of a probe's output that are kept.
const MAX_OUTPUT: u64 = 4096;

/// Probes that are kept.
const MAX_PROBES: usize = 5;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;

/// A running monitor; dropping it ends it.
#[derive(Debug)]
pub(super) struct Monitor {
    task: AbortHandle,
    rules: Rules,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A health check with its defaults filled in.
#[derive(Clone, Debug)]
struct Rules {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Rules {
    fn of(record: &ContainerRecord) -> Option<Self> {
        let check = record.config.healthcheck.as_ref().filter(|c| c.has_test())?;
        let or = |nanos: i64, default: Duration| match u64::try_from(nanos) {
            Ok(n) if n > 0 => Duration::from_nanos(n),
            _ => default,
        };
        Some(Self {
            command: command_of(record, check)?,
            interval: or(check.interval, DEFAULT_INTERVAL),
            timeout: or(check.timeout, DEFAULT_INTERVAL),
            start_period: or(check.start_period, Duration::ZERO),
            start_interval: or(check.start_interval, DEFAULT_START_INTERVAL),
            retries: u32::try_from(check.retries)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(DEFAULT_RETRIES),
        })
    }
}

fn command_of(record: &ContainerRecord, check: &HealthConfig) -> Option<Vec<String>> {
    let (kind, words) = check.test.as_ref()?.split_first()?;
    if kind == "CMD-SHELL" {
        let shell = record.config.shell.clone().filter(|s| !s.is_empty());
        let mut command = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        command.extend(words.iter().cloned());
        return Some(command);
    }
    (!words.is_empty()).then(|| words.to_vec())
}

impl Monitor {
    /// Starts monitoring a container that was just started (or adopted); `None` without a check.
    pub(super) fn start(handle: &Arc<Handle>, record: &mut ContainerRecord, run: u64) -> Option<Self> {
        let rules = match Rules::of(record) {
            Some(rules) => rules,
            None => {
                record.state.health = None;
                return None;
            }
        };
        record.state.health.get_or_insert_with(Health::default);
        let task = tokio::spawn(watch(Arc::clone(handle), rules.clone(), run)).abort_handle();
        Some(Self { task, rules })
    }

    /// Takes a probe into account; answers the new status when it changed.
    pub(super) fn judge(&self, record: &mut ContainerRecord, probe: HealthProbe) -> Option<HealthStatus> {
        let started = record.state.started_at.unwrap_or(probe.start);
        let in_start_period = probe.start.since(started) < self.rules.start_period;
        let health = record.state.health.get_or_insert_with(Health::default);
        let before = health.status;
        if probe.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting || !in_start_period {
            health.failing_streak += 1;
            if health.failing_streak >= self.rules.retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
        health.log.push(probe);
        if health.log.len() > MAX_PROBES {
            health.log.remove(0);
        }
        (health.status != before).then_some(health.status)
    }
}

/// What follows a probe: nothing, unless the container is unhealthy and the probe failed. Each further failure asks
/// again, so that no engine's death in between loses the action.
pub(super) fn remedy(record: &ContainerRecord, probe_failed: bool) -> Option<OnUnhealthy> {
    let unhealthy = record
        .state
        .health
        .as_ref()
        .is_some_and(|h| h.status == HealthStatus::Unhealthy);
    let action = record.on_unhealthy();
    (unhealthy && probe_failed && action != OnUnhealthy::None).then_some(action)
}

async fn watch(handle: Arc<Handle>, rules: Rules, run: u64) {
    loop {
        let record = handle.record();
        let starting = record
            .state
            .health
            .as_ref()
            .is_some_and(|h| h.status == HealthStatus::Starting);
        let started = record.state.started_at.unwrap_or_default();
        let in_start_period = Timestamp::now().since(started) < rules.start_period;
        let pause = if starting && in_start_period {
            rules.start_interval
        } else {
            rules.interval
        };
        tokio::time::sleep(pause).await;
        if handle.record().state.status == Status::Paused {
            continue; // COMPAT: frozen processes are not asked
        }
        let Some(shim) = handle.shim() else { return };
        let probe = probe(&handle, &shim, &rules).await;
        if handle.mailbox.send(Command::Probed { run, probe }).await.is_err() {
            return;
        }
    }
}

async fn probe(handle: &Arc<Handle>, shim: &ShimClient, rules: &Rules) -> HealthProbe {
    let start = Timestamp::now();
    let (exit_code, output) = match run_probe(handle, &handle.record(), shim, rules).await {
        Ok(done) => done,
        Err(message) => (-1, message),
    };
    HealthProbe {
        start,
        end: Timestamp::now(),
        exit_code,
        output,
    }
}

async fn run_probe(
    handle: &Arc<Handle>,
    record: &ContainerRecord,
    shim: &ShimClient,
    rules: &Rules,
) -> Result<(i32, String), String> {
    let request = CreateExec {
        cmd: rules.command.clone(),
        ..CreateExec::default()
    };
    let (ours, theirs) = UnixStream::pair().map_err(|e| format!("health probe: {e}"))?;
    let theirs: OwnedFd = theirs.into_std().map_err(|e| format!("health probe: {e}"))?.into();
    let spec = AttachSpec {
        stdout: true,
        stderr: true,
        ..AttachSpec::default()
    };
    let run = exec::run_hidden(record, handle, shim, request, (spec, theirs))
        .await
        .map_err(|e| e.message().to_owned())?;
    let mut output = Vec::new();
    let to_the_end = async {
        collect(ours, &mut output).await;
        run.exit_code().await
    };
    match tokio::time::timeout(rules.timeout, to_the_end).await {
        Ok(code) => Ok((code, String::from_utf8_lossy(&output).into_owned())),
        Err(_) => {
            run.kill().await;
            Err(timed_out(rules.timeout, &String::from_utf8_lossy(&output)))
        }
    }
}

/// COMPAT: the timeout as Go prints a duration, and what the probe had said until then.
fn timed_out(timeout: Duration, output: &str) -> String {
    let (minutes, seconds) = (timeout.as_secs() / 60, timeout.as_secs_f64() % 60.0);
    let timeout = match timeout {
        t if t < Duration::from_secs(1) => format!("{}ms", t.as_secs_f64() * 1_000.0),
        t if t < Duration::from_secs(60) => format!("{seconds}s"),
        t if t < Duration::from_secs(3600) => format!("{minutes}m{seconds}s"),
        _ => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    };
    let said = if output.is_empty() { "" } else { ": " };
    format!("Health check exceeded timeout ({timeout}){said}{output}")
}

/// Reads all output, keeps the first part.
async fn collect(mut stream: UnixStream, output: &mut Vec<u8>) {
    let mut head = (&mut stream).take(MAX_OUTPUT);
    let _ = head.read_to_end(output).await; // a broken stream ends the output
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await; // likewise
}
