//! `exec`.

use super::global::Global;
use super::store::{Entry, Record, Status};
use super::{Call, NO_PROGRAM, argument, create, failed, foreground, log, required_id, text, usage};
use crate::plan::scheduling::parse_list;
use crate::spec::{Process, Spec, User, place, validate};
use crate::{ErrorKind, ExecRequest, ExecTarget, FilterSource, RuntimeError, Stdio, SubCgroup};
use lexopt::Arg::{Long, Short, Value};
use std::os::fd::AsFd;
use std::path::PathBuf;

#[derive(Debug, Default)]
struct Options {
    id: Option<String>,
    command: Vec<String>,
    process: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    cwd: Option<PathBuf>,
    env: Vec<String>,
    tty: bool,
    user: Option<String>,
    groups: Vec<u32>,
    capabilities: Vec<String>,
    no_new_privileges: bool,
    apparmor: Option<String>,
    label: Option<String>,
    detach: bool,
    preserve_fds: u32,
    ignore_paused: bool,
    cgroups: Vec<String>,
}

fn parse(parser: &mut lexopt::Parser) -> Result<Options, RuntimeError> {
    let mut options = Options::default();
    while let Some(arg) = parser.next().map_err(argument)? {
        match arg {
            Long("tty") | Short('t') => options.tty = true,
            Long("detach") | Short('d') => options.detach = true,
            Long("no-new-privs") => options.no_new_privileges = true,
            Long("ignore-paused") => options.ignore_paused = true,
            Value(value) => {
                options.id = Some(text(value)?);
                // What follows belongs to the program.
                let rest = parser.raw_args().map_err(argument)?;
                options.command = rest.map(text).collect::<Result<_, _>>()?;
                if options.command.first().is_some_and(|first| first == "--") {
                    options.command.remove(0);
                }
                break;
            }
            Long(name) => {
                let name = name.to_owned();
                let value = text(parser.value().map_err(argument)?)?;
                set(&mut options, &name, value)?;
            }
            Short(letter) => {
                let value = text(parser.value().map_err(argument)?)?;
                set(&mut options, letter.encode_utf8(&mut [0; 4]), value)?;
            }
        }
    }
    Ok(options)
}

fn set(options: &mut Options, name: &str, value: String) -> Result<(), RuntimeError> {
    let number = |value: &str| {
        value
            .parse()
            .map_err(|_| usage(format!("--{name}: {value:?} is no number")))
    };
    match name {
        "process" | "p" => options.process = Some(value.into()),
        "console-socket" => options.console_socket = Some(value.into()),
        "pidfd-socket" => options.pidfd_socket = Some(value.into()),
        "pid-file" => options.pid_file = Some(value.into()),
        "cwd" => options.cwd = Some(value.into()),
        "env" | "e" => options.env.push(value),
        "user" | "u" => options.user = Some(value),
        "additional-gids" | "g" => options.groups.push(number(&value)?),
        "cap" | "c" => options.capabilities.push(capability(value)?),
        "cgroup" => options.cgroups.push(value),
        "apparmor" => options.apparmor = Some(value),
        "process-label" => options.label = Some(value),
        "preserve-fds" => options.preserve_fds = number(&value)?,
        other => return Err(usage(format!("unknown option --{other}"))),
    }
    Ok(())
}

/// What is typed here and unknown is a mistake; in a configuration it may be
/// of a newer kernel.
fn capability(name: String) -> Result<String, RuntimeError> {
    match wharf_sys::caps::parse_capability(&name) {
        Some(_) => Ok(name),
        None => Err(usage(format!("--cap: unknown capability {name:?}"))),
    }
}

/// `exec [OPTIONS] ID COMMAND...`, or with `--process FILE`.
pub(super) fn exec(mut call: Call) -> Result<i32, RuntimeError> {
    let options = parse(&mut call.parser)?;
    let id = required_id(options.id.clone())?;
    Ok(exec_in(&call, &id, &options).unwrap_or_else(|error| {
        log::report(&call.global, &error);
        NO_PROGRAM
    }))
}

fn exec_in(call: &Call, id: &str, options: &Options) -> Result<i32, RuntimeError> {
    let entry = Entry::open(&call.global, id)?;
    let record = entry.load()?;
    check_status(&entry, &record, options.ignore_paused)?;
    let spec = entry.load_spec()?;
    let process = plan_process(options, &spec)?;
    validate::validate_process("process", &process)?;
    debug_affinity(&call.global, &process, &spec);
    if process.terminal && options.detach && options.console_socket.is_none() {
        return Err(RuntimeError::invalid(
            "process.terminal",
            "process.terminal: needs --console-socket when detached",
        ));
    }
    let watch = if options.detach {
        None
    } else {
        Some(foreground::Watch::start()?)
    };
    run(&call.global, options, &record, &spec, process, watch)
}

/// COMPAT: runc's log shows the CPUs as a mask, which its users look for.
fn debug_affinity(global: &Global, process: &Process, spec: &Spec) {
    let own = spec.process.as_ref().and_then(|own| own.exec_cpu_affinity.as_ref());
    let list = process
        .exec_cpu_affinity
        .as_ref()
        .or(own)
        .and_then(|cpus| cpus.initial.as_deref());
    if let Some(words) = list.and_then(parse_list).filter(|words| !words.is_empty()) {
        let (last, rest) = words
            .split_last()
            .map_or((0, [].as_slice()), |(last, rest)| (*last, rest));
        let tail: String = rest.iter().rev().map(|word| format!("{word:016x}")).collect();
        log::debug(global, &format!("exec: initial CPU affinity: 0x{last:x}{tail}"));
    }
}

