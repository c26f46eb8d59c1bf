//! Configurations as an attacker or a broken engine would write them: an
//! error that names the field, never a panic, bounded memory.
//!
//! `WHARF_FUZZ_ROUNDS` asks for more rounds than the few that fit a test run.

#[path = "hostile/mod.rs"]
mod hostile;
#[path = "hostile/random.rs"]
mod random;

use hostile::{at, hostile_value, mangle, places, rich_config, verdict};
use random::Random;
use serde_json::{Value, json};

/// The test program itself with all its threads; a configuration of a
/// megabyte is the largest it is given.
const MAX_MEMORY_KB: u64 = 300 * 1024;

fn rounds(default: u64) -> u64 {
    let asked = std::env::var("WHARF_FUZZ_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or(default)
}

fn largest_size_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a size")
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("text")
}

#[test]
fn the_sound_configuration_is_sound() {
    assert_eq!(verdict(&text(&rich_config())), None);
}

/// Every field with every type that it does not have: where that is an
/// error, the error says which field.
#[test]
fn a_value_of_the_wrong_type_is_an_error_that_names_its_field() {
    let mut sound = rich_config();
    // These are wrong too when it is the namespaces that change.
    for name in ["hostname", "domainname"] {
        sound.as_object_mut().expect("an object").remove(name);
    }
    let wrong = [
        json!(true),
        json!(-1),
        json!(1.5),
        json!("x"),
        json!([]),
        json!({}),
        json!([[["x"]]]),
    ];
    let mut refused = 0;
    for place in places(&sound) {
        for value in &wrong {
            let mut config = sound.clone();
            *at(&mut config, &place) = value.clone();
            let Some(message) = verdict(&text(&config)) else {
                continue;
            };
            refused += 1;
            assert!(!message.is_empty() && !message.contains('\n'), "{place:?}: {message:?}");
            // The field itself, or for an item of a list that list.
            let name = place.iter().rev().find(|part| part.parse::<usize>().is_err());
            // An id map may be wrong because of the other one, a device because of its sibling: then that is named.
            let parent = place.iter().rev().filter(|part| part.parse::<usize>().is_err()).nth(1);
            let is_named = name.is_some_and(|name| message.contains(name.as_str()))
                || parent.is_some_and(|parent| message.contains(parent.as_str()));
            assert!(is_named, "{} = {value}: {message}", place.join("."));
        }
    }
    assert!(refused > 400, "only {refused} wrong values were refused");
}

#[test]
fn mutated_configurations_never_panic_and_stay_small() {
    let sound = rich_config();
    let all = places(&sound);
    for seed in 0..rounds(1500) {
        let mut random = Random::new(seed);
        let mut config = sound.clone();
        for _ in 0..=random.below(3) {
            let place = random.pick(&all).clone();
            // An earlier change may have taken it away.
            if config.pointer(&format!("/{}", place.join("/"))).is_some() {
                *at(&mut config, &place) = hostile_value(&mut random);
            }
        }
        let message = verdict(&text(&config));
        assert_ne!(message.as_deref(), Some(""), "seed {seed}");
    }
    assert!(largest_size_kb() < MAX_MEMORY_KB, "{} kB", largest_size_kb());
}

#[test]
fn texts_that_are_no_json_never_panic_and_stay_small() {
    let sound = text(&rich_config());
    for seed in 0..rounds(1500) {
        let mut bytes = sound.clone();
        mangle(&mut bytes, &mut Random::new(seed));
        let message = verdict(&bytes);
        assert_ne!(message.as_deref(), Some(""), "seed {seed}");
    }
    assert!(largest_size_kb() < MAX_MEMORY_KB, "{} kB", largest_size_kb());
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |levels: usize| format!("{{\"ociVersion\":\"1.0.0\",\"mounts\":{}", "[".repeat(levels));
    let message = verdict(nested(1_000_000).as_bytes()).expect("an error");
    assert!(message.contains("mounts"), "{message}");
    // What nobody asked for may be as deep as it likes.
    let ignored = format!(
        "{{\"ociVersion\":\"1.0.0\",\"x\":{}{}}}",
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    assert_eq!(verdict(ignored.as_bytes()), None);
    let place = tempfile::tempdir().expect("a directory");
    let file = std::fs::File::create(place.path().join("config.json")).expect("a file");
    file.set_len(wharf_runtime::spec::MAX_BYTES + 1).expect("a large file");
    let error = wharf_runtime::spec::load(place.path())
        .expect_err("an error")
        .to_string();
    assert!(error.contains("larger than"), "{error}");
    std::fs::remove_file(place.path().join("config.json")).expect("remove");
    std::os::unix::fs::symlink("/dev/zero", place.path().join("config.json")).expect("link");
    let error = wharf_runtime::spec::load(place.path())
        .expect_err("an error")
        .to_string();
    assert!(error.contains("larger than"), "{error}");
    assert!(largest_size_kb() < MAX_MEMORY_KB, "{} kB", largest_size_kb());
}

/// Kept configurations are read again by every later command.
#[test]
fn what_is_written_of_a_configuration_is_read_again() {
    let sound = rich_config();
    let all = places(&sound);
    let path = std::path::Path::new("config.json");
    for seed in 0..rounds(300) {
        let mut random = Random::new(seed);
        let mut config = sound.clone();
        let place = random.pick(&all).clone();
        *at(&mut config, &place) = hostile_value(&mut random);
        let Ok(spec) = wharf_runtime::spec::parse(path, &text(&config)) else {
            continue;
        };
        let kept = serde_json::to_vec(&spec).expect("written");
        assert_eq!(
            wharf_runtime::spec::parse(path, &kept).expect("read again"),
            spec,
            "seed {seed}"
        );
    }
}

#[test]
fn profiles_in_docker_s_format_never_panic() {
    let sound = text(
        &json!({"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"], "minKernel": "4.8", "arches": ["amd64"]}}]}),
    );
    for seed in 0..rounds(1000) {
        let mut bytes = sound.clone();
        mangle(&mut bytes, &mut Random::new(seed));
        let resolved = wharf_runtime::seccomp::resolve_profile(&String::from_utf8_lossy(&bytes), &[]);
        match resolved {
            Ok(Some(profile)) => drop(wharf_runtime::seccomp::compile(&profile)),
            Ok(None) => {}
            Err(error) => assert!(!error.message().is_empty()),
        }
    }
    assert!(largest_size_kb() < MAX_MEMORY_KB, "{} kB", largest_size_kb());
}
