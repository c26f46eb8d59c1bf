//! `RUN` steps of builds, as containers without a record: the build's [`Runner`] over the shim.
//!
//! A step that a killed engine leaves is found by its shim directory and cgroup, which no
//! record names, and cleared at the next start.
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Tokio;
use wharf_build::{Cancel, OutputStream, RunError, RunExit, RunMount, RunNetwork, RunStep, Runner};
use wharf_shim::client::{EventStream, ShimClient, ShimLauncher};
use wharf_shim::plan::{AttachSpec, LaunchPlan, RootfsPlan, RuntimePlan, StdioPlan, WhenSlow};
use wharf_shim::protocol::{Event, ExitRecord};
use wharf_sys::failpoint;

use super::paths::Places;
use super::remove::delete_tree;
use super::start;
use crate::Shared;
use crate::error::{Context, Error, Result};
use crate::model::mounts::ReadOnlyReach;
use crate::model::*;

/// Longest time a step's shim may take to create it.
const CREATE_DEADLINE: Duration = Duration::from_secs(60);

/// How soon a cancelled build ends its running step.
const CANCEL_LATENCY: Duration = Duration::from_millis(200);

/// SIGKILL.
const SIGKILL: i32 = 9;

/// Runs the steps of builds.
#[derive(Clone, Debug)]
pub(crate) struct StepRunner {
    shared: Arc<Shared>,
}

impl StepRunner {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Runner for StepRunner {
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> std::result::Result<RunExit, RunError> {
        let record = record_of(&self.shared, step).map_err(run_error)?;
        run_step(&self.shared, step, record, output)
    }
}

fn run_error(error: Error) -> RunError {
    RunError {
        message: error.message().to_owned(),
        exit_code: None,
        cancelled: false,
        source: Some(Box::new(error)),
    }
}

/// A record that exists for the time of the step only, so that the step is planned like any container.
fn record_of(shared: &Shared, step: &RunStep) -> Result<ContainerRecord> {
    let id = ContainerId::new(step.id.clone());
    let (path, args) = step
        .argv
        .split_first()
        .ok_or_else(|| Error::invalid("a build step has no command"))?;
    let mut host = HostConfig {
        network_mode: match &step.network {
            RunNetwork::Default => "bridge".to_owned(),
            RunNetwork::None => "none".to_owned(),
            RunNetwork::Host => "host".to_owned(),
            RunNetwork::Named(name) => name.clone(),
        },
        resources: resources_of(step),
        ipc_mode: "private".to_owned(),
        extra_hosts: Some(step.extra_hosts.clone()),
        shm_size: step
            .limits
            .shm_size_bytes
            .and_then(|n| i64::try_from(n).ok())
            .unwrap_or(0),
        ..HostConfig::default()
    };
    if let NetworkMode::Container(name) = host.network() {
        host.network_mode = format!("container:{}", shared.containers.find(&name)?.id);
    }
    let config = ContainerConfig {
        hostname: id.short().to_owned(),
        user: step.user.clone(),
        env: Some(step.env.clone()),
        working_dir: step.cwd.clone(),
        ..ContainerConfig::default()
    };
    let mounts = step.mounts.iter().map(mount_of).collect();
    let endpoints = match host.network() {
        NetworkMode::Container(_) => BTreeMap::new(),
        _ => BTreeMap::from([(host.network_mode.clone(), EndpointRecord::default())]),
    };
    Ok(ContainerRecord {
        dir: Places::of(&shared.config, &id).dir.to_string_lossy().into_owned(),
        name: id.short().to_owned(),
        id,
        created: Timestamp::now(),
        config,
        host,
        image_id: String::new(),
        manifest_digest: String::new(),
        layers: Vec::new(),
        platform: String::new(),
        path: path.clone(),
        args: args.to_vec(),
        mounts,
        endpoints,
        published: Vec::new(),
        upstream: Vec::new(),
        state: State::default(),
        restart_count: 0,
        manually_stopped: false,
        story: Story::default(),
        shut_down: false,
    })
}

fn resources_of(step: &RunStep) -> Resources {
    let limits = &step.limits;
    let number = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok()).unwrap_or(0);
    Resources {
        memory: limits.memory_bytes.unwrap_or(0),
        memory_swap: limits.memory_swap_bytes.unwrap_or(0),
        cpu_shares: number(limits.cpu_shares),
        cpu_period: number(limits.cpu_period_us),
        cpu_quota: limits.cpu_quota_us.unwrap_or(0),
        cpuset_cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.cpuset_mems.clone().unwrap_or_default(),
        cgroup_parent: limits.cgroup_parent.clone().unwrap_or_default(),
        ulimits: Some(
            limits
                .ulimits
                .iter()
                .map(|u| Ulimit {
                    name: u.name.clone(),
                    soft: u.soft,
                    hard: u.hard,
                })
                .collect(),
        ),
        ..Resources::default()
    }
}

fn mount_of(mount: &RunMount) -> MountPoint {
    let bind = |source: &Path, target: &str, rw: bool| MountPoint {
        kind: MountKind::Bind,
        name: String::new(),
        source: source.to_string_lossy().into_owned(),
        destination: target.to_owned(),
        driver: String::new(),
        mode: String::new(),
        rw,
        propagation: String::new(),
        anonymous: false,
        copy_up: false,
        subpath: String::new(),
        options: Vec::new(),
        listed: false,
        non_recursive: false,
        read_only_reach: ReadOnlyReach::default(),
        create_source: false,
    };
    match mount {
        RunMount::Bind {
            source,
            target,
            read_only,
        } => bind(source, target, !read_only),
        RunMount::Tmpfs { target, size_bytes } => MountPoint {
            kind: MountKind::Tmpfs,
            options: size_bytes.iter().map(|n| format!("size={n}")).collect(),
            ..bind(Path::new(""), target, true)
        },
    }
}

