//! Starting a program from a process with a large heap or many threads:
//! the child shares the caller's memory until it executes (as vfork), so
//! nothing is copied, and only plain system calls run in between.
//!
//! A process that holds thousands of descriptors calls [`lower`] first thing:
//! its children are then made without copies of them, each of which would have
//! to be closed again one by one.

mod low;

pub use low::lower;

use crate::fd::set_cloexec_from;
use crate::handle::{has_pidfds, open_directory};
use crate::process::pointers;
use crate::raw::{decode, fd_arg, syscall};
use crate::signal::{SignalSet, reset_handlers, set_mask};
use crate::{Errno, Result};
use linux_raw_sys::general::{
    __NR_clone, __NR_clone3, __NR_close_range, __NR_dup3, __NR_execve, __NR_execveat, __NR_fchdir, __NR_fcntl,
    __NR_setsid, __NR_unshare, AT_EMPTY_PATH, CLONE_CLEAR_SIGHAND, CLONE_FILES, CLONE_INTO_CGROUP, CLONE_PIDFD,
    CLONE_VFORK, CLONE_VM, clone_args,
};
use rustix::process::Pid;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which file is executed.
#[derive(Debug)]
pub enum Program<'a> {
    /// This path (no search).
    Path(CString),
    /// What this descriptor refers to.
    Fd(BorrowedFd<'a>),
}

/// A program to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Which file.
    pub program: Program<'a>,
    /// `argv`, with the program's name first.
    pub args: Vec<CString>,
    /// Environment, `NAME=value`.
    pub env: Vec<CString>,
    /// Which descriptors the program finds at which number; all others are
    /// closed, standard streams not listed here included.
    pub fds: Vec<(BorrowedFd<'a>, RawFd)>,
    /// Working directory.
    pub directory: Option<BorrowedFd<'a>>,
    /// Leave the caller's session and terminal.
    pub new_session: bool,
    /// Directory of a cgroup v2 to start in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A started program; the caller reaps it.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub pid: Pid,
    /// Its handle (see [`crate::handle`]), close-on-exec.
    pub pidfd: OwnedFd,
}

/// What the child needs, all of it allocated before.
struct Plan {
    program: Target,
    args: Vec<usize>,
    env: Vec<usize>,
    /// Source, scratch and final number.
    fds: Vec<(RawFd, RawFd, RawFd)>,
    /// First number above all final ones.
    above: RawFd,
    directory: Option<RawFd>,
    new_session: bool,
    handlers: Handlers,
    /// A cgroup v2 that the child has yet to enter.
    cgroup: Option<RawFd>,
    /// The child shares the caller's table until it takes what is below this number into one of its own.
    /// `None`: it has a copy of all from the start.
    keep_below: Option<RawFd>,
    failure: isize,
}

/// What the child finds of the caller's signal handlers.
#[derive(PartialEq, Eq)]
enum Handlers {
    Cleared,
    Copied,
}

#[derive(Clone, Copy)]
enum Target {
    Path(usize),
    Fd(RawFd),
}

impl Plan {
    /// The flag that has the child share the caller's table of descriptors at first.
    fn sharing(&self) -> u32 {
        self.keep_below.map_or(0, |_| CLONE_FILES)
    }
}

const STACK_BYTES: usize = 64 * 1024;

