//! Any bytes as `config.json`: no panic, and an error that says something.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let path = std::path::Path::new("config.json");
    match wharf_runtime::spec::parse(path, text) {
        Ok(spec) => {
            if let Err(error) = wharf_runtime::check::check(path, &spec) {
                assert!(!error.message().is_empty());
            }
            // What is kept of a configuration is read again by later commands.
            let kept = serde_json::to_vec(&spec).expect("a configuration can be written");
            assert_eq!(wharf_runtime::spec::parse(path, &kept).expect("and read"), spec);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
