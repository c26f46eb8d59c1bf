//! Cloning init into namespaces that exist already.
//!
//! Most are entered by init itself. It must be born in a pid namespace; with
//! a new user namespace it must be born in all of them, because it could not
//! enter them any more. A user namespace that exists is entered by a process
//! in between, which there is no way back for; without the host's privileges,
//! a pid namespace as well.

use crate::RuntimeError;
use crate::plan::namespaces::{NamespacePlan, file_name};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_sys::clone::{CLONE_PARENT, Child, CloneOptions, clone3};
use wharf_sys::fdpass;
use wharf_sys::namespace::{self, CLONE_NEWPID, CLONE_NEWUSER};

fn failed(kind: u32, errno: Errno) -> RuntimeError {
    let text = format!("join the {} namespace", file_name(kind));
    RuntimeError::system("join namespaces", text, errno)
}

/// Why init was not born: what clone(2) answers for its cgroup, or the namespaces.
fn not_born(cgroup: Option<BorrowedFd<'_>>, errno: Errno) -> RuntimeError {
    let is_about_group = matches!(errno, Errno::ACCESS | Errno::BUSY | Errno::OPNOTSUPP);
    match cgroup {
        Some(_) if is_about_group => {
            RuntimeError::system("cgroup", "linux.cgroupsPath: put init into its cgroup", errno)
        }
        _ => RuntimeError::system("clone", "make the namespaces", errno),
    }
}

/// The kinds (`CLONE_NEW...`) that [`clone_init`] enters, so that init need not.
pub(crate) fn entered_before(plan: &NamespacePlan) -> u32 {
    let all = plan.makes(CLONE_NEWUSER) || plan.joins(CLONE_NEWUSER);
    let kinds = plan.join.iter().map(|(kind, _)| *kind);
    kinds
        .filter(|kind| all || *kind == CLONE_NEWPID)
        .fold(0, |kinds, kind| kinds | kind)
}

/// Clones init, of which this process becomes the parent, into the
/// namespaces of `join` that are in `kinds`.
pub(crate) fn clone_init(
    join: &[(u32, BorrowedFd<'_>)],
    kinds: u32,
    options: CloneOptions<'_>,
    init: impl FnOnce(Result<(), Errno>) -> i32,
) -> Result<Child, RuntimeError> {
    let join: Vec<_> = join.iter().copied().filter(|(kind, _)| kinds & kind != 0).collect();
    let has = |wanted| join.iter().any(|(kind, _)| *kind == wanted);
    // A user namespace's root, as under Podman without privileges, may not enter the pid namespace it came from.
    if has(CLONE_NEWUSER) || (has(CLONE_NEWPID) && crate::privileges::is_rootless()) {
        return clone_sister(options, || enter_with_user(&join), init);
    }
    let own = enter_all(&join)?;
    let cloned = clone3(options, init);
    go_back(&own)?;
    cloned.map_err(|errno| not_born(options.cgroup, errno))
}

/// Enters all and returns where this process was.
fn enter_all(join: &[(u32, BorrowedFd<'_>)]) -> Result<Vec<(u32, OwnedFd)>, RuntimeError> {
    let mut own = Vec::new();
    for (kind, fd) in join {
        let path = format!("/proc/self/ns/{}", file_name(*kind));
        let here = namespace::open(Path::new(&path)).map_err(|errno| failed(*kind, errno))?;
        if let Err(errno) = namespace::enter(fd, *kind) {
            go_back(&own)?;
            return Err(failed(*kind, errno));
        }
        own.push((*kind, here));
    }
    Ok(own)
}

fn go_back(own: &[(u32, OwnedFd)]) -> Result<(), RuntimeError> {
    for (kind, fd) in own {
        namespace::enter(fd, *kind)
            .map_err(|errno| RuntimeError::system("join namespaces", "go back to the runtime's own", errno))?;
    }
    Ok(())
}

/// Through a process that enters namespaces and then clones the wanted one as
/// its sister, whose handle it hands over.
pub(crate) fn clone_sister(
    options: CloneOptions<'_>,
    enter: impl FnOnce() -> Result<(), (u32, Errno)>,
    child: impl FnOnce(Result<(), Errno>) -> i32,
) -> Result<Child, RuntimeError> {
    let system = |what: &'static str| move |errno| RuntimeError::system("join namespaces", what, errno);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(system("make a socket pair"))?;
    let plain = CloneOptions { flags: 0, cgroup: None };
    let between = clone3(plain, |_| {
        let sister = CloneOptions {
            flags: options.flags | CLONE_PARENT,
            ..options
        };
        let made = enter().and_then(|()| clone3(sister, child).map_err(|errno| (0, errno)));
        report(&theirs, made)
    })
    .map_err(system("clone the process that joins"))?;
    drop(theirs);
    let said = hear(&ours, options.cgroup);
    let _ = wharf_sys::handle::wait(&between.pidfd, WaitIdOptions::EXITED);
    said
}

/// ORDER: namespaces of the host are entered with the host's rights, before
/// the user namespace; those that belong to it can only be entered after.
fn enter_with_user(join: &[(u32, BorrowedFd<'_>)]) -> Result<(), (u32, Errno)> {
    let mut later = Vec::new();
    for (kind, fd) in join.iter().filter(|(kind, _)| *kind != CLONE_NEWUSER) {
        match namespace::enter(fd, *kind) {
            Ok(()) => {}
            Err(Errno::PERM) => later.push((*kind, *fd)),
            Err(errno) => return Err((*kind, errno)),
        }
    }
    let user = join.iter().filter(|(kind, _)| *kind == CLONE_NEWUSER);
    for (kind, fd) in user.copied().chain(later) {
        namespace::enter(fd, kind).map_err(|errno| (kind, errno))?;
    }
    Ok(())
}

/// Three numbers: pid, failed namespace, errno. The descriptor goes along.
fn report(to: &OwnedFd, made: Result<Child, (u32, Errno)>) -> i32 {
    let (numbers, fd) = match &made {
        Ok(child) => ([child.pid.as_raw_nonzero().get(), 0, 0], Some(child.pidfd.as_fd())),
        Err((kind, errno)) => ([0, kind.cast_signed(), errno.raw_os_error()], None),
    };
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
    let fds: Vec<_> = fd.into_iter().collect();
    i32::from(fdpass::send(to, &bytes, &fds).is_err())
}

fn hear(from: &OwnedFd, cgroup: Option<BorrowedFd<'_>>) -> Result<Child, RuntimeError> {
    let system = |errno| RuntimeError::system("join namespaces", "hear of the process that joins", errno);
    let mut bytes = [0u8; 12];
    let (length, mut fds) = fdpass::receive(from, &mut bytes).map_err(system)?;
    let mut numbers = bytes.as_chunks::<4>().0.iter().map(|chunk| i32::from_ne_bytes(*chunk));
    let (pid, kind, errno) = (numbers.next(), numbers.next(), numbers.next());
    let pid = pid.filter(|_| length == bytes.len()).and_then(Pid::from_raw);
    match (pid, fds.pop(), kind, errno) {
        (Some(pid), Some(pidfd), ..) => Ok(Child { pid, pidfd }),
        (None, _, Some(0), Some(errno)) if errno != 0 => Err(not_born(cgroup, Errno::from_raw_os_error(errno))),
        (None, _, Some(kind), Some(errno)) if errno != 0 => {
            Err(failed(kind.cast_unsigned(), Errno::from_raw_os_error(errno)))
        }
        _ => Err(system(Errno::CHILD)),
    }
}
