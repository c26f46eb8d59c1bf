//! `create` and `run`.

use super::global::Global;
use super::store::{Entry, Record, process_facts};
use super::{Call, NO_PROGRAM, argument, failed, foreground, log, required_id, system, text, usage};
use crate::spec::{self, Spec};
use crate::{CreateRequest, Created, Gate, Rootfs, RuntimeError, Scope, Stdio};
use lexopt::Arg::{Long, Short, Value};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `create` and `run`.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) id: Option<String>,
    pub(super) bundle: Option<PathBuf>,
    /// Name of the configuration, within the bundle.
    config: Option<PathBuf>,
    pub(super) console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    no_pivot: bool,
    no_new_keyring: bool,
    preserve_fds: u32,
    pub(super) detach: bool,
    keep: bool,
}

fn parse(parser: &mut lexopt::Parser, is_run: bool) -> Result<Options, RuntimeError> {
    let mut options = Options::default();
    while let Some(arg) = parser.next().map_err(argument)? {
        match arg {
            Long("bundle") | Short('b') => options.bundle = Some(parser.value().map_err(argument)?.into()),
            // COMPAT: crun's option; its test suite and its users pass it.
            Long("config") | Short('f') => options.config = Some(parser.value().map_err(argument)?.into()),
            Long("console-socket") => options.console_socket = Some(parser.value().map_err(argument)?.into()),
            Long("pidfd-socket") => options.pidfd_socket = Some(parser.value().map_err(argument)?.into()),
            Long("pid-file") => options.pid_file = Some(parser.value().map_err(argument)?.into()),
            Long("no-pivot") => options.no_pivot = true,
            Long("no-new-keyring") => options.no_new_keyring = true,
            Long("preserve-fds") => options.preserve_fds = parse_number(&text(parser.value().map_err(argument)?)?)?,
            Long("detach") | Short('d') if is_run => options.detach = true,
            Long("keep") if is_run => options.keep = true,
            Long("no-subreaper") if is_run => {}
            Value(value) if options.id.is_none() => options.id = Some(text(value)?),
            other => return Err(argument(other.unexpected())),
        }
    }
    Ok(options)
}

fn parse_number(value: &str) -> Result<u32, RuntimeError> {
    value.parse().map_err(|_| usage(format!("{value:?} is no number")))
}

/// A container in the making; its directory goes away with a failure.
pub(super) struct Making {
    entry: Option<Entry>,
    /// Held until the container is there, or gone again.
    lock: OwnedFd,
    pub(super) record: Record,
    pub(super) spec: Arc<Spec>,
}

impl Making {
    /// Writes down what is known.
    pub(super) fn save(&self) -> Result<(), RuntimeError> {
        if let Some(entry) = &self.entry {
            entry.save_spec(&self.spec)?;
            entry.save(&self.record)?;
        }
        Ok(())
    }

    pub(super) fn keep(mut self) -> Option<Entry> {
        self.entry.take()
    }

    /// Writes down what is known of the container as soon as its init exists. Its record follows when everything
    /// stands: until then the container is being created.
    fn describe_init(&mut self, pid: i32) -> Result<(), RuntimeError> {
        self.record.pid = pid;
        self.record.start_time = process_facts(pid).map_or(0, |(_, start)| start);
        Entry::announce_init(&self.lock, &self.record)?;
        crate::trace::point("announced");
        self.entry.as_ref().map_or(Ok(()), |entry| entry.save_spec(&self.spec))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.remove_own(&self.lock);
        }
    }
}

/// `create [OPTIONS] ID`.
pub(super) fn create(mut call: Call) -> Result<i32, RuntimeError> {
    let mut options = parse(&mut call.parser, false)?;
    // Who creates does not stay to copy a terminal.
    options.detach = true;
    let (mut making, request) = prepare(&call.global, &options)?;
    let entry = making.entry.as_ref().ok_or_else(|| usage("no state directory"))?;
    let gate = Gate::Socket(listen(&entry.start_socket())?);
    let request = CreateRequest { gate, ..request };
    let mut created = crate::create_while(request, |pid| making.describe_init(pid))?;
    record_init(&call.global, &mut making, &mut created, &options)?;
    crate::trace::point("recorded");
    let _ = created.leave();
    making.keep();
    Ok(0)
}