impl Spawn<'_> {
    /// Starts the program. Returns when it was executed.
    ///
    /// KERNEL(5.5): clone3 with `CLONE_CLEAR_SIGHAND`; before, clone(2), and
    /// the child resets the handlers by itself.
    ///
    /// # Errors
    /// As clone3(2), unshare(2), dup3(2) and execve(2); no child is left then.
    pub fn spawn(&self) -> Result<Spawned> {
        let low = low::Block::take(self);
        let mut plan = match &low {
            Some(block) => block.plan(self),
            None => self.plan(),
        };
        let mut stack = vec![0u64; STACK_BYTES / 8];
        let mut pidfd: RawFd = -1;
        // ORDER: no handler of ours may run in the child, which shares memory.
        let mask = set_mask(SignalSet::all())?;
        let pid = match self.clone_newest(&mut stack, &mut pidfd, &mut plan) {
            // EINVAL and E2BIG: a clone3 that knows less.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG) => {
                self.clone_classic(&mut stack, &mut pidfd, &mut plan)
            }
            other => other,
        };
        set_mask(mask)?;
        let pid = i32::try_from(pid?).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
        let pidfd = match pidfd {
            0.. => {
                // SAFETY: the kernel stored the new descriptor, which is ours alone.
                unsafe { OwnedFd::from_raw_fd(pidfd) }
            }
            // KERNEL(5.3): no pidfds; the child is not reaped yet.
            _ => open_directory(pid)?,
        };
        // SAFETY: the child wrote it, if at all, before it went away.
        let failure = unsafe { std::ptr::read_volatile(&raw const plan.failure) };
        if let Err(error) = decode(failure) {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            return Err(error);
        }
        Ok(Spawned { pid, pidfd })
    }

    fn plan(&self) -> Plan {
        let above = self.fds.iter().map(|(_, target)| target + 1).max().unwrap_or(0).max(3);
        Plan {
            program: match &self.program {
                Program::Path(path) => Target::Path(path.as_ptr() as usize),
                Program::Fd(fd) => Target::Fd(fd.as_raw_fd()),
            },
            args: pointers(&self.args),
            env: pointers(&self.env),
            fds: self
                .fds
                .iter()
                .map(|(source, target)| (source.as_raw_fd(), -1, *target))
                .collect(),
            above,
            directory: self.directory.map(|fd| fd.as_raw_fd()),
            new_session: self.new_session,
            handlers: Handlers::Cleared,
            cgroup: None,
            keep_below: None,
            failure: 0,
        }
    }

    fn clone_newest(&self, stack: &mut [u64], pidfd: &mut RawFd, plan: &mut Plan) -> Result<usize> {
        let mut args = self.clone_args(stack, pidfd);
        args.flags |= u64::from(plan.sharing());
        let numbers = [std::ptr::from_mut(&mut args) as usize, size_of::<clone_args>(), 0];
        clone_with_stack(__NR_clone3, numbers, plan)
    }

    fn clone_classic(&self, stack: &mut [u64], pidfd: &mut RawFd, plan: &mut Plan) -> Result<usize> {
        const SIGCHLD: u32 = 17;
        plan.handlers = Handlers::Copied;
        plan.cgroup = self.cgroup.map(|fd| fd.as_raw_fd());
        if plan.cgroup.is_some() {
            // None of the low ones: the other way.
            *plan = Plan {
                handlers: Handlers::Copied,
                cgroup: plan.cgroup,
                ..self.plan()
            };
        }
        let mut flags = CLONE_VM | CLONE_VFORK | SIGCHLD | plan.sharing();
        if has_pidfds() {
            flags |= CLONE_PIDFD;
        }
        // clone(2) takes the stack's end, and the pidfd's place for parent_tid.
        let end = (stack.as_mut_ptr_range().end as usize) & !15;
        clone_with_stack(
            __NR_clone,
            [flags as usize, end, std::ptr::from_mut(pidfd) as usize],
            plan,
        )
    }

    fn clone_args(&self, stack: &mut [u64], pidfd: &mut RawFd) -> clone_args {
        let mut flags = u64::from(CLONE_VM | CLONE_VFORK | CLONE_PIDFD) | CLONE_CLEAR_SIGHAND;
        let mut cgroup = 0;
        if let Some(fd) = self.cgroup {
            flags |= CLONE_INTO_CGROUP;
            cgroup = fd_arg(fd.as_raw_fd()) as u64;
        }
        // The stack starts at a multiple of 16, as both calling conventions ask.
        let start = (stack.as_mut_ptr() as u64).next_multiple_of(16);
        clone_args {
            flags,
            pidfd: std::ptr::from_mut(pidfd) as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: 17,
            stack: start,
            stack_size: (STACK_BYTES - 16) as u64,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup,
        }
    }
}

/// clone3 or clone whose child runs [`child_main`] on its own stack.
fn clone_with_stack(number: u32, args: [usize; 3], plan: &mut Plan) -> Result<usize> {
    let ret: isize;
    // SAFETY: the caller is suspended (CLONE_VFORK) until the child executes
    // or exits, so `plan` and the stack outlive it; the child enters
    // `child_main`, which never returns, on a stack of its own.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number as isize => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") 0usize, in("r8") 0usize,
            in("r12") std::ptr::from_mut(plan),
            in("r13") child_main as extern "C" fn(*mut Plan) -> !,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") number as usize,
            inlateout("x0") args[0] as isize => ret,
            in("x1") args[1], in("x2") args[2], in("x3") 0usize, in("x4") 0usize,
            in("x20") std::ptr::from_mut(plan),
            in("x21") child_main as extern "C" fn(*mut Plan) -> !,
        );
    }
    decode(ret)
}

