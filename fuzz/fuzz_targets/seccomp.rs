//! Sound filters, made from the input: the compiled program answers as a
//! direct reading of the profile does. And any bytes as `linux.seccomp`: no
//! panic in the compiler.
#![no_main]

#[path = "../../crates/runtime/tests/hostile/filter.rs"]
#[allow(dead_code)]
mod filter;
#[path = "../../crates/runtime/tests/hostile/random.rs"]
#[allow(dead_code)]
mod random;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(profile) = serde_json::from_slice(input) {
        let _ = wharf_runtime::seccomp::compile(&profile);
        return;
    }
    let seed = input.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut random = random::Random::new(seed);
    let profile = filter::profile(&mut random);
    filter::compare(&profile, 50, &mut random);
});
