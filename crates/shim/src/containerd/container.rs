//! A container and its processes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wharf_cgroup::{Cgroup, OomWatch};
use wharf_runtime::spec::{Process as ProcessSpec, Spec};
use wharf_runtime::{
    CgroupChoice, CreateRequest, Created, ErrorKind, ExecRequest, ExecTarget, FilterSource, Rootfs, RuntimeError, Stdio,
};

use super::console::Console;
use super::mounts;
use super::stdio::Streams;
use crate::task_api::envelope::{Code, Status};
use crate::task_api::messages::{CreateTaskRequest, Mount, RuncOptions};

/// How long dying processes may hold up the removal of the cgroup.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) status: u32,
    pub(super) at_ns: i64,
}

/// Someone who waits for an end: connection and call.
pub(super) type Waiter = (u32, u32);

/// One process of a container.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Empty for the container's first one.
    pub(super) exec_id: String,
    pub(super) streams: Streams,
    /// What an exec is to run, until it does.
    pub(super) spec: Option<Box<ProcessSpec>>,
    /// 0 before it is there.
    pub(super) pid: i32,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) is_started: bool,
    pub(super) exit: Option<Exit>,
    pub(super) stdin_keeper: Option<OwnedFd>,
    pub(super) console: Option<Console>,
    pub(super) waiters: Vec<Waiter>,
}

/// A container; its first process is there from the beginning.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) mounts: Vec<Mount>,
    spec: Arc<Spec>,
    created: Option<Box<Created>>,
    cgroup: Option<Cgroup>,
    /// The unit of systemd that the cgroup is of.
    scope: Option<wharf_runtime::Scope>,
    pub(super) oom: Option<OomWatch>,
    pub(super) oom_kills: u64,
    pub(super) is_paused: bool,
    pub(super) init: Process,
    pub(super) execs: BTreeMap<String, Process>,
}

impl Container {
    /// Makes the root file system and the container; its first process waits.
    pub(super) fn create(request: &CreateTaskRequest, options: &RuncOptions) -> Result<Self, Status> {
        let bundle = PathBuf::from(&request.bundle);
        let root = bundle.join("rootfs");
        mounts::mount_all(&request.rootfs, &root)?;
        Self::create_mounted(request, options, bundle).inspect_err(|_| {
            if !request.rootfs.is_empty() {
                mounts::unmount_all(&root);
            }
        })
    }

    fn create_mounted(request: &CreateTaskRequest, options: &RuncOptions, bundle: PathBuf) -> Result<Self, Status> {
        let mut spec =
            crate::server::read_spec(&bundle).map_err(|fault| Status::new(Code::InvalidArgument, fault.to_string()))?;
        if let Some(process) = &mut spec.process {
            process.terminal = request.terminal;
            // The shim's own score must not be inherited.
            process.oom_score_adj.get_or_insert(0);
        }
        let root = spec
            .root
            .as_ref()
            .ok_or_else(|| Status::new(Code::InvalidArgument, "config.json names no root"))?;
        let rootfs = Rootfs::Directory(bundle.join(&root.path));
        let mut init = Process {
            streams: Streams {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
            },
            ..Process::default()
        };
        let spec = Arc::new(spec);
        let mut order = CreateRequest::new(request.id.clone(), bundle.clone(), Arc::clone(&spec), rootfs);
        order.stdio = init.open_streams()?;
        order.no_pivot = options.no_pivot_root;
        order.no_new_keyring = options.no_new_keyring;
        if options.systemd_cgroup {
            order.cgroup = CgroupChoice {
                systemd: Some(wharf_cgroup::systemd::Instance::System),
                is_optional: false,
            };
        }
        let mut created = wharf_runtime::create(order).map_err(|error| status_of(&error))?;
        init.adopt(
            created.pid(),
            created.pidfd().try_clone_to_owned().ok(),
            created.take_console(),
        )?;
        Ok(Self {
            id: request.id.clone(),
            bundle,
            mounts: request.rootfs.clone(),
            spec,
            scope: created.scope().cloned(),
            created: Some(Box::new(created)),
            cgroup: None,
            oom: None,
            oom_kills: 0,
            is_paused: false,
            init,
            execs: BTreeMap::new(),
        })
    }

    /// Lets the first process go on to its program.
    pub(super) fn start(&mut self) -> Result<(), Status> {
        let Some(mut created) = self.created.take() else {
            return Err(Status::new(Code::FailedPrecondition, "container was started already"));
        };
        let started = created.start();
        (_, _, self.cgroup) = created.leave();
        started.map_err(|error| status_of(&error))?;
        self.init.is_started = true;
        self.oom = self.cgroup.as_ref().and_then(|cgroup| cgroup.watch_oom().ok());
        wharf_runtime::hooks::run_poststart(&self.spec, &self.id, self.init.pid, &self.bundle)
            .map_err(|error| status_of(&error))
    }

