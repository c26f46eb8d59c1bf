//! Hooks: programs of the configuration, run at points of the lifecycle with
//! the container's state on stdin (config.md#posix-platform-hooks).

mod output;

use crate::spec::{Hook, Spec};
use crate::{ErrorKind, RuntimeError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::PipeFlags;
use rustix::process::WaitIdOptions;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_sys::handle;
use wharf_sys::spawn::{Program, Spawn};

pub(crate) use output::HookOutput;

/// What `state` prints and hooks read (runtime.md#state).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState<'a> {
    /// Version of the specification.
    pub oci_version: &'a str,
    /// The container.
    pub id: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'a str,
    /// Init, as the hook sees it; 0 when there is none.
    pub pid: i32,
    /// Directory of the bundle.
    pub bundle: &'a Path,
    /// Annotations of the configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

/// Runs hooks in their order and stops at the first that fails.
///
/// # Errors
/// When one cannot be run, fails, or exceeds its timeout.
pub fn run(stage: &str, hooks: &[Hook], state: &HookState<'_>) -> Result<(), RuntimeError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let around = Surroundings {
        environment: &own_environment,
        output: &HookOutput::open(state.annotations)?,
    };
    run_in(&around, stage, hooks, state)
}

/// What a hook finds besides its own words.
struct Surroundings<'a> {
    /// For those without an environment of their own.
    environment: &'a dyn Fn() -> Vec<CString>,
    output: &'a HookOutput,
}

fn run_in(around: &Surroundings<'_>, stage: &str, hooks: &[Hook], state: &HookState<'_>) -> Result<(), RuntimeError> {
    let text = serde_json::to_vec(state)
        .map_err(|error| RuntimeError::new(ErrorKind::System, "hooks", format!("write the state: {error}")))?;
    for (index, hook) in hooks.iter().enumerate() {
        run_one((stage, index), hook, around, &text)?;
    }
    Ok(())
}

fn run_one(
    (stage, index): (&str, usize),
    hook: &Hook,
    around: &Surroundings<'_>,
    state: &[u8],
) -> Result<(), RuntimeError> {
    let field = &format!("hooks.{stage}[{index}]");
    let env = match &hook.env {
        Some(env) => env.iter().map(|entry| text(field, entry)).collect::<Result<_, _>>()?,
        None => (around.environment)(),
    };
    let failed = |what: &str| {
        let text = format!("{field}: {what} {}", hook.path.display());
        move |errno| RuntimeError::system("hooks", text, errno)
    };
    let stdin = state_file(state).map_err(failed("give the state to"))?;
    let (said, says) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe for"))?;
    let stdout = around.output.stdout.as_ref().unwrap_or(&says);
    let stderr = around.output.stderr.as_ref().unwrap_or(&says);
    let spawn = Spawn {
        program: Program::Path(text(field, &hook.path.to_string_lossy())?),
        args: match hook.args.as_slice() {
            [] => vec![text(field, &hook.path.to_string_lossy())?],
            args => args.iter().map(|arg| text(field, arg)).collect::<Result<_, _>>()?,
        },
        env,
        fds: vec![(stdin.as_fd(), 0), (stdout.as_fd(), 1), (stderr.as_fd(), 2)],
        directory: None,
        new_session: false,
        cgroup: None,
    };
    let child = spawn.spawn().map_err(failed("run"))?;
    drop(spawn);
    drop(says);
    let deadline = hook
        .timeout
        .map(|seconds| now_ms().saturating_add(seconds.saturating_mul(1000)));
    let said = listen(&child.pidfd, said, deadline).map_err(failed("wait for"))?;
    let timed_out = said.is_none();
    if timed_out {
        let _ = wharf_sys::signal::send(&child.pidfd, 9);
    }
    let status = handle::wait(&child.pidfd, WaitIdOptions::EXITED).map_err(failed("wait for"))?;
    let signal = status.as_ref().and_then(|status| status.terminating_signal());
    let how = match (status.and_then(|status| status.exit_status()), signal) {
        _ if timed_out => format!("did not end within {} s", hook.timeout.unwrap_or_default()),
        (Some(0), _) => return Ok(()),
        (Some(code), _) => format!("failed with exit code {code}"),
        // What a filter does that is in force for it already.
        (None, Some(31)) => "was ended by signal 31 (bad system call)".to_owned(),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    };
    // COMPAT: how runc begins this error, which engines show to users.
    let text = format!(
        "error running {stage} hook #{index}: {stage} hook {how}: {}",
        hook.path.display()
    );
    let mut error = RuntimeError::new(ErrorKind::System, "hooks", text);
    error.chain.extend(said.filter(|text| !text.is_empty()));
    Err(error)
}

/// The runtime's own environment.
///
/// COMPAT: the specification leaves open what a hook without `env` gets; runc
/// and crun pass theirs on, and hooks of device vendors count on a PATH.
fn own_environment() -> Vec<CString> {
    use std::os::unix::ffi::OsStringExt as _;
    let own = std::env::vars_os().filter_map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec()).ok()
    });
    own.collect()
}

