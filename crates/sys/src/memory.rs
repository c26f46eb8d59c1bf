//! Giving memory back to the kernel.

/// Returns what the allocator holds but nobody uses. Does nothing where the C library has no such
/// call (musl gives back by itself).
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(keep: usize) -> i32;
        }
        // SAFETY: the call takes a number and touches only memory that is free.
        unsafe { malloc_trim(0) };
    }
}
