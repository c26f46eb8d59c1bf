//! Giving memory back to the kernel.

use crate::raw::syscall;

/// Returns what the allocator holds but nobody uses. Does nothing where the C library has no such
/// call (musl gives back by itself).
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the declaration is that of malloc.h.
        unsafe extern "C" {
            fn malloc_trim(keep: usize) -> i32;
        }
        // SAFETY: the call takes a number and touches only memory that is free.
        unsafe { malloc_trim(0) };
    }
}

/// Has the allocator keep at most `arenas` separate stores of memory, from now on. Each of them keeps what its threads
/// freed to itself; glibc makes up to eight per processor, and a process with many short-lived threads that serve
/// few processors gains nothing by them. Does nothing where the C library has no such call.
pub fn limit_arenas(arenas: usize) {
    #[cfg(target_env = "gnu")]
    {
        const M_ARENA_MAX: i32 = -8;
        // SAFETY: the declaration is that of malloc.h.
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: the call takes numbers; a value it does not know changes nothing.
        unsafe { mallopt(M_ARENA_MAX, i32::try_from(arenas).unwrap_or(i32::MAX)) };
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}

/// Lets go of the program's own code and constants, which the kernel maps
/// again from its cache, page by page, when they are used. Worth it for a
/// process that did much once and then does little for long.
pub fn forget_program() {
    const DONTNEED: usize = 4;
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (start, length) in unwritten_file_mappings(&smaps) {
        // SAFETY: the mapping is a file's, is not writable and holds no page
        // of its own, so that what is dropped comes back the same from the file.
        let _ = unsafe { syscall(linux_raw_sys::general::__NR_madvise, [start, length, DONTNEED, 0, 0, 0]) };
    }
}

/// Start and length of the file mappings that cannot be written and have
/// never been (relocation writes to some before they become read-only).
fn unwritten_file_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else {
            continue;
        };
        if let Some(range) = parse_range(first) {
            let is_file = words.nth(2).is_some_and(|inode| inode != "0");
            let is_read_only =
                second.is_some_and(|permissions| permissions.starts_with("r-") && permissions.ends_with('p'));
            candidate = (is_file && is_read_only).then_some(range);
        } else if first == "Anonymous:" && second == Some("0") {
            found.extend(candidate.take());
        }
    }
    found
}

fn parse_range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unwritten_pages_of_files_are_let_go() {
        let smaps = "\
00400000-00500000 r-xp 00001000 fd:00 77 /bin/x
Rss:                 900 kB
Anonymous:             0 kB
00600000-00601000 r--p 00001000 fd:00 77 /bin/x
Anonymous:             4 kB
00700000-00701000 rw-p 00001000 fd:00 77 /bin/x
Anonymous:             0 kB
7ff0000-7ff1000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        assert_eq!(unwritten_file_mappings(smaps), [(0x40_0000, 0x10_0000)]);
    }

    #[test]
    fn a_program_goes_on_after_forgetting_itself() {
        limit_arenas(2);
        forget_program();
        trim();
        assert_eq!("still here".len(), 10);
    }
}
