//! The container behind the shim: made by our runtime in this process, or by a foreign one.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use wharf_cgroup::{Cgroup, Resources};
use wharf_runtime::seccomp::{Filter, compile_cached};
use wharf_runtime::spec::{ConsoleSize, Process as ProcessSpec, Spec};
use wharf_runtime::{
    CreateRequest, Created, ErrorKind, ExecRequest, ExecTarget, FilterSource, Rootfs, RuntimeError, Stdio,
};

use super::foreign::Foreign;
use super::foreign_shim::{Ended, ForeignShim};
use super::stdio::{OurEnds, prepare};
use crate::plan::{BarePlan, ExecPlan, LaunchPlan, RootfsPlan, RuntimePlan};
use crate::protocol::{Fault, FaultKind};

/// How long dying processes may hold up the removal of the cgroup.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(2);

/// A created container.
#[derive(Debug)]
pub(super) struct Container {
    id: String,
    bundle: PathBuf,
    maker: Maker,
    /// Where compiled system call filters of this engine's containers are kept.
    filter_cache: Option<PathBuf>,
    cgroup: Option<Cgroup>,
    /// Read with the first exec.
    exec_base: Option<ExecBase>,
}

/// What every exec needs of the container's configuration.
#[derive(Debug)]
struct ExecBase {
    /// Of the filter's rules, which are most of it, only those that tell whether somebody listens.
    spec: Spec,
    filter: Option<Filter>,
}

impl ExecBase {
    fn read(bundle: &Path, filter_cache: Option<&Path>) -> Result<Self, Fault> {
        let mut spec = read_spec(bundle)?;
        let mut filter = None;
        if let Some(seccomp) = spec.linux.as_mut().and_then(|linux| linux.seccomp.as_mut()) {
            filter = Some(compile_cached(seccomp, filter_cache).map_err(|error| fault_of(&error))?);
            seccomp.syscalls.retain(|rule| rule.action == "SCMP_ACT_NOTIFY");
            seccomp.syscalls.shrink_to_fit();
        }
        Ok(Self { spec, filter })
    }

    fn filter(&self) -> FilterSource<'_> {
        match &self.filter {
            Some(filter) => FilterSource::Compiled(filter),
            None => FilterSource::Configuration(None),
        }
    }
}

#[derive(Debug)]
enum Maker {
    /// Init waits for its start.
    Waiting(Box<Created>),
    /// Started (or given up).
    Builtin,
    Foreign(Foreign),
    /// Another's shim, and the size of the container's terminal.
    Shim(Box<ForeignShim>, Option<crate::plan::ConsoleSize>),
}

/// A process that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) ends: OurEnds,
}

impl Container {
    /// Creates the container of a plan; its init waits.
    pub(super) fn create(plan: &LaunchPlan, home: &super::home::Home) -> Result<(Self, Made), Fault> {
        match &plan.runtime {
            RuntimePlan::Builtin => Self::create_builtin(plan, home.filter_cache()),
            RuntimePlan::Foreign { path, args, root } => {
                let (foreign, made) = Foreign::create(plan, (path, args, root), home)?;
                Ok(Self::of_others(plan, Maker::Foreign(foreign), made))
            }
            RuntimePlan::Shim {
                binary,
                namespace,
                options,
            } => {
                let (shim, made) = ForeignShim::create(plan, (binary, namespace, options), home)?;
                let size = plan.stdio.console_size.filter(|_| plan.stdio.terminal);
                Ok(Self::of_others(plan, Maker::Shim(Box::new(shim), size), made))
            }
        }
    }

    fn of_others(plan: &LaunchPlan, maker: Maker, made: Made) -> (Self, Made) {
        let container = Self {
            id: plan.id.clone(),
            bundle: plan.bundle.clone(),
            maker,
            filter_cache: None,
            cgroup: cgroup_of(made.pid),
            exec_base: None,
        };
        (container, made)
    }

    /// Another's shim, if one keeps the container.
    pub(super) fn shim(&mut self) -> Option<&mut ForeignShim> {
        match &mut self.maker {
            Maker::Shim(shim, _) => Some(shim),
            Maker::Waiting(_) | Maker::Builtin | Maker::Foreign(_) => None,
        }
    }

