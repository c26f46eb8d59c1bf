//! Loading system call filters, and answering the calls that they notify.

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result};
use linux_raw_sys::general::{__NR_ioctl, __NR_seccomp};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// One instruction of classic BPF (linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Distance of the jump when true.
    pub jt: u8,
    /// Distance of the jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// The eight bytes of the instruction.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let (code, k) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [code[0], code[1], self.jt, self.jf, k[0], k[1], k[2], k[3]]
    }

    /// The instruction in eight bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, jt, jf, c, d, e, f] = bytes;
        Self {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes([c, d, e, f]),
        }
    }
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

const SET_MODE_FILTER: usize = 1;
const GET_ACTION_AVAIL: usize = 2;

/// Filter all threads.
pub const FLAG_TSYNC: u32 = 1;
/// Log all actions but allow.
pub const FLAG_LOG: u32 = 2;
/// Do not switch off speculation.
pub const FLAG_SPEC_ALLOW: u32 = 4;
/// Return a listener.
pub const FLAG_NEW_LISTENER: u32 = 8;
/// Notified calls are interrupted by fatal signals only. KERNEL(5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 32;

/// Puts the filter in force for the calling thread and its children. With
/// [`FLAG_NEW_LISTENER`] the listener is returned.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN and no_new_privs; EINVAL for a bad program.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let descriptor = Program {
        length,
        filter: program.as_ptr(),
    };
    let args = [
        SET_MODE_FILTER,
        flags as usize,
        std::ptr::from_ref(&descriptor) as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the descriptor points to `length` live instructions, which the
    // kernel copies and checks.
    let value = unsafe { syscall(__NR_seccomp, args)? };
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(value).map_err(|_| Errno::BADF)?;
    // SAFETY: with this flag the value is a new descriptor, ours alone.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether the kernel knows this action (`SECCOMP_RET_...`).
#[must_use]
pub fn is_action_available(action: u32) -> bool {
    // SAFETY: the kernel reads the number behind the pointer.
    unsafe {
        syscall(
            __NR_seccomp,
            [GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action) as usize, 0, 0, 0],
        )
    }
    .is_ok()
}

/// A notified call that waits for its answer (seccomp_unotify(2)).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notification {
    /// Names the call in the answer.
    pub id: u64,
    /// The calling thread, as the receiver sees it.
    pub pid: u32,
    flags: u32,
    /// Number of the call.
    pub number: i32,
    /// `AUDIT_ARCH_...`.
    pub arch: u32,
    /// Address after the call.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What becomes of a notified call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is made after all. KERNEL(5.5).
    Continue,
    /// It returns this.
    Value(i64),
    /// It fails with this errno.
    Fail(Errno),
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `SECCOMP_IOWR(0, struct seccomp_notif)`.
const NOTIF_RECV: usize = 0xc050_2100;
/// `SECCOMP_IOWR(1, struct seccomp_notif_resp)`.
const NOTIF_SEND: usize = 0xc018_2101;
const RESPONSE_CONTINUE: u32 = 1;

/// Waits for the next notified call.
///
/// # Errors
/// ENOENT when the caller has just been killed; as ioctl(2).
pub fn receive_notification(listener: impl AsFd) -> Result<Notification> {
    const { assert!(size_of::<Notification>() == 80) };
    let mut notification = Notification::default();
    let pointer = std::ptr::from_mut(&mut notification) as usize;
    let args = [fd_arg(listener.as_fd().as_raw_fd()), NOTIF_RECV, pointer, 0, 0, 0];
    // SAFETY: the kernel writes one zeroed `struct seccomp_notif`, which `Notification` is laid out as.
    unsafe { syscall(__NR_ioctl, args)? };
    Ok(notification)
}

/// Answers a notified call.
///
/// # Errors
/// ENOENT when its caller is gone; as ioctl(2).
pub fn answer_notification(listener: impl AsFd, id: u64, answer: Answer) -> Result<()> {
    let (value, error, flags) = match answer {
        Answer::Continue => (0, 0, RESPONSE_CONTINUE),
        Answer::Value(value) => (value, 0, 0),
        Answer::Fail(errno) => (0, -errno.raw_os_error(), 0),
    };
    let response = Response {
        id,
        value,
        error,
        flags,
    };
    let pointer = std::ptr::from_ref(&response) as usize;
    let args = [fd_arg(listener.as_fd().as_raw_fd()), NOTIF_SEND, pointer, 0, 0, 0];
    // SAFETY: the kernel reads one `struct seccomp_notif_resp`, which `Response` is laid out as.
    unsafe { syscall(__NR_ioctl, args) }.map(drop)
}
