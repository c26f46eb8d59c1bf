//! The program's very first instructions: the protection of the running
//! binary (see [`crate::process::protect_program`]), before anything else has
//! been set up that executing again would throw away.
//!
//! ```text
//! kernel -> wharf_start -> early: a runtime command on a writable mount?
//!             |              yes: execveat(read-only view of ourselves), same arguments
//!             v              no, or refused: return
//!           _start -> C library -> Rust's start-up -> main
//! ```
//!
//! The C library's start-up asks the processor for its features, which a
//! virtual machine answers by leaving the guest: a third of a millisecond
//! that the first of two executions need not pay. Nothing depends on this
//! step: what it leaves undone [`crate::process::reexecute_protected`] does.
//!
//! A binary chooses it by its linker argument `-e wharf_start`.
#![cfg(target_arch = "x86_64")]

use linux_raw_sys::general::{
    __NR_close, __NR_execveat, __NR_mount_setattr, __NR_open, __NR_open_tree, __NR_statfs, AT_EMPTY_PATH,
    MOUNT_ATTR_RDONLY, O_CLOEXEC, O_PATH, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE, mount_attr, statfs,
};
use std::mem::MaybeUninit;

std::arch::global_asm!(
    ".globl wharf_start",
    ".type wharf_start, @function",
    "wharf_start:",
    // The kernel's stack and the pointer in rdx belong to the C library; both
    // registers survive a call.
    "mov r12, rsp",
    "mov r13, rdx",
    "mov rdi, rsp",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {early}",
    "mov rsp, r12",
    "mov rdx, r13",
    "jmp _start",
    early = sym early,
);

/// `ST_RDONLY` (statfs(2)).
const RDONLY: i64 = 1;

/// Commands that put a copy of this process into a container.
const COMMANDS: [&[u8]; 3] = [b"create", b"run", b"exec"];

/// Executes the program again from a read-only view of its file where that
/// is called for. Returns otherwise.
///
/// SECURITY: CVE-2019-5736, see [`crate::process::protect_program`].
///
/// ORDER: the C library is not set up yet: no thread-local variable, no
/// allocation, no call that could be one of `memcpy` and its kin, whose
/// implementation is not chosen yet. Hence the volatile reads.
///
/// # Safety
/// `stack` is what the kernel left at the process's entry: the number of
/// arguments, the arguments, a null, the environment, a null.
unsafe extern "C" fn early(stack: *const usize) {
    // SAFETY: the layout is the caller's promise.
    unsafe {
        let count = stack.read();
        let args = stack.add(1);
        let env = args.add(count + 1);
        if is_runtime_command(args, count) {
            execute_view(args, env);
        }
    }
}

/// Whether this is `wharf-runtime ... create|run|exec ...`.
///
/// # Safety
/// `args` are `count` pointers to texts that end with a null byte.
unsafe fn is_runtime_command(args: *const usize, count: usize) -> bool {
    // SAFETY: every read is of one of `count` arguments.
    unsafe {
        let arg = |index: usize| args.add(index).read() as *const u8;
        if count < 2 {
            return false;
        }
        let is_runtime = ends_with_name(arg(0), b"wharf-runtime") || equals(arg(1), b"runtime");
        let mut index = 1;
        while is_runtime && index < count {
            let mut which = 0;
            while which < COMMANDS.len() {
                if equals(arg(index), COMMANDS[which]) {
                    return true;
                }
                which += 1;
            }
            index += 1;
        }
        false
    }
}

/// # Safety
/// `text` ends with a null byte.
unsafe fn equals(text: *const u8, wanted: &[u8]) -> bool {
    // SAFETY: reading stops at the first difference, so at the null at the latest.
    unsafe {
        let mut index = 0;
        while index < wanted.len() {
            if text.add(index).read_volatile() != wanted[index] {
                return false;
            }
            index += 1;
        }
        text.add(index).read_volatile() == 0
    }
}

/// Whether the last component of a path is `name`.
///
/// # Safety
/// `path` ends with a null byte.
unsafe fn ends_with_name(path: *const u8, name: &[u8]) -> bool {
    // SAFETY: `last` never passes the null.
    unsafe {
        let (mut index, mut last) = (0, 0);
        loop {
            match path.add(index).read_volatile() {
                0 => return equals(path.add(last), name),
                b'/' => last = index + 1,
                _ => {}
            }
            index += 1;
        }
    }
}

/// Executes our own file from a mount of it that is read-only and attached
/// nowhere. Returns if it already runs from a read-only mount, or if any
/// step is refused.
///
/// # Safety
/// `args` and `env` are arrays as execve(2) takes them.
unsafe fn execute_view(args: *const usize, env: *const usize) {
    let own = c"/proc/self/exe".as_ptr() as usize;
    let empty = c"".as_ptr() as usize;
    let mut stat = MaybeUninit::<statfs>::uninit();
    let read_only = mount_attr {
        attr_set: u64::from(MOUNT_ATTR_RDONLY),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: all pointers are to memory of this frame, to constants, or the caller's arrays; the
    // kernel writes to `stat` only, which is read only when it was filled.
    unsafe {
        let asked = call(__NR_statfs, [own, stat.as_mut_ptr() as usize, 0, 0, 0]);
        if asked != 0 || (*stat.as_ptr()).f_flags & RDONLY != 0 {
            return;
        }
        let file = call(__NR_open, [own, (O_PATH | O_CLOEXEC) as usize, 0, 0, 0]);
        let flags = (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH) as usize;
        let view = call(__NR_open_tree, [file.cast_unsigned(), empty, flags, 0, 0]);
        let change = std::ptr::from_ref(&read_only) as usize;
        let at = AT_EMPTY_PATH as usize;
        let (view_fd, file_fd) = (view.cast_unsigned(), file.cast_unsigned());
        if view >= 0
            && call(
                __NR_mount_setattr,
                [view_fd, empty, at, change, size_of::<mount_attr>()],
            ) == 0
        {
            call(__NR_execveat, [view_fd, empty, args as usize, env as usize, at]);
        }
        // What was not opened is an error number, which nobody has open.
        call(__NR_close, [view_fd, 0, 0, 0, 0]);
        call(__NR_close, [file_fd, 0, 0, 0, 0]);
    }
}

/// The system call instruction; [`crate::raw`]'s is not certain to be inlined.
///
/// # Safety
/// As the call's.
#[inline(always)]
unsafe fn call(number: u32, [a, b, c, d, e]: [usize; 5]) -> isize {
    let answer: isize;
    // SAFETY: the caller vouches for the arguments; the clobbers are those of the kernel.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&std::ffi::CStr], expected: bool) {
        let pointers: Vec<usize> = args.iter().map(|arg| arg.as_ptr() as usize).chain([0]).collect();
        // SAFETY: as many pointers to texts as announced.
        assert_eq!(
            unsafe { is_runtime_command(pointers.as_ptr(), args.len()) },
            expected,
            "{args:?}"
        );
    }

    #[test]
    fn only_commands_that_enter_a_container_are_executed_again() {
        check(&[c"/usr/bin/wharf-runtime", c"--root", c"/x", c"run", c"id"], true);
        check(&[c"wharf-runtime", c"create"], true);
        check(&[c"wharf-shim", c"runtime", c"exec", c"id"], true);
        check(&[c"wharf-runtime", c"state", c"id"], false);
        check(&[c"wharf-runtime", c"runx"], false);
        check(&[c"wharf-shim", c"keep", c"run"], false);
        check(&[c"/wharf-runtime/other", c"run"], false);
        check(&[c"wharf-runtime"], false);
        check(&[], false);
    }
}