    /// Execs of another's shim that have ended.
    pub(super) fn take_ended_execs(&mut self) -> Vec<(String, Ended)> {
        self.shim().map(ForeignShim::take_ended_execs).unwrap_or_default()
    }

    fn create_builtin(plan: &LaunchPlan, filter_cache: PathBuf) -> Result<(Self, Made), Fault> {
        let mut spec = read_spec(&plan.bundle)?;
        if let Some(process) = &mut spec.process {
            process.terminal = plan.stdio.terminal;
            // The shim's own score must not be inherited.
            process.oom_score_adj.get_or_insert(0);
        }
        let (stdio, mut ends) = prepare(plan.stdio).map_err(|errno| system("make the standard streams", errno))?;
        let rootfs = rootfs_of(plan, &spec)?;
        let mut request = CreateRequest::new(plan.id.clone(), plan.bundle.clone(), spec, rootfs);
        request.user = plan.user.clone();
        request.group_add = plan.group_add.clone();
        request.stdio = stdio;
        request.filter_cache = Some(filter_cache.clone());
        request.bare = plan.bare.as_ref().and_then(BarePlan::open);
        let mut created = wharf_runtime::create(request).map_err(|error| fault_of(&error))?;
        if let Some(master) = created.take_console() {
            ends.adopt_terminal(master, plan.stdio)
                .map_err(|errno| system("take over the terminal", errno))?;
        }
        let pidfd = created
            .pidfd()
            .try_clone_to_owned()
            .map_err(|error| fault("duplicate the pidfd", &error))?;
        let made = Made {
            pid: created.pid(),
            pidfd,
            ends,
        };
        let container = Self {
            id: plan.id.clone(),
            bundle: plan.bundle.clone(),
            maker: Maker::Waiting(Box::new(created)),
            filter_cache: Some(filter_cache),
            cgroup: None,
            exec_base: None,
        };
        Ok((container, made))
    }

    /// Lets the container's init go on to its program.
    pub(super) fn start(&mut self) -> Result<(), Fault> {
        let maker = std::mem::replace(&mut self.maker, Maker::Builtin);
        match maker {
            Maker::Waiting(mut created) => {
                let started = created.start();
                (_, _, self.cgroup) = created.leave();
                started.map_err(|error| fault_of(&error))
            }
            Maker::Foreign(foreign) => {
                let started = foreign.start();
                self.maker = Maker::Foreign(foreign);
                started
            }
            Maker::Shim(mut shim, size) => {
                let started = shim.start(size);
                self.maker = Maker::Shim(shim, size);
                started
            }
            Maker::Builtin => Err(Fault {
                kind: FaultKind::Conflict,
                message: "container was started already".to_owned(),
                ..Fault::default()
            }),
        }
    }

    /// Runs a further process beside the first one.
    pub(super) fn exec(&mut self, plan: &ExecPlan, init: (i32, &OwnedFd)) -> Result<Made, Fault> {
        if let Some(shim) = self.shim() {
            return shim.exec(plan);
        }
        let (stdio, ends) = prepare(plan.stdio).map_err(|errno| system("make the standard streams", errno))?;
        match &self.maker {
            Maker::Foreign(foreign) => foreign.exec(plan, stdio, ends),
            Maker::Builtin | Maker::Waiting(_) | Maker::Shim(..) => self.exec_builtin(plan, init, stdio, ends),
        }
    }

    fn exec_builtin(
        &mut self,
        plan: &ExecPlan,
        init: (i32, &OwnedFd),
        stdio: Stdio,
        mut ends: OurEnds,
    ) -> Result<Made, Fault> {
        let base = match self.exec_base.take() {
            Some(base) => base,
            None => ExecBase::read(&self.bundle, self.filter_cache.as_deref())?,
        };
        let base = &*self.exec_base.insert(base);
        let mut process: ProcessSpec = serde_json::from_value(plan.process.clone()).map_err(|error| Fault {
            kind: FaultKind::Invalid,
            message: format!("invalid process of exec {}: {error}", plan.id),
            ..Fault::default()
        })?;
        process.terminal = plan.stdio.terminal;
        // ORDER: the terminal has its size before the program can ask for it.
        process.console_size = plan.stdio.console_size.map(|size| ConsoleSize {
            height: size.rows,
            width: size.cols,
        });
        let own_score = base.spec.process.as_ref().and_then(|process| process.oom_score_adj);
        process.oom_score_adj.get_or_insert(own_score.unwrap_or(0));
        let target = ExecTarget {
            id: &self.id,
            bundle: &self.bundle,
            pid: init.0,
            pidfd: init.1.as_fd(),
            resctrl: None,
            cgroup: self.cgroup.as_ref(),
            scope: None,
            spec: &base.spec,
            filter: base.filter(),
        };
        let request = ExecRequest {
            process,
            user: plan.user.clone(),
            group_add: plan.group_add.clone(),
            stdio,
            privileged: plan.privileged,
            preserve_fds: 0,
            sub_cgroups: Vec::new(),
        };
        let made = wharf_runtime::exec(&target, request).map_err(|error| fault_of(&error))?;
        if let Some(master) = made.console {
            ends.adopt_terminal(master, plan.stdio)
                .map_err(|errno| system("take over the terminal", errno))?;
        }
        Ok(Made {
            pid: made.pid,
            pidfd: made.pidfd,
            ends,
        })
    }