/// Reads what a hook says until it ends, and keeps the beginning; none when
/// the deadline passed first. A hook's own children may keep the pipe open.
///
/// KERNEL(5.3): before, the hook's end is asked for, as nothing announces it.
fn listen(child: &OwnedFd, said: OwnedFd, deadline_ms: Option<i64>) -> Result<Option<String>, rustix::io::Errno> {
    const KEPT: usize = 4096;
    const ASK_EVERY_MS: i64 = 10;
    let is_pollable = handle::is_pollable(child);
    let mut kept = Vec::new();
    let mut said = Some(said);
    loop {
        let left = deadline_ms.map(|deadline| (deadline - now_ms()).max(0));
        let step = match is_pollable {
            true => left,
            false => Some(left.unwrap_or(ASK_EVERY_MS).min(ASK_EVERY_MS)),
        };
        let timeout = step.map(|ms| Timespec {
            tv_sec: ms / 1000,
            tv_nsec: ms % 1000 * 1_000_000,
        });
        let watched = if is_pollable { PollFlags::IN } else { PollFlags::empty() };
        let mut ready = vec![PollFd::new(child, watched)];
        ready.extend(said.as_ref().map(|said| PollFd::new(said, PollFlags::IN)));
        let count = poll(&mut ready, timeout.as_ref())?;
        let ended = match is_pollable {
            true => !ready[0].revents().is_empty(),
            false => handle::has_ended(child),
        };
        if count == 0 && !ended {
            match left {
                Some(0) => return Ok(None),
                _ => continue,
            }
        }
        let spoke = ready.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if let (true, Some(from)) = (spoke, &said) {
            let mut bytes = [0u8; 4096];
            let length = rustix::io::read(from, &mut bytes)?;
            kept.extend_from_slice(&bytes[..length.min(KEPT - kept.len().min(KEPT))]);
            if length == 0 {
                said = None;
            }
        } else if ended {
            let said = String::from_utf8_lossy(&kept);
            // An error is one line, whatever a hook says.
            return Ok(Some(said.trim().lines().collect::<Vec<_>>().join("; ")));
        }
    }
}

fn now_ms() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// A file in memory, so that a hook that never reads cannot block us.
fn state_file(state: &[u8]) -> Result<OwnedFd, rustix::io::Errno> {
    let file = memfd_create(c"state", MemfdFlags::CLOEXEC)?;
    let mut left = state;
    while !left.is_empty() {
        let written = rustix::io::write(&file, left)?;
        left = left.get(written..).unwrap_or_default();
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

fn text(field: &str, value: &str) -> Result<CString, RuntimeError> {
    CString::new(value).map_err(|_| RuntimeError::invalid(field, format!("{field}: holds a NUL byte")))
}

/// The state of a container in this status.
pub(crate) fn state<'a>(spec: &'a Spec, id: &'a str, status: &'a str, pid: i32, bundle: &'a Path) -> HookState<'a> {
    HookState {
        oci_version: crate::spec::VERSION,
        id,
        status,
        pid,
        bundle,
        annotations: &spec.annotations,
    }
}

/// prestart and createRuntime: in the runtime, before the root is pivoted.
pub(crate) fn run_create_runtime(spec: &Spec, id: &str, pid: i32, bundle: &Path) -> Result<(), RuntimeError> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let state = state(spec, id, "creating", pid, bundle);
    run("prestart", &hooks.prestart, &state)?;
    run("createRuntime", &hooks.create_runtime, &state)
}

/// createContainer: in the container's namespaces, before the root is pivoted.
pub(crate) fn run_create_container(spec: &Spec, id: &str, bundle: &Path) -> Result<(), RuntimeError> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    run(
        "createContainer",
        &hooks.create_container,
        &state(spec, id, "creating", pid, bundle),
    )
}

/// startContainer: in the container, right before the program, whose
/// environment it shares: the runtime's own stays outside. What it writes to
/// was opened when the host's files could be seen.
pub(crate) fn run_start_container(
    spec: &Spec,
    id: &str,
    bundle: &Path,
    (env, output): (&[CString], &HookOutput),
) -> Result<(), RuntimeError> {
    let hooks = spec.hooks.as_ref().map(|hooks| hooks.start_container.as_slice());
    let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else {
        return Ok(());
    };
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let around = Surroundings {
        environment: &|| env.to_vec(),
        output,
    };
    run_in(
        &around,
        "startContainer",
        hooks,
        &state(spec, id, "created", pid, bundle),
    )
}

/// poststart: in the runtime, once the program runs.
///
/// # Errors
/// As [`run`]; the caller stops the container then.
pub fn run_poststart(spec: &Spec, id: &str, pid: i32, bundle: &Path) -> Result<(), RuntimeError> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    run("poststart", &hooks.poststart, &state(spec, id, "running", pid, bundle))
}

/// poststop: in the runtime, after the container was deleted. All are run;
/// the first failure is reported.
///
/// # Errors
/// As [`run`]; it must not keep the container from being deleted.
pub fn run_poststop(spec: &Spec, id: &str, bundle: &Path) -> Result<(), RuntimeError> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let state = state(spec, id, "stopped", 0, bundle);
    // All of them first, then what the first failure was.
    let run_one = |hook: &Hook| run("poststop", std::slice::from_ref(hook), &state);
    let results: Vec<_> = hooks.poststop.iter().map(run_one).collect();
    results.into_iter().collect()
}