/// Runs in the child, in the caller's memory: system calls only.
extern "C" fn child_main(plan: *mut Plan) -> ! {
    // SAFETY: the pointer is to the suspended caller's live plan.
    let plan = unsafe { &mut *plan };
    let error = prepare_and_execute(plan)
        .err()
        .map_or(-22, |errno| -(errno.raw_os_error() as isize));
    plan.failure = error;
    crate::clone::exit(127)
}

fn prepare_and_execute(plan: &mut Plan) -> Result<()> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    let call = |number: u32, args: [usize; 6]| {
        // SAFETY: only numbers and pointers of the plan, all of them live;
        // the table of descriptors is the child's own copy.
        unsafe { syscall(number, args) }
    };
    if let Some(first) = plan.keep_below {
        // ORDER: before anything else is done to the table, which is still the caller's.
        leave_shared_table(first)?;
    }
    if let Some(cgroup) = plan.cgroup {
        // SAFETY: the caller's descriptor, of which this process has a copy.
        crate::clone::enter_cgroup(unsafe { BorrowedFd::borrow_raw(cgroup) })?;
    }
    // ORDER: all sources go above the final numbers first, so that placing
    // one cannot overwrite the source of another.
    for (source, scratch, _) in &mut plan.fds {
        let copy = call(
            __NR_fcntl,
            [fd_arg(*source), F_DUPFD_CLOEXEC, fd_arg(plan.above), 0, 0, 0],
        )?;
        *scratch = i32::try_from(copy).map_err(|_| Errno::BADF)?;
    }
    let program = match plan.program {
        Target::Path(path) => Target::Path(path),
        Target::Fd(fd) => {
            let copy = call(__NR_fcntl, [fd_arg(fd), F_DUPFD_CLOEXEC, fd_arg(plan.above), 0, 0, 0])?;
            Target::Fd(i32::try_from(copy).map_err(|_| Errno::BADF)?)
        }
    };
    if let Some(directory) = plan.directory {
        call(__NR_fchdir, [fd_arg(directory), 0, 0, 0, 0, 0])?;
    }
    close_unplaced();
    for (_, scratch, target) in &plan.fds {
        call(__NR_dup3, [fd_arg(*scratch), fd_arg(*target), 0, 0, 0, 0])?;
    }
    if plan.new_session {
        call(__NR_setsid, [0; 6])?;
    }
    if plan.handlers == Handlers::Copied {
        reset_handlers();
    }
    set_mask(SignalSet::empty())?;
    let (args, env) = (plan.args.as_ptr() as usize, plan.env.as_ptr() as usize);
    match program {
        Target::Path(path) => call(__NR_execve, [path, args, env, 0, 0, 0])?,
        Target::Fd(fd) => call(
            __NR_execveat,
            [fd_arg(fd), c"".as_ptr() as usize, args, env, AT_EMPTY_PATH as usize, 0],
        )?,
    };
    Ok(())
}

/// Gives the child a table of its own, with what is below `first` only where the kernel can do that in one step.
///
/// KERNEL(5.9): `close_range`; before, all is copied.
fn leave_shared_table(first: RawFd) -> Result<()> {
    const CLOSE_RANGE_UNSHARE: usize = 2;
    let range = [fd_arg(first), u32::MAX as usize, CLOSE_RANGE_UNSHARE, 0, 0, 0];
    // SAFETY: closes nothing in the caller's table: the numbers go in the copy that this call makes.
    match unsafe { syscall(__NR_close_range, range) } {
        Ok(_) => Ok(()),
        // SAFETY: a copy of the table, for this process.
        Err(_) => unsafe { syscall(__NR_unshare, [CLONE_FILES as usize, 0, 0, 0, 0, 0]).map(drop) },
    }
}

