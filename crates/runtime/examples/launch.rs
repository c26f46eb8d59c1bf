//! Creates, starts and waits for one container through the library, as the
//! shim does: for tests of what the command line does not offer (overlays,
//! users by name).
//!
//! Its one argument is a JSON object; it exits as the container's program.

use serde::Deserialize;
use std::error::Error;
use std::os::fd::AsFd;
use std::path::PathBuf;
use wharf_runtime::{CreateRequest, ExecRequest, ExecTarget, FilterSource, Rootfs, Stdio, create, exec, spec};

#[derive(Deserialize)]
struct Launch {
    bundle: PathBuf,
    #[serde(default)]
    lower: Vec<PathBuf>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    group_add: Vec<String>,
    /// A command run by exec while the program runs; its code is ours then.
    #[serde(default)]
    exec: Option<Vec<String>>,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    repeat: Option<u32>,
    /// Init begins in a mount namespace that was made bare, if it can.
    #[serde(default)]
    bare: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let text = std::env::args().nth(1).ok_or("an argument is missing")?;
    let launch: Launch = serde_json::from_str(&text)?;
    match repeat(&launch) {
        Ok(code) => std::process::exit(code),
        Err(error) => {
            eprintln!("{error}");
            let code = error
                .downcast_ref::<wharf_runtime::RuntimeError>()
                .map_or(1, |error| error.exit_code());
            std::process::exit(code)
        }
    }
}

/// Runs it as often as asked, and then says whether a descriptor was left open.
fn repeat(launch: &Launch) -> Result<i32, Box<dyn Error>> {
    let Some(count) = launch.repeat else { return run(launch) };
    let held = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    run(launch)?;
    let before = held()?;
    for _ in 0..count {
        run(launch)?;
    }
    match held()? {
        after if after == before => println!("descriptors: the same"),
        after => println!("descriptors: {before}, then {after}"),
    }
    Ok(0)
}

fn run(launch: &Launch) -> Result<i32, Box<dyn Error>> {
    let spec = spec::load(&launch.bundle)?;
    let rootfs = if launch.lower.is_empty() {
        Rootfs::Directory(launch.bundle.join("rootfs"))
    } else {
        let (upper, work) = (launch.bundle.join("upper"), launch.bundle.join("work"));
        Rootfs::Overlay {
            lower: launch.lower.clone(),
            upper,
            work,
            volatile: false,
        }
    };
    let mut request = CreateRequest::new("launched", &launch.bundle, spec.clone(), rootfs);
    request.user.clone_from(&launch.user);
    request.group_add.clone_from(&launch.group_add);
    if launch.bare {
        let place = launch.bundle.clone();
        let made = std::thread::spawn(move || wharf_runtime::bare::make(&place)).join();
        request.bare = Some(made.map_err(|_| "no thread")??);
    }
    let mut created = create(request)?;
    for warning in created.warnings() {
        eprintln!("warning: {warning}");
    }
    created.start()?;
    let code = match &launch.exec {
        None => wait(created.pidfd())?,
        Some(command) => {
            let target = ExecTarget {
                id: "launched",
                bundle: &launch.bundle,
                pid: created.pid(),
                pidfd: created.pidfd(),
                resctrl: created.resctrl(),
                cgroup: created.cgroup(),
                scope: None,
                spec: &spec,
                filter: FilterSource::Configuration(None),
            };
            let process = spec::Process {
                args: command.clone(),
                ..spec.process.clone().unwrap_or_default()
            };
            let process = exec(
                &target,
                ExecRequest {
                    process: spec::Process {
                        capabilities: None,
                        ..process
                    },
                    user: launch.user.clone(),
                    group_add: launch.group_add.clone(),
                    stdio: Stdio::Inherit,
                    privileged: launch.privileged,
                    preserve_fds: 0,
                    sub_cgroups: Vec::new(),
                },
            )?;
            wait(process.pidfd.as_fd())?
        }
    };
    created.abort();
    Ok(code)
}

fn wait(pidfd: std::os::fd::BorrowedFd<'_>) -> Result<i32, Box<dyn Error>> {
    use rustix::process::WaitIdOptions;
    let status = wharf_sys::handle::wait(pidfd, WaitIdOptions::EXITED)?.ok_or("no status")?;
    Ok(status
        .exit_status()
        .or(status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(255))
}
