//! Compiled filters against a direct reading of their profiles, and against
//! libseccomp where its header is installed.
#![cfg(target_arch = "x86_64")]

#[path = "hostile/filter.rs"]
mod filter;
#[path = "hostile/random.rs"]
mod random;

use filter::{CALLS, Call, I386, X32_BIT, X86_64};
use random::Random;
use std::fmt::Write as _;
use std::process::Command;
use wharf_runtime::seccomp::compile;
use wharf_runtime::spec::{Seccomp, SeccompRule};

fn rounds(default: u64) -> u64 {
    let asked = std::env::var("WHARF_FUZZ_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or(default)
}

#[test]
fn filters_do_what_their_profiles_say() {
    for seed in 0..rounds(600) {
        let mut random = Random::new(seed);
        let profile = filter::profile(&mut random);
        filter::compare(&profile, 300, &mut random);
    }
}

/// libseccomp refuses or merges rules that contradict each other, so each call has one rule here; of a rule that
/// compares one argument twice every comparison stands for itself, which is not in its interface either.
fn simple_profile(random: &mut Random) -> Seccomp {
    let mut profile = filter::profile(random);
    let mut seen: Vec<String> = Vec::new();
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| {
            let is_new = !seen.contains(name);
            seen.push(name.clone());
            is_new
        });
        rule.args.sort_by_key(|arg| arg.index);
        rule.args.dedup_by_key(|arg| arg.index);
    }
    let default = (profile.default_action.clone(), profile.default_errno_ret.unwrap_or(1));
    let says_more = |rule: &SeccompRule| {
        let own = (rule.action.clone(), rule.errno_ret.unwrap_or(1));
        !rule.names.is_empty()
            && (own.0 != default.0 || (own.0.ends_with("ERRNO") || own.0.ends_with("TRACE")) && own.1 != default.1)
    };
    profile.syscalls.retain(says_more);
    profile.architectures = vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()];
    profile
}

/// The profile in the form that the C program reads: `default ACTION`, then
/// per rule and call `rule ACTION NUMBER COUNT (index op value mask)...`.
fn lines(profile: &Seccomp) -> String {
    let action = |name: &str, errno: Option<u32>| {
        let name = name.trim_start_matches("SCMP_ACT_");
        format!("{name} {}", errno.unwrap_or(1))
    };
    let mut text = format!(
        "default {}\n",
        action(&profile.default_action, profile.default_errno_ret)
    );
    for rule in &profile.syscalls {
        for name in &rule.names {
            let _ = write!(
                text,
                "rule {} {name} {}",
                action(&rule.action, rule.errno_ret),
                rule.args.len()
            );
            for arg in &rule.args {
                let op = arg.op.trim_start_matches("SCMP_CMP_");
                let _ = write!(text, " {} {op} {} {}", arg.index, arg.value, arg.value_two);
            }
            text.push('\n');
        }
    }
    text
}

#[test]
fn filters_answer_as_libseccomp_s_do() {
    let place = tempfile::tempdir().expect("a directory");
    let program = place.path().join("oracle");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/libseccomp.c");
    let built = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(&program)
        .args([source, "-lseccomp"])
        .output();
    if !built.as_ref().is_ok_and(|built| built.status.success()) {
        println!("skipped: filters_answer_as_libseccomp_s_do: no C compiler, or libseccomp-dev is not installed");
        return;
    }
    for seed in 0..rounds(60) {
        let mut random = Random::new(seed + 1_000_000);
        let profile = simple_profile(&mut random);
        std::fs::write(place.path().join("profile"), lines(&profile)).expect("write");
        let answer = Command::new(&program)
            .arg(place.path().join("profile"))
            .output()
            .expect("the oracle runs");
        assert!(
            answer.status.success(),
            "{}{}",
            String::from_utf8_lossy(&answer.stderr),
            lines(&profile)
        );
        let theirs = filter::decode(&answer.stdout);
        let ours = compile(&profile).expect("a sound profile");
        for _ in 0..300 {
            let call = filter::call(&profile, &mut random);
            if !is_comparable(&profile, call) {
                continue;
            }
            let (is, should) = (
                filter::run(ours.instructions(), call.arch, call.number, call.args),
                filter::run(&theirs, call.arch, call.number, call.args),
            );
            assert_eq!(
                is,
                should,
                "{is:#x}, libseccomp {should:#x}: {call:x?} seed {seed} {}",
                lines(&profile)
            );
        }
    }
}

/// What runc adds to libseccomp, and we too, is left out: calls newer than
/// the profile.
fn is_comparable(profile: &Seccomp, call: Call) -> bool {
    let named = |name: &String| CALLS.iter().find(|(known, ..)| known == name);
    let newest = profile.syscalls.iter().flat_map(|rule| &rule.names).filter_map(named);
    let newest = newest
        .map(|(_, wide, narrow)| if call.arch == I386 { *narrow } else { *wide })
        .max();
    let number = if call.arch == X86_64 {
        call.number & !X32_BIT
    } else {
        call.number
    };
    newest.is_some_and(|newest| number <= newest)
}