fn check_status(entry: &Entry, record: &Record, ignore_paused: bool) -> Result<(), RuntimeError> {
    let status = entry.status(record);
    match status {
        Status::Running | Status::Created => Ok(()),
        Status::Paused if ignore_paused => Ok(()),
        // COMPAT: the words of runc.
        Status::Paused => Err(RuntimeError::new(
            ErrorKind::Conflict,
            "exec",
            format!("cannot exec in a paused container: {}", record.id),
        )),
        _ => {
            let text = format!("cannot exec in container {} in the {} state", record.id, status.name());
            Err(RuntimeError::new(ErrorKind::Conflict, "exec", text))
        }
    }
}

fn run(
    global: &Global,
    options: &Options,
    record: &Record,
    spec: &Spec,
    process: Process,
    watch: Option<foreground::Watch>,
) -> Result<i32, RuntimeError> {
    let gone = || {
        RuntimeError::new(
            ErrorKind::Conflict,
            "exec",
            format!("container {} is not running", record.id),
        )
    };
    let pidfd = record.open_pidfd()?.ok_or_else(gone)?;
    let cgroup = record.open_cgroup()?;
    let filter_cache = global.filter_cache();
    let target = ExecTarget {
        filter: FilterSource::Configuration(Some(&filter_cache)),
        id: &record.id,
        bundle: &record.bundle,
        pid: record.pid,
        pidfd: pidfd.as_fd(),
        resctrl: record.resctrl.as_ref(),
        cgroup: cgroup.as_ref(),
        scope: record.scope.as_ref(),
        spec,
    };
    let started = crate::exec(
        &target,
        ExecRequest {
            process,
            user: None,
            group_add: Vec::new(),
            stdio: match options.console_socket {
                None => Stdio::Foreground,
                Some(_) => Stdio::Inherit,
            },
            privileged: false,
            preserve_fds: options.preserve_fds,
            sub_cgroups: SubCgroup::parse_all(&options.cgroups)?,
        },
    )?;
    for warning in &started.warnings {
        log::warn(global, warning);
    }
    let mut console = started.console;
    if let Some(socket) = &options.console_socket
        && let Some(master) = console.take()
    {
        create::send_descriptor(socket, b"/dev/pts/0", master.as_fd())?;
    }
    if let Some(socket) = &options.pidfd_socket {
        create::send_descriptor(socket, b"pidfd", started.pidfd.as_fd())?;
    }
    if let Some(path) = &options.pid_file {
        create::write_pid_file(path, started.pid)?;
    }
    match watch {
        Some(watch) => watch.wait(started.pidfd.as_fd(), console),
        None => Ok(0),
    }
}

fn plan_process(options: &Options, spec: &Spec) -> Result<Process, RuntimeError> {
    if let Some(path) = &options.process {
        let bytes = std::fs::read(path).map_err(|error| failed(format!("read {}", path.display()), &error))?;
        let mut process: Process = crate::spec::nulls::from_slice(&bytes).map_err(|error| {
            let field = place::of_error(&bytes, &error);
            RuntimeError::invalid("--process", format!("parse {}: {field}: {error}", path.display()))
        })?;
        process.terminal |= options.tty;
        return Ok(process);
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args.clone_from(&options.command);
    process.terminal = options.tty;
    override_env(&mut process.env, &options.env);
    process.no_new_privileges |= options.no_new_privileges;
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &options.user {
        process.user = parse_user(user)?;
    }
    process.user.additional_gids.extend(&options.groups);
    if options.apparmor.is_some() {
        process.apparmor_profile.clone_from(&options.apparmor);
    }
    if options.label.is_some() {
        process.selinux_label.clone_from(&options.label);
    }
    if let Some(sets) = process
        .capabilities
        .as_mut()
        .filter(|_| !options.capabilities.is_empty())
    {
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(options.capabilities.iter().cloned());
        }
        // COMPAT: as runc: ambient too, where the container inherits it.
        for name in &options.capabilities {
            if sets.inheritable.contains(name) {
                sets.ambient.push(name.clone());
            }
        }
    }
    Ok(process)
}

/// A variable that is given again takes the place of the container's own.
fn override_env(env: &mut Vec<String>, given: &[String]) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let named: Vec<String> = given.iter().map(|entry| name(entry)).collect();
    env.retain(|entry| !named.contains(&name(entry)));
    for (index, entry) in given.iter().enumerate() {
        // Of several the last counts.
        if !named[index + 1..].contains(&named[index]) {
            env.push(entry.clone());
        }
    }
}

/// `uid[:gid]`, numbers only as runc takes them.
fn parse_user(text: &str) -> Result<User, RuntimeError> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let number = |part: &str| {
        part.parse()
            .map_err(|_| usage(format!("--user: {text:?} is not uid[:gid]")))
    };
    Ok(User {
        uid: number(uid)?,
        gid: number(gid)?,
        ..User::default()
    })
}
