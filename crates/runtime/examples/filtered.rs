//! Runs a program under a seccomp filter, so that tests can take system calls
//! away from the runtime as an old kernel or a strict host would.
//!
//! Its first argument is `linux.seccomp` as JSON, the others are the program.

use std::error::Error;
use std::os::unix::process::CommandExt;
use wharf_runtime::seccomp::compile;
use wharf_runtime::spec::Seccomp;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seccomp: Seccomp = serde_json::from_str(&arguments.next().ok_or("the filter is missing")?)?;
    let program = arguments.next().ok_or("the program is missing")?;
    wharf_sys::seccomp::load(compile(&seccomp)?.instructions(), 0)?;
    Err(std::process::Command::new(program).args(arguments).exec().into())
}
