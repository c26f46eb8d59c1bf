//! The shim's directory: socket, process id, exit record.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::identity::{self, EXIT, PID, SOCKET};
use crate::protocol::ExitRecord;

/// The open directory of one shim.
#[derive(Debug)]
pub(super) struct Home {
    dir: OwnedFd,
}

impl Home {
    pub(super) fn new(dir: OwnedFd) -> Self {
        Self { dir }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Where this shim and its siblings keep compiled system call filters: beside the directory of all shims.
    pub(super) fn filter_cache(&self) -> std::path::PathBuf {
        std::path::Path::new(&wharf_sys::fd::proc_path(&self.dir)).join("../../seccomp")
    }

    /// A listening socket under its final name. It is bound under another name and moved, so that
    /// whoever finds it can connect, and one left by an earlier shim is replaced.
    pub(super) fn listen(&self) -> Result<OwnedFd, Errno> {
        const NEW: &str = "sock.new";
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let _ = rustix::fs::unlinkat(&self.dir, NEW, AtFlags::empty());
        let address = SocketAddrUnix::new(identity::socket_path(self.fd(), NEW))?;
        rustix::net::bind(&socket, &address)?;
        rustix::fs::chmodat(&self.dir, NEW, Mode::from_raw_mode(0o600), AtFlags::empty())?;
        rustix::net::listen(&socket, 16)?;
        rustix::fs::renameat(&self.dir, NEW, &self.dir, SOCKET)?;
        Ok(socket)
    }

    /// Records who this is.
    pub(super) fn write_pid(&self) -> Result<(), Errno> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let text = format!("{pid} {}\n", super::process::start_ticks(pid));
        self.replace(PID, text.as_bytes())
    }

    /// The living shim that this directory belongs to, which may be this very process.
    pub(super) fn keeper(&self) -> Option<u32> {
        identity::shim_pid(std::path::Path::new(&wharf_sys::fd::proc_path(&self.dir)))
    }

    /// Records how the container ended.
    pub(super) fn write_exit(&self, record: &ExitRecord) -> Result<(), Errno> {
        let text = serde_json::to_vec(record).map_err(|_| Errno::INVAL)?;
        self.replace(EXIT, &text)
    }

    /// Removes everything of this shim; the exit record last, as long as anything else exists it
    /// can still be asked for.
    pub(super) fn remove_all(&self) {
        let keep_to_last = |name: &[u8]| name == EXIT.as_bytes();
        for last in [false, true] {
            let Ok(entries) = rustix::fs::Dir::read_from(&self.dir) else {
                return;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let is_dot = matches!(name.to_bytes(), b"." | b"..");
                if !is_dot && keep_to_last(name.to_bytes()) == last {
                    let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
                }
            }
        }
        if let Ok(path) = std::fs::read_link(wharf_sys::fd::proc_path(&self.dir)) {
            let _ = rustix::fs::rmdir(path);
        }
    }

    /// Whole or not at all: written aside, then renamed.
    fn replace(&self, name: &str, content: &[u8]) -> Result<(), Errno> {
        let aside = format!("{name}.tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, &aside, flags, Mode::from_raw_mode(0o600))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
            rest = &rest[written..];
        }
        rustix::fs::renameat(&self.dir, &aside, &self.dir, name)
    }
}
