//! What a client asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One build, as asked by a client. Plain data; nothing in it is trusted.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// Directory that holds the unpacked context; owned by the caller, only read by the build.
    pub context: PathBuf,
    /// Path of the Dockerfile inside the context; empty for `Dockerfile`.
    pub dockerfile: String,
    /// The Dockerfile's text where it does not come from the context (`docker build -`).
    pub dockerfile_text: Option<String>,
    /// Names for the result, as the user wrote them.
    pub tags: Vec<String>,
    /// `--build-arg`; `None` is a name without value, which leaves the default in force.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--target`: stage name or index; the last stage when absent.
    pub target: Option<String>,
    /// `--platform`, such as `linux/amd64`.
    pub platform: Option<String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--pull`: look for newer base images even when they are here.
    pub pull: bool,
    /// `--network`: `default`, `bridge`, `none`, `host`, `container:X` or a network's name.
    pub network: Option<String>,
    /// `--add-host`, `name:address`.
    pub extra_hosts: Vec<String>,
    /// Limits of the `RUN` steps.
    pub limits: Limits,
    /// `--squash`: refused, with a clear error.
    pub squash: bool,
    /// Set to stop the build.
    pub cancel: Cancel,
}

/// Limits for the processes of `RUN` steps; absent means the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<i64>,
    /// Memory and swap together in bytes, -1 for no limit.
    pub memory_swap_bytes: Option<i64>,
    /// Relative weight.
    pub cpu_shares: Option<u64>,
    /// Length of a CFS period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// CFS quota in microseconds.
    pub cpu_quota_us: Option<i64>,
    /// CPUs, such as `0-1`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size_bytes: Option<u64>,
    /// Parent cgroup.
    pub cgroup_parent: Option<String>,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
}

/// One `--ulimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`, `nproc`, ...
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// A flag shared by the one who may stop the build and the one who runs it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the build to stop at the next opportunity; a running `RUN` step is killed.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