    /// The container's cgroup, if it has one of its own.
    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        match &self.maker {
            Maker::Waiting(created) => created.cgroup(),
            Maker::Builtin | Maker::Foreign(_) | Maker::Shim(..) => self.cgroup.as_ref(),
        }
    }

    /// The cgroup, for an operation that cannot do without.
    fn require_cgroup(&self) -> Result<&Cgroup, Fault> {
        self.cgroup().ok_or_else(|| Fault {
            kind: FaultKind::Unsupported,
            message: "container has no cgroup of its own".to_owned(),
            ..Fault::default()
        })
    }

    /// Freezes every process.
    pub(super) fn pause(&mut self) -> Result<(), Fault> {
        if let Some(shim) = self.shim() {
            return shim.pause();
        }
        self.require_cgroup()?
            .freeze()
            .map_err(|error| chain_fault("pause the container", &error))
    }

    /// Lets every process go on.
    pub(super) fn resume(&mut self) -> Result<(), Fault> {
        if let Some(shim) = self.shim() {
            return shim.resume();
        }
        self.require_cgroup()?
            .thaw()
            .map_err(|error| chain_fault("resume the container", &error))
    }

    /// Changes limits.
    pub(super) fn update(&mut self, resources: &Resources) -> Result<(), Fault> {
        if let Some(shim) = self.shim() {
            return shim.update(resources);
        }
        self.require_cgroup()?
            .update(resources)
            .map_err(|error| chain_fault("update the limits", &error))
    }

    /// Signals every process of the container.
    pub(super) fn signal_all(&self, signal: i32) -> Result<(), Fault> {
        self.require_cgroup()?
            .signal(signal)
            .map_err(|error| chain_fault("signal the container", &error))
    }

    /// What is to be done after the first process has ended: whatever shared its cgroup (and not
    /// its pid namespace) is killed.
    pub(super) fn kill_rest(&self) {
        // Another's shim does so itself, and may be in that cgroup; if it lives.
        if !matches!(&self.maker, Maker::Shim(shim, _) if !shim.is_lost())
            && let Some(cgroup) = self.cgroup()
        {
            // What cannot be killed is seen when the cgroup cannot be removed.
            let _ = cgroup.kill();
        }
    }

    /// Removes what the runtime made in the kernel and on disk.
    pub(super) fn remove(&mut self) -> Result<(), Fault> {
        let cgroup = match std::mem::replace(&mut self.maker, Maker::Builtin) {
            Maker::Waiting(created) => created.leave().2,
            Maker::Builtin => self.cgroup.take(),
            Maker::Foreign(foreign) => {
                foreign.delete()?;
                self.cgroup.take()
            }
            Maker::Shim(mut shim, _) => {
                shim.remove();
                self.cgroup.take()
            }
        };
        match cgroup {
            None => Ok(()),
            Some(cgroup) => cgroup
                .delete(REMOVAL_DEADLINE)
                .map_err(|error| chain_fault("remove the cgroup", &error)),
        }
    }
}

/// The cgroup that a foreign runtime made; none if it left the container in the shim's own.
fn cgroup_of(pid: i32) -> Option<Cgroup> {
    let hierarchy = wharf_cgroup::Hierarchy::probe().ok()?;
    let group = Cgroup::of_process(&hierarchy, pid.cast_unsigned()).ok()?;
    let is_shared = Cgroup::of_process(&hierarchy, std::process::id()).is_ok_and(|own| {
        let (own, others) = (own.directories(), group.directories());
        own.values().any(|dir| others.values().any(|other| other == dir))
    });
    (!is_shared).then_some(group)
}

