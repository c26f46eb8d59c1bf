//! The command line as a program of its own: what the shim binary is when it
//! is called `wharf-runtime`. The integration tests drive this one.

fn main() {
    std::process::exit(wharf_runtime::cli::main_cli(std::env::args_os().collect()));
}
