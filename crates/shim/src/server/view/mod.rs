//! The container's view of its machine: files of /proc and /sys that tell the size of the host say what the limits
//! leave of it, so that programs size themselves by what they have.
//!
//! Each file is a FUSE file system of its own whose root is that file ([`fuse`]), served by this process out of its
//! loop, and attached over the kernel's file in the container's mount namespace before its program runs. The texts
//! are made at each reading from the host's file and the cgroup ([`text`]), so an update of the limits shows at once.
//!
//! Not shown through it: sched_getaffinity(2), which only a cpuset changes, and sysinfo(2).
mod fuse;
mod text;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use wharf_cgroup::{Cgroup, CgroupError};
use wharf_sys::namespace::CLONE_NEWNS;

use self::fuse::OneFile;
use self::text::Figures;
use crate::protocol::{Fault, FaultKind};

/// A file that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Cpuinfo,
    Loadavg,
    Meminfo,
    Stat,
    Swaps,
    Uptime,
    Online,
}

impl Shown {
    const ALL: [Self; 7] = [
        Self::Cpuinfo,
        Self::Loadavg,
        Self::Meminfo,
        Self::Stat,
        Self::Swaps,
        Self::Uptime,
        Self::Online,
    ];

    /// Where it is, on the host and in the container.
    fn path(self) -> &'static str {
        match self {
            Self::Cpuinfo => "/proc/cpuinfo",
            Self::Loadavg => "/proc/loadavg",
            Self::Meminfo => "/proc/meminfo",
            Self::Stat => "/proc/stat",
            Self::Swaps => "/proc/swaps",
            Self::Uptime => "/proc/uptime",
            Self::Online => "/sys/devices/system/cpu/online",
        }
    }
}

/// The files of one container.
#[derive(Debug)]
pub(super) struct View {
    files: Vec<(Shown, OneFile)>,
    load: Load,
}

/// The container's load, reckoned when somebody asks: an idle container costs nothing.
#[derive(Debug)]
struct Load {
    born_s: f64,
    at_s: f64,
    used_ns: u64,
    loads: [f64; 3],
    busy: f64,
}

impl View {
    /// Makes the files and attaches them in the mount namespace of a process that runs nothing of the container yet.
    ///
    /// A file that the container does not have, or has something of its own on, is left out.
    pub(super) fn attach(init: BorrowedFd<'_>) -> Result<Self, Fault> {
        let mut files = Vec::new();
        let mut mounts = Vec::new();
        for shown in Shown::ALL {
            let (file, mount) = OneFile::create().map_err(|errno| failed("make a file of the host's view", errno))?;
            files.push((shown, file));
            mounts.push((shown, mount));
        }
        attach_all(init, &mounts).map_err(|errno| failed("attach the files of the host's view", errno))?;
        let load = Load {
            born_s: now_s(),
            at_s: now_s(),
            used_ns: 0,
            loads: [0.0; 3],
            busy: 0.0,
        };
        Ok(Self { files, load })
    }

    /// The descriptors to wait for, in the order of their indexes.
    pub(super) fn devices(&self) -> impl Iterator<Item = (u8, BorrowedFd<'_>)> {
        (0..).zip(self.files.iter().map(|(_, file)| file.device()))
    }

    /// Answers what is asked of a file. `false` when it is used no more.
    pub(super) fn serve(&mut self, index: u8, cgroup: Option<&Cgroup>) -> bool {
        let load = &mut self.load;
        match self.files.get_mut(usize::from(index)) {
            Some((shown, file)) => file.serve(|| text_of(*shown, cgroup, load)),
            None => false,
        }
    }
}