/// Reads `config.json`.
pub(crate) fn read_spec(bundle: &Path) -> Result<Spec, Fault> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).map_err(|error| fault(&format!("read {}", path.display()), &error))?;
    serde_json::from_slice(&text).map_err(|error| Fault {
        kind: FaultKind::Invalid,
        message: format!("invalid {}: {error}", path.display()),
        ..Fault::default()
    })
}

fn rootfs_of(plan: &LaunchPlan, spec: &Spec) -> Result<Rootfs, Fault> {
    match &plan.rootfs {
        RootfsPlan::Directory { path } => Ok(Rootfs::Directory(path.clone())),
        RootfsPlan::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => Ok(Rootfs::Overlay {
            lower: lower.clone(),
            upper: upper.clone(),
            work: work.clone(),
            volatile: *volatile,
        }),
        RootfsPlan::FromSpec => match &spec.root {
            Some(root) => Ok(Rootfs::Directory(plan.bundle.join(&root.path))),
            None => Err(Fault {
                kind: FaultKind::Invalid,
                message: "config.json names no root".to_owned(),
                ..Fault::default()
            }),
        },
    }
}

/// The runtime's error as the protocol carries it.
pub(super) fn fault_of(error: &RuntimeError) -> Fault {
    let kind = match error.kind {
        ErrorKind::CommandNotFound => FaultKind::CommandNotFound,
        ErrorKind::CommandNotExecutable => FaultKind::CommandNotExecutable,
        ErrorKind::Invalid => FaultKind::Invalid,
        ErrorKind::NotFound => FaultKind::NotFound,
        ErrorKind::Conflict => FaultKind::Conflict,
        ErrorKind::System => FaultKind::System,
    };
    Fault {
        kind,
        message: error.message(),
        step: Some(error.step.clone()),
        errno: error.errno,
    }
}

/// A system call that failed while doing `what`.
pub(super) fn system(what: &str, errno: Errno) -> Fault {
    fault(what, &errno.into())
}

/// An operation of the standard library that failed while doing `what`.
pub(super) fn fault(what: &str, error: &std::io::Error) -> Fault {
    Fault {
        message: format!("cannot {what}: {error}"),
        errno: error.raw_os_error(),
        ..Fault::default()
    }
}

/// An error with causes, on one line.
pub(crate) fn chain_fault(what: &str, error: &wharf_cgroup::CgroupError) -> Fault {
    let mut message = format!("cannot {what}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        message.push_str(": ");
        message.push_str(&next.to_string());
        cause = next.source();
    }
    let kind = match error {
        wharf_cgroup::CgroupError::InvalidValue { .. } => FaultKind::Invalid,
        wharf_cgroup::CgroupError::MissingController { .. } => FaultKind::Unsupported,
        _ => FaultKind::System,
    };
    Fault {
        kind,
        message,
        step: None,
        errno: error.errno(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn execs_get_the_filter_and_know_whether_somebody_listens() {
        let bundle = tempfile::tempdir().expect("a directory");
        let rule = |name: &str, action: &str| serde_json::json!({ "names": [name], "action": action });
        let config = serde_json::json!({
            "ociVersion": "1.2.0",
            "linux": { "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "listenerPath": "/agent",
                "syscalls": [rule("mkdir", "SCMP_ACT_NOTIFY"), rule("read", "SCMP_ACT_ALLOW")],
            } },
        });
        std::fs::write(bundle.path().join("config.json"), config.to_string()).expect("written");
        let seccomp = |spec: Spec| spec.linux.and_then(|linux| linux.seccomp).expect("a filter");
        let whole = seccomp(read_spec(bundle.path()).expect("sound"));
        let base = ExecBase::read(bundle.path(), None).expect("sound");
        assert_eq!(base.filter, wharf_runtime::seccomp::compile(&whole).ok());
        let kept = seccomp(base.spec);
        assert_eq!(kept.listener_path, whole.listener_path);
        assert_eq!(kept.syscalls, whole.syscalls[..1]);
    }
}