    /// Starts an exec that was added.
    pub(super) fn start_exec(&mut self, exec_id: &str) -> Result<(), Status> {
        let exec = self.execs.get_mut(exec_id).ok_or_else(|| no_such_exec(exec_id))?;
        let Some(spec) = exec.spec.take() else {
            return Err(Status::new(Code::FailedPrecondition, "process was started already"));
        };
        let Some(init) = self
            .init
            .pidfd
            .as_ref()
            .filter(|_| self.init.exit.is_none() && self.init.is_started)
        else {
            return Err(Status::new(Code::FailedPrecondition, "container is not running"));
        };
        let mut process = *spec;
        process.terminal = exec.streams.terminal;
        let own_score = self.spec.process.as_ref().and_then(|process| process.oom_score_adj);
        process.oom_score_adj.get_or_insert(own_score.unwrap_or(0));
        let target = ExecTarget {
            id: &self.id,
            bundle: &self.bundle,
            pid: self.init.pid,
            pidfd: init.as_fd(),
            cgroup: self.cgroup.as_ref(),
            resctrl: None,
            scope: self.scope.as_ref(),
            spec: &self.spec,
            filter: FilterSource::Configuration(None),
        };
        let request = ExecRequest {
            process,
            user: None,
            group_add: Vec::new(),
            stdio: exec.open_streams()?,
            privileged: false,
            preserve_fds: 0,
            sub_cgroups: Vec::new(),
        };
        let made = wharf_runtime::exec(&target, request).map_err(|error| status_of(&error))?;
        exec.is_started = true;
        exec.adopt(made.pid, Some(made.pidfd), made.console)
    }

    /// The cgroup, for what cannot do without.
    pub(super) fn cgroup(&self) -> Result<&Cgroup, Status> {
        let own = match &self.created {
            Some(created) => created.cgroup(),
            None => self.cgroup.as_ref(),
        };
        own.ok_or_else(|| Status::new(Code::FailedPrecondition, "container has no cgroup"))
    }

    pub(super) fn process(&self, exec_id: &str) -> Result<&Process, Status> {
        match exec_id {
            "" => Ok(&self.init),
            exec_id => self.execs.get(exec_id).ok_or_else(|| no_such_exec(exec_id)),
        }
    }

    pub(super) fn process_mut(&mut self, exec_id: &str) -> Result<&mut Process, Status> {
        match exec_id {
            "" => Ok(&mut self.init),
            exec_id => self.execs.get_mut(exec_id).ok_or_else(|| no_such_exec(exec_id)),
        }
    }

    /// All processes, the first one last: the ends of execs are told before the container's.
    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.execs.values_mut().chain(std::iter::once(&mut self.init))
    }

    /// What shared the cgroup with the first process, and not its pid namespace, goes with it.
    pub(super) fn kill_rest(&self) {
        if let Ok(cgroup) = self.cgroup() {
            // What cannot be killed shows when the cgroup cannot be removed.
            let _ = cgroup.kill();
        }
    }

    /// Removes what was made in the kernel; a failure is told but nothing stays that can be removed.
    pub(super) fn remove(mut self) -> Result<(), Status> {
        self.kill_rest();
        let cgroup = match self.created.take() {
            Some(created) => created.leave().2,
            None => self.cgroup.take(),
        };
        let removed = cgroup.map_or(Ok(()), |cgroup| cgroup.delete(REMOVAL_DEADLINE));
        if !self.mounts.is_empty() {
            mounts::unmount_all(&self.bundle.join("rootfs"));
        }
        // A hook that fails is told of, and nothing else (config.md).
        if let Err(error) = wharf_runtime::hooks::run_poststop(&self.spec, &self.id, &self.bundle) {
            eprintln!("{}: {}", self.id, error.message());
        }
        removed.map_err(|error| status_of_cgroup("remove the cgroup", &error))
    }

    pub(super) fn root_of(bundle: &Path) -> PathBuf {
        bundle.join("rootfs")
    }
}

impl Process {
    fn open_streams(&mut self) -> Result<Stdio, Status> {
        if self.streams.terminal {
            return Ok(Stdio::Terminal);
        }
        let opened = self.streams.open()?;
        self.stdin_keeper = opened.stdin_keeper;
        Ok(opened.stdio)
    }

    /// Takes over a process that was made.
    fn adopt(&mut self, pid: i32, pidfd: Option<OwnedFd>, console: Option<OwnedFd>) -> Result<(), Status> {
        (self.pid, self.pidfd) = (pid, pidfd);
        if let Some(master) = console {
            let flags = rustix::fs::fcntl_getfl(&master);
            let set = flags.and_then(|flags| rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK));
            set.map_err(|errno| Status::new(Code::Internal, format!("take over the terminal: {errno}")))?;
            self.console = Some(Console::new(master, self.streams.open_for_terminal()?));
        }
        Ok(())
    }

    /// Notes the end; what was typed for the process goes nowhere.
    pub(super) fn end(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.pidfd = None;
        self.stdin_keeper = None;
        if let Some(console) = &mut self.console {
            console.finish();
        }
    }
}

fn no_such_exec(exec_id: &str) -> Status {
    Status::new(Code::NotFound, format!("process does not exist {exec_id}"))
}

/// The runtime's error by gRPC's codes.
pub(super) fn status_of(error: &RuntimeError) -> Status {
    let code = match error.kind {
        ErrorKind::CommandNotFound | ErrorKind::CommandNotExecutable | ErrorKind::System => Code::Unknown,
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::FailedPrecondition,
    };
    Status::new(code, error.message())
}

pub(super) fn status_of_cgroup(what: &str, error: &wharf_cgroup::CgroupError) -> Status {
    Status::new(Code::Internal, crate::server::chain_fault(what, error).message)
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}