fn run_step(
    shared: &Arc<Shared>,
    step: &RunStep,
    mut record: ContainerRecord,
    output: &mut dyn FnMut(OutputStream, &[u8]),
) -> std::result::Result<RunExit, RunError> {
    let tokio = Tokio::current();
    let dir = PathBuf::from(&record.dir);
    let result = std::fs::create_dir_all(&dir)
        .internal(|| format!("create {}", dir.display()))
        .map_err(run_error)
        .and_then(|()| attempt(shared, step, &mut record, output, &tokio));
    tokio.block_on(start::clean_up(shared, &mut record));
    super::recovery::clear_step(shared, &record);
    delete_tree(&dir);
    result
}

/// Starts the step, hands its output on and waits for its end.
fn attempt(
    shared: &Arc<Shared>,
    step: &RunStep,
    record: &mut ContainerRecord,
    output: &mut dyn FnMut(OutputStream, &[u8]),
    tokio: &Tokio,
) -> std::result::Result<RunExit, RunError> {
    let (ours, theirs) = UnixStream::pair()
        .internal(|| "make a stream for a build step".into())
        .map_err(run_error)?;
    let (shim, mut events) = tokio
        .block_on(launch(shared, step, record, theirs.into()))
        .map_err(|failure| RunError {
            message: failure.error.message().to_owned(),
            exit_code: matches!(failure.exit_code, 126 | 127).then_some(i64::from(failure.exit_code)),
            cancelled: false,
            source: Some(Box::new(failure.error)),
        })?;
    let watch = tokio.spawn(kill_when_cancelled(shim.clone(), step.cancel.clone()));
    let read = hand_on(ours, output);
    let exit = tokio.block_on(wait_for_exit(&mut events, &shim));
    watch.abort();
    let _ = tokio.block_on(shim.acknowledge_exit()); // what stays is cleared by the caller
    if step.cancel.is_cancelled() {
        return Err(RunError {
            message: "build cancelled".into(),
            exit_code: None,
            cancelled: true,
            source: None,
        });
    }
    read.internal(|| "read a build step's output".into())
        .map_err(run_error)?;
    let exit = exit.map_err(run_error)?;
    Ok(RunExit {
        code: i64::from(exit.code),
        oom_killed: exit.oom_killed,
    })
}

async fn launch(
    shared: &Arc<Shared>,
    step: &RunStep,
    record: &mut ContainerRecord,
    client: OwnedFd,
) -> std::result::Result<(ShimClient, EventStream), start::StartFailure> {
    let rootfs = RootfsPlan::Overlay {
        lower: step.lower.clone(),
        upper: step.upper.clone(),
        work: step.work.clone(),
        // A step that a crash interrupts is done anew; what it made is synced when it becomes a layer.
        volatile: true,
    };
    let prepared = start::prepare_step(shared, record).await?;
    let plan = LaunchPlan {
        rootfs,
        log: None,
        runtime: RuntimePlan::Builtin,
        stdio: StdioPlan::default(),
        ..prepared.plan.clone()
    };
    let spec = AttachSpec {
        stdout: true,
        stderr: true,
        framed: true,
        when_slow: WhenSlow::Throttle,
        ..AttachSpec::default()
    };
    let launcher = ShimLauncher {
        binary: shared.config.shim_binary.clone(),
        deadline: CREATE_DEADLINE,
    };
    let dir = Places::of(&shared.config, &record.id).shim;
    let launched = launcher
        .launch(&dir, &plan, vec![(spec, client)])
        .await
        .map_err(start::launch_failure)?;
    failpoint::reach("build/run/made");
    start::connect_step(shared, record, &prepared.networks).await?;
    failpoint::reach("build/run/connected");
    launched.client.start().await.map_err(start::call_failure)?;
    failpoint::reach("build/run/started");
    Ok((launched.client, launched.events))
}

async fn kill_when_cancelled(shim: ShimClient, cancel: Cancel) {
    // The flag is an atomic without a bell; a running step looks at it a few times a second.
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_LATENCY).await;
    }
    let _ = shim.kill_all(SIGKILL).await; // ended already is fine
}

async fn wait_for_exit(events: &mut EventStream, shim: &ShimClient) -> Result<ExitRecord> {
    while let Some(event) = events.next().await {
        if let Event::Exited(exit) = event {
            return Ok(exit);
        }
    }
    match shim.state().await {
        Ok(state) => state
            .exit
            .ok_or_else(|| Error::internal("the build step's keeper fell silent")),
        Err(error) => Err(Error::internal("the build step's keeper is gone").with_source(error)),
    }
}

/// Takes the frames of the stream apart.
fn hand_on(mut stream: UnixStream, output: &mut dyn FnMut(OutputStream, &[u8])) -> std::io::Result<()> {
    let mut header = [0u8; 8];
    let mut piece = Vec::new();
    loop {
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        piece.resize(usize::try_from(length).unwrap_or(0), 0);
        stream.read_exact(&mut piece)?;
        let kind = if header[0] == 2 {
            OutputStream::Stderr
        } else {
            OutputStream::Stdout
        };
        output(kind, &piece);
    }
}
