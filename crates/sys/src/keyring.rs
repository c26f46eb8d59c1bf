//! Session keyrings (keyctl(2)).

use crate::Result;
use crate::raw::syscall;
use linux_raw_sys::general::__NR_keyctl;
use std::ffi::CStr;

const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
const KEYCTL_SETPERM: usize = 5;
const KEYCTL_DESCRIBE: usize = 6;
/// View and search for the possessor's user.
const KEY_USR_SEARCH: u32 = 0x0008_0000;

/// Puts the process into a new session keyring of this name, searchable by
/// its user, so that it sees no key of its starter.
///
/// # Errors
/// ENOSYS or EDQUOT among others, which callers may pass over as runc does.
pub fn join_new_session(name: &CStr) -> Result<()> {
    // SAFETY: `name` is a C string that outlives the call.
    let ring = unsafe {
        syscall(
            __NR_keyctl,
            [KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0, 0],
        )?
    };
    let mut text = [0u8; 256];
    // SAFETY: `text` is writable for its length.
    let length = unsafe {
        syscall(
            __NR_keyctl,
            [KEYCTL_DESCRIBE, ring, text.as_mut_ptr() as usize, text.len(), 0, 0],
        )?
    };
    let described = String::from_utf8_lossy(&text[..length.min(text.len())]).into_owned();
    let mode = described
        .split(';')
        .nth(3)
        .and_then(|field| u32::from_str_radix(field, 16).ok())
        .unwrap_or(0);
    let mode = mode | KEY_USR_SEARCH;
    // SAFETY: numbers only.
    unsafe { syscall(__NR_keyctl, [KEYCTL_SETPERM, ring, mode as usize, 0, 0, 0]) }.map(drop)
}
