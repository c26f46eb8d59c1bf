//! Pseudo terminals.

use crate::Result;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize};
use std::os::fd::{AsFd, OwnedFd};

/// Both sides of a pseudo terminal.
#[derive(Debug)]
pub struct Pty {
    /// The side of whoever reads and types.
    pub master: OwnedFd,
    /// The side of the program.
    pub slave: OwnedFd,
    /// Path of the program's side, `/dev/pts/N`.
    pub name: String,
}

/// Opens a new pseudo terminal of the devpts whose `ptmx` is at `ptmx`.
///
/// # Errors
/// As open(2) and the ioctls of ptmx.
pub fn open(ptmx: &std::ffi::CStr) -> Result<Pty> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    from_master(rustix::fs::open(ptmx, flags, Mode::empty())?)
}

/// Unlocks the pseudo terminal of an opened `ptmx` and opens its other side.
///
/// # Errors
/// As the ioctls of ptmx.
pub fn from_master(master: OwnedFd) -> Result<Pty> {
    unlockpt(&master)?;
    // KERNEL(4.13): by descriptor, so that no path of the container is trusted.
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?
        .to_string_lossy()
        .into_owned();
    Ok(Pty { master, slave, name })
}

/// Sets the size of a terminal in characters.
///
/// # Errors
/// ENOTTY when it is none.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// Passes line ends on as they are written, instead of with a return added.
///
/// # Errors
/// ENOTTY when it is none.
pub fn keep_line_ends(terminal: impl AsFd) -> Result<()> {
    let mut settings = rustix::termios::tcgetattr(&terminal)?;
    settings.output_modes -= OutputModes::ONLCR;
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &settings)
}

/// Makes `terminal` the controlling terminal of the calling session leader.
///
/// # Errors
/// As TIOCSCTTY.
pub fn make_controlling(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal)
}