/// `run [OPTIONS] ID`.
pub(super) fn run(mut call: Call) -> Result<i32, RuntimeError> {
    let options = parse(&mut call.parser, true)?;
    let (mut making, request) = prepare(&call.global, &options)?;
    // ORDER: a detached container's pid file is there before its program runs.
    let gate = if options.detach { Gate::Channel } else { Gate::Open };
    let request = CreateRequest { gate, ..request };
    let watch = if options.detach {
        None
    } else {
        Some(foreground::Watch::start()?)
    };
    let mut created = crate::create_while(request, |pid| making.describe_init(pid))?;
    let console = record_init(&call.global, &mut making, &mut created, &options)?;
    let (id, bundle) = (making.record.id.clone(), making.record.bundle.clone());
    // What nobody needs to know before the end is asked for at the end, and the program not waited for twice.
    let is_awaited = watch.is_none() || making.spec.has_poststart_hooks();
    if is_awaited {
        created.start()?;
    }
    Entry::unlock(&making.lock)?;
    if let Err(error) = crate::hooks::run_poststart(&making.spec, &id, created.pid(), &bundle) {
        created.abort();
        run_poststop(&call.global, &making);
        return Err(error);
    }
    let Some(watch) = watch else {
        let _ = created.leave();
        making.keep();
        return Ok(0);
    };
    let mut code = watch.wait(created.pidfd(), console)?;
    crate::trace::point("ended");
    if !is_awaited && let Err(error) = created.start() {
        log::report(&call.global, &error);
        code = NO_PROGRAM;
    }
    // Dropping `created` removes the cgroup with what is left in it.
    if options.keep {
        let _ = created.leave();
        making.keep();
        return Ok(code);
    }
    created.abort();
    crate::trace::point("removed");
    run_poststop(&call.global, &making);
    Ok(code)
}

/// What fails then is only warned about (config.md#poststop).
pub(super) fn run_poststop(global: &Global, making: &Making) {
    if let Err(error) = crate::hooks::run_poststop(&making.spec, &making.record.id, &making.record.bundle) {
        log::warn(global, &error.message());
    }
}

/// Reads the bundle and makes the state directory.
pub(super) fn prepare(global: &Global, options: &Options) -> Result<(Making, CreateRequest), RuntimeError> {
    let id = required_id(options.id.clone())?;
    let bundle = options.bundle.clone().unwrap_or_else(|| PathBuf::from("."));
    let bundle =
        std::fs::canonicalize(&bundle).map_err(|error| failed(format!("open {}", bundle.display()), &error))?;
    let mut spec = load(&bundle, options.config.as_deref())?;
    choose_cgroup(global, &mut spec, &id)?;
    check_terminal(&spec, options)?;
    let rootfs = spec.root.as_ref().map(|root| bundle.join(&root.path));
    let rootfs = rootfs.ok_or_else(|| RuntimeError::invalid("root", "root: is missing"))?;
    let systemd = global.cgroup_choice().systemd;
    let scope = systemd.map(|instance| Scope::of(&id, &spec, instance)).transpose()?;
    // ORDER: from here until it is being made nothing can fail, and nothing is left behind.
    let (entry, lock) = Entry::create(global, &id)?;
    let record = Record {
        id: id.clone(),
        pid: 0,
        start_time: 0,
        bundle: bundle.clone(),
        rootfs: rootfs.clone(),
        // ORDER: whoever is killed while creating leaves what delete finds.
        cgroup: path_of_group(global, &spec),
        scope,
        created: log::rfc3339(clock_gettime(ClockId::Realtime).tv_sec),
        annotations: spec.annotations.clone(),
        host_root: None,
        resctrl: None,
        is_unfinished: false,
    };
    let listening = listen_fds();
    announce_listen_fds(&mut spec, listening);
    let spec = Arc::new(spec);
    let making = Making {
        entry: Some(entry),
        lock,
        record,
        spec: Arc::clone(&spec),
    };
    Entry::announce(&making.lock, &making.record)?;
    let mut request = CreateRequest::new(id, bundle, spec, Rootfs::Directory(rootfs));
    request.stdio = match (options.detach, &options.console_socket) {
        (false, None) => Stdio::Foreground,
        _ => Stdio::Inherit,
    };
    request.filter_cache = Some(global.filter_cache());
    request.preserve_fds = options.preserve_fds.saturating_add(listening);
    request.no_pivot = options.no_pivot;
    request.no_new_keyring = options.no_new_keyring;
    request.cgroup = global.cgroup_choice();
    Ok((making, request))
}

/// How many descriptors socket activation handed to us.
///
/// COMPAT: as crun, without LISTEN_PID they are taken to be ours.
fn listen_fds() -> u32 {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let is_ours = std::env::var("LISTEN_PID").map_or(true, |pid| pid.parse() == Ok(own));
    let count = std::env::var("LISTEN_FDS").ok().filter(|_| is_ours);
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Tells the program of the descriptors of socket activation: inside, its
/// number is 1 (sd_listen_fds(3)).
fn announce_listen_fds(spec: &mut Spec, count: u32) {
    let (Some(process), 1..) = (&mut spec.process, count) else {
        return;
    };
    process
        .env
        .extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
    if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
        process.env.push(format!("LISTEN_FDNAMES={names}"));
    }
}

