//! Session keyrings (keyctl(2)).

use crate::Result;
use crate::raw::syscall;
use linux_raw_sys::general::__NR_keyctl;

const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;

/// Puts the process into a new session keyring, so that it sees no key of its starter.
///
/// SECURITY: the keyring cannot be joined by name. One that can be (runc's `_ses.<id>`) is open to every process of the
/// same user and user namespace that knows or guesses the name, in another container too.
/// The kernel also looks at all keyrings before it makes one with a name, which takes longer with each container.
///
/// # Errors
/// ENOSYS or EDQUOT among others, which callers may pass over as runc does.
pub fn join_new_session() -> Result<()> {
    // SAFETY: numbers only; no name is passed.
    unsafe { syscall(__NR_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]) }.map(drop)
}
