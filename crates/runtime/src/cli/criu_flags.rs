//! The flags that `checkpoint` and `restore` share.

use super::{argument, text, usage};
use crate::RuntimeError;
use crate::criu::{CgroupsMode, Options, parse_page_server};
use std::path::PathBuf;
use wharf_sys::namespace::CLONE_NEWNET;

/// Options as they are before any flag: images in `checkpoint` of the present directory.
pub(super) fn defaults() -> Result<Options, RuntimeError> {
    let here =
        std::env::current_dir().map_err(|error| super::failed("find the present directory".to_owned(), &error))?;
    Ok(Options {
        image_path: here.join("checkpoint"),
        ..Options::default()
    })
}

/// Takes a flag that both know; false if it is another.
pub(super) fn take(options: &mut Options, name: &str, parser: &mut lexopt::Parser) -> Result<bool, RuntimeError> {
    let switch = match name {
        "tcp-established" => &mut options.tcp_established,
        "ext-unix-sk" => &mut options.external_unix_sockets,
        "shell-job" => &mut options.shell_job,
        "file-locks" => &mut options.file_locks,
        "auto-dedup" => &mut options.auto_dedup,
        "lazy-pages" => &mut options.lazy_pages,
        _ => return take_value(options, name, parser),
    };
    *switch = true;
    Ok(true)
}

fn take_value(options: &mut Options, name: &str, parser: &mut lexopt::Parser) -> Result<bool, RuntimeError> {
    let mut value = || parser.value().map_err(argument);
    match name {
        "image-path" => options.image_path = absolute(value()?.into())?,
        "work-path" => options.work_path = Some(absolute(value()?.into())?),
        "manage-cgroups-mode" => {
            let word = text(value()?)?;
            options.cgroups_mode = CgroupsMode::parse(&word).ok_or_else(|| {
                usage(format!(
                    "--manage-cgroups-mode: {word:?} is not soft, full, strict or ignore"
                ))
            })?;
        }
        "empty-ns" => match text(value()?)?.as_str() {
            "network" => options.empty_namespaces |= CLONE_NEWNET,
            other => return Err(usage(format!("--empty-ns: {other:?} is not supported, only network"))),
        },
        _ => return Ok(false),
    }
    Ok(true)
}

/// Takes a flag of `checkpoint` alone; false if it is another.
pub(super) fn take_dump(options: &mut Options, name: &str, parser: &mut lexopt::Parser) -> Result<bool, RuntimeError> {
    let mut value = || parser.value().map_err(argument);
    match name {
        "leave-running" => options.leave_running = true,
        "pre-dump" => options.pre_dump = true,
        "tcp-skip-in-flight" => options.tcp_skip_in_flight = true,
        "link-remap" => options.link_remap = true,
        "parent-path" => options.parent_path = Some(value()?.into()),
        "status-fd" => {
            let number = text(value()?)?;
            options.status_fd = Some(parse_status_fd(&number)?);
        }
        "page-server" => {
            let server = text(value()?)?;
            let parsed = parse_page_server(&server);
            options.page_server =
                Some(parsed.ok_or_else(|| usage(format!("--page-server: {server:?} is not ADDRESS:PORT")))?);
        }
        _ => return take(options, name, parser),
    }
    Ok(true)
}

/// It must be open for writing.
fn parse_status_fd(number: &str) -> Result<i32, RuntimeError> {
    let wrong = |why: &str| usage(format!("--status-fd: {number:?} {why}"));
    let parsed: i32 = number.parse().map_err(|_| wrong("is no number"))?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{parsed}"));
    let info = info.map_err(|_| wrong("is no open descriptor"))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    // O_WRONLY or O_RDWR.
    match flags {
        Some(flags) if flags & 3 != 0 => Ok(parsed),
        _ => Err(wrong("is not open for writing")),
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, RuntimeError> {
    std::path::absolute(&path).map_err(|error| super::failed(format!("find {}", path.display()), &error))
}
