//! The keeper's role alone, as the shim binary has it: what this crate's tests
//! start where an engine would start the shim.

use std::process::ExitCode;

fn main() -> ExitCode {
    wharf_shim::keeper::main(std::env::args_os().skip(2))
}