/// What a file says now. What cannot be read of the cgroup counts as not limited and not used: a container that is
/// being removed.
fn text_of(shown: Shown, cgroup: Option<&Cgroup>, load: &mut Load) -> String {
    let host = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let of_cgroup = |cgroup: &Cgroup| -> Result<_, CgroupError> { Ok((cgroup.capacity()?, cgroup.stats()?)) };
    let (capacity, stats) = cgroup.and_then(|cgroup| of_cgroup(cgroup).ok()).unwrap_or_default();
    load.sample(stats.cpu.total_ns);
    let figures = Figures {
        capacity,
        stats,
        uptime: now_s() - load.born_s,
        loads: load.loads,
        busy: load.busy,
    };
    let processors = figures.processors(&parse_online(&host(Shown::Online.path())));
    match shown {
        Shown::Cpuinfo => text::cpuinfo(&host(shown.path()), &processors),
        Shown::Loadavg => text::loadavg(&figures),
        Shown::Meminfo => text::meminfo(&host(shown.path()), &figures),
        Shown::Stat => text::stat(&host(shown.path()), &figures, processors.len()),
        Shown::Swaps => text::swaps(&host(Shown::Meminfo.path()), &figures),
        Shown::Uptime => text::uptime(&figures, processors.len()),
        Shown::Online => text::online(processors.len()),
    }
}

impl Load {
    /// Counts what was used since the last time as if it had been used evenly.
    fn sample(&mut self, used_ns: u64) {
        /// The kernel's interval of its own averages.
        const LEAST_S: f64 = 5.0;
        let passed = now_s() - self.at_s;
        if passed < LEAST_S {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "processor time of less than 104 days at once")]
        let used = used_ns.saturating_sub(self.used_ns) as f64 / 1e9;
        self.busy = used / passed;
        for (load, minutes) in self.loads.iter_mut().zip([1.0, 5.0, 15.0]) {
            let kept = (-passed / (minutes * 60.0)).exp();
            *load = *load * kept + self.busy * (1.0 - kept);
        }
        (self.at_s, self.used_ns) = (now_s(), used_ns);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since the start of the machine")]
fn now_s() -> f64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// `0-3,5`.
fn parse_online(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// Attaches the mounts from within the container's mount namespace, in a process of its own: this one stays outside.
fn attach_all(init: BorrowedFd<'_>, mounts: &[(Shown, OwnedFd)]) -> Result<(), Errno> {
    let child = wharf_sys::clone::fork(|| {
        let attached = wharf_sys::namespace::enter_all(init, CLONE_NEWNS)
            .and_then(|()| mounts.iter().try_for_each(|(shown, mount)| attach_one(*shown, mount)));
        attached.map_or_else(Errno::raw_os_error, |()| 0)
    })?;
    let options = rustix::process::WaitIdOptions::EXITED;
    match wharf_sys::handle::wait(&child.pidfd, options)?.and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(number)),
        None => Err(Errno::IO),
    }
}

/// SECURITY: the image decides what is at a path of the container's root. Only the kernel's own file is covered: no
/// link is followed, and what is not on proc or sysfs is left alone.
fn attach_one(shown: Shown, mount: &OwnedFd) -> Result<(), Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let target = match rustix::fs::openat2(rustix::fs::CWD, Path::new(shown.path()), flags, Mode::empty(), resolve) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let is_kernel_s = match shown {
        Shown::Online => wharf_sys::path::is_sysfs(&target),
        _ => wharf_sys::path::is_procfs(&target),
    };
    match is_kernel_s {
        true => wharf_sys::mount::attach(mount, target.as_fd()),
        false => Ok(()),
    }
}

fn failed(what: &str, errno: Errno) -> Fault {
    let kind = match errno {
        // KERNEL(5.2): fsopen; FUSE may not be built in, or its device not be there.
        Errno::NOSYS | Errno::NOENT | Errno::NODEV => FaultKind::Unsupported,
        _ => FaultKind::System,
    };
    Fault {
        kind,
        message: format!("cannot {what}: {}", std::io::Error::from(errno)),
        errno: Some(errno.raw_os_error()),
        ..Fault::default()
    }
}