/// Marks everything close-on-exec; the placed descriptors come after.
fn close_unplaced() {
    // Without close_range(2) and without /proc, close-on-exec at opening is
    // all there is.
    let _ = set_cloexec_from(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitOptions, waitpid};
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    fn shell<'a>(script: &str, fds: Vec<(BorrowedFd<'a>, RawFd)>) -> Spawn<'a> {
        let text = |s: &str| CString::new(s).expect("no NUL");
        Spawn {
            program: Program::Path(c"/bin/sh".to_owned()),
            args: vec![text("sh"), text("-c"), text(script)],
            env: vec![text("WHO=child")],
            fds,
            directory: None,
            new_session: true,
            cgroup: None,
        }
    }

    #[test]
    fn descriptors_land_at_their_numbers_and_no_other_is_inherited() {
        let (a_read, a_write) = std::io::pipe().expect("pipe");
        let (b_read, b_write) = std::io::pipe().expect("pipe");
        // Swapped on purpose: each one's number is the other's place.
        let fds = vec![
            (a_write.as_fd(), b_write.as_raw_fd()),
            (b_write.as_fd(), a_write.as_raw_fd()),
        ];
        // By path: not every shell takes a number of two digits behind `>&`.
        let script = format!(
            "echo $WHO >/proc/self/fd/{}; ls /proc/self/fd | tr '\\n' ' ' >/proc/self/fd/{}",
            b_write.as_raw_fd(),
            a_write.as_raw_fd()
        );
        let spawned = shell(&script, fds).spawn().expect("spawn");
        let expected = [a_write.as_raw_fd(), b_write.as_raw_fd()];
        drop((a_write, b_write));
        let read = |mut from: std::io::PipeReader| {
            let mut text = String::new();
            from.read_to_string(&mut text).expect("read");
            text
        };
        assert_eq!(read(a_read), "child\n");
        let listed = read(b_read);
        for number in listed.split_whitespace().filter_map(|n| n.parse::<i32>().ok()) {
            // 0 is the directory `ls` reads; 1 its redirected output.
            assert!(number <= 3 || expected.contains(&number), "{listed}");
        }
        let (_, status) = waitpid(Some(spawned.pid), WaitOptions::empty())
            .expect("wait")
            .expect("ended");
        assert!(status.exited());
    }

    #[test]
    fn with_low_places_a_child_gets_a_small_table_and_no_copy_stays_behind() {
        // Another test may hold all low numbers for a moment.
        let end = Instant::now() + Duration::from_secs(60);
        while !low::is_lowered() && Instant::now() < end {
            lower().expect("low descriptors");
            std::thread::sleep(Duration::from_millis(5));
        }
        let held: Vec<OwnedFd> = (0..300)
            .map(|_| rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0).expect("dup"))
            .collect();
        let root = std::fs::File::open("/").expect("root");
        // Another test may have the places at the moment.
        let small = (0..50).any(|_| {
            let (mut read, write) = std::io::pipe().expect("pipe");
            let script = "echo $WHO; pwd; grep FDSize /proc/$$/status; ls /proc/$$/fd";
            let spawned = {
                let mut spawn = shell(script, vec![(root.as_fd(), 0), (write.as_fd(), 1), (root.as_fd(), 2)]);
                spawn.directory = Some(root.as_fd());
                spawn.spawn().expect("spawn")
            };
            drop(write);
            let mut text = String::new();
            // Ends only when no copy of the pipe's other end is left here.
            read.read_to_string(&mut text).expect("read");
            waitpid(Some(spawned.pid), WaitOptions::empty()).expect("wait");
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(words[..3], ["child", "/", "FDSize:"], "{text}");
            let number = |word: &&str| word.parse::<usize>().expect("a number");
            // 10 and 255 are where shells keep what they read.
            assert!(
                words[4..].iter().map(number).all(|n| matches!(n, 0..3 | 10 | 255)),
                "{text}"
            );
            number(&words[3]) < 300
        });
        // KERNEL(5.9)
        assert!(small || !has_close_range(), "all descriptors were copied");
        assert!(
            held.iter().all(|fd| rustix::io::fcntl_getfd(fd).is_ok()),
            "the caller's are untouched"
        );
    }

    fn has_close_range() -> bool {
        let none = [u32::MAX as usize, u32::MAX as usize, 0, 0, 0, 0];
        // SAFETY: no descriptor has this number.
        unsafe { syscall(__NR_close_range, none) }.is_ok()
    }

    #[test]
    fn a_missing_program_is_an_error_and_leaves_no_child() {
        let mut spawn = shell("", Vec::new());
        spawn.program = Program::Path(c"/does/not/exist".to_owned());
        assert_eq!(spawn.spawn().map(|_| ()), Err(Errno::NOENT));
    }
}
