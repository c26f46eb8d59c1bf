//! Finding the program as a shell would, with the words Docker's clients
//! match on, and executing it.

use crate::{ErrorKind, RuntimeError};
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;
use std::ffi::CString;

/// What is executed: the file found, `argv` and the environment.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: CString,
    args: Vec<CString>,
    pub(crate) env: Vec<CString>,
}

/// Finds `args[0]` in the container: as a path if it holds a slash, else in
/// the directories of PATH.
pub(crate) fn find(args: &[String], env: &[String]) -> Result<Program, RuntimeError> {
    let name = args
        .first()
        .ok_or_else(|| RuntimeError::invalid("process.args", "process.args: is empty"))?;
    let path = if name.contains('/') {
        explicit(name)?
    } else {
        search(name, env)?
    };
    Ok(Program {
        path: c_string("process.args", &path)?,
        args: c_strings("process.args", args)?,
        env: c_strings("process.env", env)?,
    })
}

fn explicit(name: &str) -> Result<String, RuntimeError> {
    match probe(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(Errno::NOENT | Errno::NOTDIR) if rustix::fs::stat(name).is_err() => {
            let errno = rustix::fs::stat(name).err().unwrap_or(Errno::NOENT);
            let text = format!("exec: {name:?}: stat {name}");
            Err(RuntimeError {
                kind: ErrorKind::CommandNotFound,
                ..RuntimeError::system("exec", text, errno)
            })
        }
        Err(errno) => {
            let text = format!("exec: {name:?}");
            Err(RuntimeError {
                kind: ErrorKind::CommandNotExecutable,
                ..RuntimeError::system("exec", text, errno)
            })
        }
    }
}

fn search(name: &str, env: &[String]) -> Result<String, RuntimeError> {
    let path = env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or_default();
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{}/{name}", directory.trim_end_matches('/'));
        if probe(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    let text = format!("exec: {name:?}: executable file not found in $PATH");
    Err(RuntimeError::new(ErrorKind::CommandNotFound, "exec", text))
}

/// Whether the file can be executed by this process.
fn probe(path: &str) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // KERNEL(5.8): a filter that does not know faccessat2(2). Real and effective ids are one here.
        Err(Errno::PERM) => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
        other => other,
    }
}

impl Program {
    /// Executes it; returns only on failure.
    pub(crate) fn execute(&self) -> RuntimeError {
        let errno = wharf_sys::process::execve(&self.path, &self.args, &self.env);
        let kind = match errno {
            Errno::NOENT | Errno::NOTDIR => ErrorKind::CommandNotFound,
            _ => ErrorKind::CommandNotExecutable,
        };
        let text = format!("exec {}", self.path.to_string_lossy());
        RuntimeError {
            kind,
            ..RuntimeError::system("exec", text, errno)
        }
    }
}

fn c_string(field: &str, text: &str) -> Result<CString, RuntimeError> {
    CString::new(text).map_err(|_| RuntimeError::invalid(field, format!("{field}: holds a NUL byte")))
}

fn c_strings(field: &str, texts: &[String]) -> Result<Vec<CString>, RuntimeError> {
    texts.iter().map(|text| c_string(field, text)).collect()
}
