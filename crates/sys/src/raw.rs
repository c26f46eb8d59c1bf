//! The system call instruction.

use rustix::io::Errno;

/// A system call with up to six arguments.
///
/// # Safety
/// The arguments must be valid for the call: pointers point to memory of the
/// size and mutability the kernel expects, and the call's effect on this
/// process keeps Rust's guarantees.
#[inline]
pub(crate) unsafe fn syscall(number: u32, args: [usize; 6]) -> Result<usize, Errno> {
    let ret: isize;
    // SAFETY: the caller vouches for number and arguments; the clobbers are
    // those of the kernel's calling convention.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number as usize,
            inlateout("x0") args[0] => ret,
            in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack),
        );
    }
    decode(ret)
}

/// Splits the kernel's answer into value and errno.
pub(crate) fn decode(ret: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&ret) {
        #[expect(clippy::cast_possible_truncation, reason = "between 1 and 4095")]
        let errno = -ret as i32;
        return Err(Errno::from_raw_os_error(errno));
    }
    #[expect(clippy::cast_sign_loss, reason = "bits of the register")]
    let value = ret as usize;
    Ok(value)
}

/// A descriptor as a system call argument.
pub(crate) fn fd_arg(fd: i32) -> usize {
    #[expect(clippy::cast_sign_loss, reason = "sign extension is what the kernel expects")]
    let arg = fd as isize as usize;
    arg
}
