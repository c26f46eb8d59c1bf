//! `restore`.

use super::store::process_facts;
use super::{Call, argument, create, criu_flags, foreground, system, text};
use crate::criu::{self, Criu, Notice, Revival};
use crate::{ErrorKind, RuntimeError};
use lexopt::Arg::{Long, Short, Value};
use rustix::process::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

fn parse(call: &mut Call) -> Result<(create::Options, criu::Options), RuntimeError> {
    let (mut place, mut options) = (create::Options::default(), criu_flags::defaults()?);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Value(value) if place.id.is_none() => place.id = Some(text(value)?),
            Long("bundle") | Short('b') => place.bundle = Some(call.parser.value().map_err(argument)?.into()),
            Long("console-socket") => {
                place.console_socket = Some(call.parser.value().map_err(argument)?.into());
            }
            Long("pid-file") => place.pid_file = Some(call.parser.value().map_err(argument)?.into()),
            Long("detach") | Short('d') => place.detach = true,
            // The root is not changed by us, and there is nothing to adopt.
            Long("no-pivot" | "no-subreaper") => {}
            Long("lsm-profile") => options.lsm_profile = Some(text(call.parser.value().map_err(argument)?)?),
            Long("lsm-mount-context") => {
                options.lsm_mount_context = Some(text(call.parser.value().map_err(argument)?)?);
            }
            Long(name) => {
                let name = name.to_owned();
                if !criu_flags::take(&mut options, &name, &mut call.parser)? {
                    return Err(super::usage(format!("unknown option --{name}")));
                }
            }
            other => return Err(argument(other.unexpected())),
        }
    }
    Ok((place, options))
}

/// `restore [OPTIONS] ID`: brings back a container from its images.
pub(super) fn restore(mut call: Call) -> Result<i32, RuntimeError> {
    let (place, options) = parse(&mut call)?;
    let criu = Criu::find(call.global.criu.as_deref())?;
    if !options.image_path.is_dir() {
        let text = format!("--image-path: {} is no directory", options.image_path.display());
        return Err(RuntimeError::invalid("--image-path", text));
    }
    let (mut making, _) = create::prepare(&call.global, &place)?;
    let mut cgroup = crate::group::create_group(&making.record.id, &making.spec, call.global.cgroup_choice())?;
    making.record.cgroup = cgroup.group().map(|group| group.path().to_owned());
    making.record.scope = cgroup.scope().cloned();
    let mut class = crate::resctrl::create_group(making.spec.linux(), &making.record.id)?;
    making.record.resctrl = class.group().cloned();
    let watch = if place.detach {
        None
    } else {
        Some(foreground::Watch::start()?)
    };
    criu::mount_root(&making.record.rootfs)?;
    let revival = Revival {
        spec: &making.spec,
        bundle: &making.record.bundle,
        root: &making.record.rootfs,
        cgroup: cgroup.group(),
        class: class.group(),
    };
    let mut console = None;
    let id = making.record.id.clone();
    let pid = criu::restore(&criu, &revival, &options, &mut |notice| {
        serve(notice, (&making, place.console_socket.as_deref()), &mut console)
    })?;
    let init = Revived::open(pid, &id)?;
    cgroup.release_holder();
    making.record.pid = pid;
    making.record.start_time = process_facts(pid).map_or(0, |(_, start)| start);
    making.save()?;
    if let Some(path) = &place.pid_file {
        create::write_pid_file(path, pid)?;
    }
    let Some(watch) = watch else {
        init.keep();
        cgroup.keep();
        class.keep();
        making.keep();
        return Ok(0);
    };
    let code = watch.wait(init.pidfd(), console)?;
    drop(init);
    // What is left in the group goes with it.
    drop(cgroup);
    create::run_poststop(&call.global, &making);
    Ok(code)
}

/// Init of a restored container, killed unless it is kept.
struct Revived {
    pidfd: OwnedFd,
    is_kept: bool,
}

impl Revived {
    fn open(pid: i32, id: &str) -> Result<Self, RuntimeError> {
        let gone = || RuntimeError::new(ErrorKind::System, "restore", format!("criu restored no init for {id}"));
        let pid = Pid::from_raw(pid).ok_or_else(gone)?;
        wharf_sys::handle::open(pid)
            .map(|pidfd| Self { pidfd, is_kept: false })
            .map_err(|errno| system(format!("open the restored init of {id}"), errno))
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Lets it go on by itself.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Revived {
    fn drop(&mut self) {
        if !self.is_kept {
            // One that has ended already cannot be signalled.
            let _ = wharf_sys::signal::send(&self.pidfd, 9);
        }
    }
}

/// What CRIU leaves to us on the way.
fn serve(
    notice: Notice,
    (making, socket): (&create::Making, Option<&Path>),
    console: &mut Option<OwnedFd>,
) -> Result<(), RuntimeError> {
    match (notice.script.as_str(), notice.descriptor) {
        ("setup-namespaces", _) => {
            let record = &making.record;
            crate::hooks::run_create_runtime(&making.spec, &record.id, notice.pid, &record.bundle)
        }
        ("orphan-pts-master", Some(master)) => match socket {
            Some(socket) => create::send_descriptor(socket, b"/dev/pts/0", master.as_fd()),
            None => {
                *console = Some(master);
                Ok(())
            }
        },
        _ => Ok(()),
    }
}
