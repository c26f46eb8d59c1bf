//! Loading and attaching eBPF programs: what a cgroup v2 device filter needs.

use crate::raw::syscall;
use crate::{Errno, Result};
use linux_raw_sys::general::__NR_bpf;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: usize = 5;
const BPF_PROG_ATTACH: usize = 8;
const BPF_PROG_DETACH: usize = 9;
const BPF_PROG_QUERY: usize = 16;
const BPF_PROG_GET_FD_BY_ID: usize = 13;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `union bpf_attr` as far as `BPF_PROG_LOAD` of old kernels reads it.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    /// Would be padding, which the kernel wants to be zero.
    reserved: u32,
}

fn bpf<T>(command: usize, attr: &mut T) -> Result<usize> {
    // SAFETY: every attribute struct of this module is repr(C), fully
    // initialised and passed with its own size; the pointers in it come from
    // live borrows of the calling function.
    unsafe {
        syscall(
            __NR_bpf,
            [command, std::ptr::from_mut(attr) as usize, size_of::<T>(), 0, 0, 0],
        )
    }
}

fn raw_fd(fd: BorrowedFd<'_>) -> u32 {
    #[expect(clippy::cast_sign_loss, reason = "descriptors are not negative")]
    let raw = fd.as_raw_fd() as u32;
    raw
}

fn owned(fd: usize) -> Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a device filter (instructions as the kernel's 8-byte words).
///
/// # Errors
/// When the kernel refuses the program or has no such program type.
pub fn load_device_filter(instructions: &[u64]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..LoadAttr::default()
    };
    owned(bpf(BPF_PROG_LOAD, &mut attr)?)
}

/// Attaches a device filter to a cgroup v2 directory, beside others.
///
/// # Errors
/// When the kernel refuses.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: raw_fd(cgroup),
        attach_bpf_fd: raw_fd(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// Detaches a device filter from a cgroup v2 directory.
///
/// # Errors
/// When it is not attached there.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: raw_fd(cgroup),
        attach_bpf_fd: raw_fd(program),
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// The device filters attached to a cgroup v2 directory.
///
/// # Errors
/// When the kernel refuses.
pub fn attached_device_filters(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target_fd: raw_fd(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        ..QueryAttr::default()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.prog_cnt).unwrap_or(0).min(ids.len());
    ids[..count]
        .iter()
        .map(|id| {
            let mut attr = [*id, 0, 0];
            owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)?)
        })
        .collect()
}
