//! The runc-compatible command line, as a library function.

/// Runs the command line of the current process and returns its exit code.
#[must_use]
pub fn main_cli(args: Vec<std::ffi::OsString>) -> i32 {
    let _ = args;
    1
}
