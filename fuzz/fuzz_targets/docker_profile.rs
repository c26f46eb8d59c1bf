//! Any text as a profile in Docker's format.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let capabilities = ["CAP_SYS_ADMIN".to_owned()];
    if let Ok(Some(profile)) = wharf_runtime::seccomp::resolve_profile(text, &capabilities) {
        let _ = wharf_runtime::seccomp::compile(&profile);
    }
});