fn load(bundle: &Path, config: Option<&Path>) -> Result<Spec, RuntimeError> {
    let path = bundle.join(config.unwrap_or(Path::new("config.json")));
    spec::load_file(&path).map_err(|error| {
        use std::error::Error as _;
        // The errno's text as everywhere: callers match on it.
        let text = |cause: &(dyn std::error::Error + 'static)| match cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            Some(errno) => crate::error::errno_text(errno),
            None => cause.to_string(),
        };
        let cause = error.source().map(text);
        RuntimeError {
            chain: [error.to_string()].into_iter().chain(cause).collect(),
            ..RuntimeError::invalid("config.json", "")
        }
    })
}

/// Completes what the configuration leaves open about the cgroup.
fn choose_cgroup(global: &Global, spec: &mut Spec, id: &str) -> Result<(), RuntimeError> {
    let linux = spec.linux.get_or_insert_default();
    if global.no_cgroup {
        linux.cgroups_path = None;
        return Ok(());
    }
    if global.systemd_cgroup {
        return Ok(());
    }
    match linux.cgroups_path.as_deref().filter(|path| !path.is_empty()) {
        None => linux.cgroups_path = Some(crate::group::default_path(id, global.is_rootless())),
        Some(path) if path.split(':').count() == 3 && !path.contains('/') => {
            let text = format!("linux.cgroupsPath: {path:?} is a unit of systemd, which needs --systemd-cgroup");
            return Err(RuntimeError::invalid("linux.cgroupsPath", text));
        }
        Some(_) => {}
    }
    Ok(())
}

/// Where the group will be, unless systemd says so.
fn path_of_group(global: &Global, spec: &Spec) -> Option<String> {
    let path = spec.linux().cgroups_path.as_ref().filter(|_| !global.systemd_cgroup);
    path.map(|path| format!("/{}", path.trim_start_matches('/')))
}

/// A terminal needs someone to take its master side, and only then.
fn check_terminal(spec: &Spec, options: &Options) -> Result<(), RuntimeError> {
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let is_detached = options.detach || options.console_socket.is_some();
    match (terminal, &options.console_socket) {
        (true, None) if is_detached => Err(RuntimeError::invalid(
            "process.terminal",
            "process.terminal: needs --console-socket when detached",
        )),
        (false, Some(_)) => Err(RuntimeError::invalid(
            "process.terminal",
            "--console-socket: is given, but process.terminal is false",
        )),
        _ => Ok(()),
    }
}

/// Writes down who init is, and hands out what callers asked for. Returns
/// the terminal if nobody else takes it.
fn record_init(
    global: &Global,
    making: &mut Making,
    created: &mut Created,
    options: &Options,
) -> Result<Option<OwnedFd>, RuntimeError> {
    for warning in created.warnings() {
        log::warn(global, warning);
    }
    making.record.host_root = created.host_root().cloned();
    making.record.cgroup = created.cgroup().map(|group| group.path().to_owned());
    making.record.scope = created.scope().cloned();
    making.record.resctrl = created.resctrl().cloned();
    if let Some(entry) = &making.entry {
        entry.save(&making.record)?;
    }
    let mut console = created.take_console();
    if let (Some(socket), Some(master)) = (
        &options.console_socket,
        console.take_if(|_| options.console_socket.is_some()),
    ) {
        send_descriptor(socket, b"/dev/pts/0", master.as_fd())?;
    }
    if let Some(socket) = &options.pidfd_socket {
        send_descriptor(socket, b"pidfd", created.pidfd())?;
    }
    if let Some(path) = &options.pid_file {
        write_pid_file(path, created.pid())?;
    }
    Ok(console)
}

/// Writes the pid in one step.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<(), RuntimeError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}"));
    std::fs::write(&fresh, pid.to_string())
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|error| failed(format!("write {}", path.display()), &error))
}

/// Sends a descriptor to the unix socket at `path`, with `label` as payload.
pub(super) fn send_descriptor(path: &Path, label: &[u8], fd: std::os::fd::BorrowedFd<'_>) -> Result<(), RuntimeError> {
    let failed = |errno| system(format!("send a descriptor to {}", path.display()), errno);
    let socket = connect(path, SocketType::STREAM).map_err(failed)?;
    wharf_sys::fdpass::send(&socket, label, &[fd]).map(drop).map_err(failed)
}

/// Connects to a unix socket by a path of any length.
pub(super) fn connect(path: &Path, kind: SocketType) -> Result<OwnedFd, rustix::io::Errno> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let location = rustix::fs::open(
        path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(wharf_sys::fd::proc_path(&location))?)?;
    Ok(socket)
}

/// Makes the socket on which init waits, by a path of any length.
fn listen(path: &Path) -> Result<OwnedFd, RuntimeError> {
    let failed = |errno| system(format!("make {}", path.display()), errno);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let directory = rustix::fs::open(
        parent,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(failed)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(failed)?;
    let address = SocketAddrUnix::new(format!("{}/{name}", wharf_sys::fd::proc_path(&directory))).map_err(failed)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    rustix::net::listen(&socket, 1).map_err(failed)?;
    Ok(socket)
}
