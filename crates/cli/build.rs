//! How the program is linked on x86_64: at a fixed address (docs/adr/0011). With `WHARF_LINK=portable` as the compiler does
//! by itself: position independent, and with the unwinder as a library, for systems whose C library is older than 2.35.
//!
//! The engine's tables are 32,000 places that hold an address. In a position-independent program the loader writes them
//! before the command line does anything, which costs each command 130 pages of its own and 0.3 ms.
//!
//! The unwinder is linked statically for the same reason: as a library it has to be found, mapped and relocated, and asks
//! the processor for its abilities, which a hypervisor answers slowly (0.1 ms together).
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WHARF_LINK");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_gnu = variable("CARGO_CFG_TARGET_ENV") == "gnu" && variable("CARGO_CFG_TARGET_ARCH") == "x86_64";
    match variable("WHARF_LINK").as_str() {
        "" if is_gnu && variable("TARGET") == variable("HOST") => {}
        "" | "portable" => return,
        other => panic!("WHARF_LINK is {other:?}; it may be \"portable\""),
    }
    println!("cargo::rustc-link-arg-bins=-no-pie");
    if let Some(directory) = unwinder() {
        println!("cargo::rustc-link-search=native={directory}");
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Where the compiler keeps its unwinder as an archive.
fn unwinder() -> Option<String> {
    let told = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let path = String::from_utf8(told.stdout).ok()?;
    let directory = Path::new(path.trim())
        .parent()
        .filter(|directory| directory.is_absolute())?;
    directory.to_str().map(str::to_owned)
}
