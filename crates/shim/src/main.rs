//! The `wharf-shim` binary: one program, several roles.

fn main() {
    std::process::exit(64);
}
