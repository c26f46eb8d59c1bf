//! How the program is linked: with packed relocations, where this machine's C library loads such a program.
//!
//! With `WHARF_LINK=portable` it is linked for older ones, too (RHEL 9, Ubuntu 22.04): for packages.
//!
//! The engine's tables are 32,000 places that hold an address, which the loader has to write before the command line
//! does anything. Packed they take 9 kB instead of 770, and a command starts 0.3 ms earlier.
//!
//! The unwinder is linked statically for the same reason: as a library it has to be found, mapped and relocated, and asks
//! the processor for its abilities, which a hypervisor answers slowly (0.1 ms together).
use std::path::Path;
use std::process::Command;

/// The first version of glibc that loads them.
const LOADS_PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WHARF_LINK");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_gnu = variable("CARGO_CFG_TARGET_ENV") == "gnu" && variable("CARGO_CFG_TARGET_ARCH") == "x86_64";
    let is_for_this_machine = variable("TARGET") == variable("HOST");
    let is_portable = variable("WHARF_LINK") == "portable";
    if is_gnu && is_for_this_machine && !is_portable && glibc().is_some_and(|version| version >= LOADS_PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        if let Some(directory) = unwinder() {
            println!("cargo::rustc-link-search=native={directory}");
            println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
        }
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

/// The version of this machine's C library, as in `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
