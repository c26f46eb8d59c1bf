//! Chooses the entry that protects the binary before it starts (wharf_sys::entry), where there is one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo:rustc-link-arg-bin=wharf-shim=-Wl,-e,wharf_start");
    }
}
