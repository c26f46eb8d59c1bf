//! The compiler against a small interpreter of the kernel's BPF.

use super::*;
use crate::spec::{SeccompArg, SeccompRule};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// Runs a filter on one call, as the kernel does; also checks that every
/// jump stays inside.
fn run(code: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend([0; 8]);
    for arg in args {
        data.extend(arg.to_le_bytes());
    }
    let (mut at, mut value) = (0usize, 0u32);
    loop {
        let Instruction { code: op, jt, jf, k } = code[at];
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        match op {
            0x20 => {
                let offset = usize::try_from(k).expect("an offset");
                value = u32::from_le_bytes(data[offset..offset + 4].try_into().expect("four bytes"));
            }
            0x54 => value &= k,
            0x05 => at += usize::try_from(k).expect("a distance"),
            0x15 => at += jump(value == k),
            0x25 => at += jump(value > k),
            0x35 => at += jump(value >= k),
            0x06 => return k,
            other => panic!("unknown operation {other:#x}"),
        }
    }
}

fn rule(names: &[&str], action: &str, args: Vec<SeccompArg>) -> SeccompRule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    SeccompRule {
        names,
        action: action.into(),
        errno_ret: None,
        args,
    }
}

fn filter(default: &str, syscalls: Vec<SeccompRule>) -> Seccomp {
    Seccomp {
        default_action: default.into(),
        syscalls,
        ..Seccomp::default()
    }
}

fn arg(index: u32, op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    }
}

#[cfg(target_arch = "x86_64")]
mod on_x86_64 {
    use super::*;

    fn answer(code: &Filter, number: u32, first: u64) -> u32 {
        run(&code.0, X86_64, number, [first, 0, 0, 0, 0, 0])
    }

    #[test]
    fn the_default_profile_allows_and_denies_what_dockers_does() {
        let code = compile(&default_profile(&[])).expect("compiles");
        let check = |number, first, expected| assert_eq!(answer(&code, number, first), expected, "{number} {first}");
        check(0, 0, ALLOW); // read
        check(59, 0, ALLOW); // execve
        check(165, 0, EPERM); // mount
        check(272, 0, EPERM); // unshare
        check(101, 0, ALLOW); // ptrace
        check(250, 0, EPERM); // keyctl
        check(41, 2, ALLOW); // socket, inet
        check(41, 40, EPERM); // socket, vsock
        check(41, 38, EPERM); // socket, alg
        check(41, 16, ALLOW); // socket, netlink
        check(41, 1 << 32, EPERM); // socket, beyond 32 bits
        check(135, 0xffff_ffff, ALLOW); // personality, the question
        check(135, 4, EPERM);
        check(56, 0x11, ALLOW); // clone
        check(56, 0x1000_0000, EPERM); // clone, user namespace
        check(435, 0, ENOSYS); // clone3
        check(161, 0, EPERM); // chroot
        check(9999, 0, ENOSYS); // newer than the profile
        check(0x4000_0000, 0, ALLOW); // read of x32
        check(0x4000_0000 + 165, 0, EPERM); // mount of x32
    }

    #[test]
    fn capabilities_open_what_belongs_to_them() {
        let caps = ["CAP_SYS_ADMIN".to_owned(), "CAP_SYS_CHROOT".to_owned()];
        let code = compile(&default_profile(&caps)).expect("compiles");
        for number in [165, 272, 56, 435, 161] {
            assert_eq!(answer(&code, number, 0x7e02_0000), ALLOW, "{number}");
        }
    }

    #[test]
    fn other_architectures_have_their_own_numbers() {
        let code = compile(&default_profile(&[])).expect("compiles");
        let check = |number, expected| assert_eq!(run(&code.0, I386, number, [0; 6]), expected, "{number}");
        check(3, ALLOW); // read
        check(21, EPERM); // mount
        check(102, ALLOW); // socketcall
        assert_eq!(
            run(&code.0, 0xc000_00b7, 0, [0; 6]),
            0,
            "an architecture that is not listed"
        );
    }

    #[test]
    fn an_unlisted_x32_is_refused() {
        let mut profile = default_profile(&[]);
        profile.architectures = vec!["SCMP_ARCH_X86_64".into()];
        let code = compile(&profile).expect("compiles");
        assert_eq!(answer(&code, 0x4000_0000, 0), 0);
        assert_eq!(run(&code.0, I386, 3, [0; 6]), 0);
    }

    #[test]
    fn every_comparison_sees_all_64_bits() {
        let big = 0x1_0000_0005u64;
        let values = [0, 4, 5, 6, big - 1, big, big + 1, 5 << 32, u64::MAX];
        let check = |op: &str, expected: fn(u64, u64) -> bool| {
            for wanted in [5, big] {
                let rules = vec![rule(&["mkdir"], "SCMP_ACT_ALLOW", vec![arg(1, op, wanted, 0)])];
                let code = compile(&filter("SCMP_ACT_ERRNO", rules)).expect("compiles");
                for value in values {
                    let answer = run(&code.0, X86_64, 83, [0, value, 0, 0, 0, 0]);
                    assert_eq!(answer == ALLOW, expected(value, wanted), "{value:#x} {op} {wanted:#x}");
                }
            }
        };
        check("EQ", |value, wanted| value == wanted);
        check("NE", |value, wanted| value != wanted);
        check("LT", |value, wanted| value < wanted);
        check("LE", |value, wanted| value <= wanted);
        check("GT", |value, wanted| value > wanted);
        check("GE", |value, wanted| value >= wanted);
    }

    #[test]
    fn masks_are_applied_before_the_comparison() {
        let mask = 0xff00_0000_0000_00f0;
        let rules = vec![rule(
            &["mkdir"],
            "SCMP_ACT_ALLOW",
            vec![arg(0, "MASKED_EQ", mask, 0x1200_0000_0000_0030)],
        )];
        let code = compile(&filter("SCMP_ACT_ERRNO", rules)).expect("compiles");
        assert_eq!(answer(&code, 83, 0x12ab_cdef_0000_0f3f), ALLOW);
        assert_eq!(answer(&code, 83, 0x13ab_cdef_0000_0f3f), EPERM);
        assert_eq!(answer(&code, 83, 0x12ab_cdef_0000_0f4f), EPERM);
    }

    #[test]
    fn arguments_of_one_rule_must_all_hold_and_rules_are_alternatives() {
        let rules = vec![
            rule(
                &["mkdir"],
                "SCMP_ACT_ALLOW",
                vec![arg(0, "EQ", 1, 0), arg(1, "EQ", 2, 0)],
            ),
            rule(&["mkdir"], "SCMP_ACT_LOG", vec![arg(0, "EQ", 7, 0)]),
        ];
        let code = compile(&filter("SCMP_ACT_ERRNO", rules)).expect("compiles");
        let check = |a, b, expected| assert_eq!(run(&code.0, X86_64, 83, [a, b, 0, 0, 0, 0]), expected, "{a} {b}");
        check(1, 2, ALLOW);
        check(1, 3, EPERM);
        check(7, 3, 0x7ffc_0000);
    }

    #[test]
    fn a_rule_without_arguments_outweighs_those_with() {
        let conditional = rule(&["mkdir"], "SCMP_ACT_LOG", vec![arg(0, "EQ", 1, 0)]);
        let plain = rule(&["mkdir"], "SCMP_ACT_ALLOW", Vec::new());
        for rules in [vec![conditional.clone(), plain.clone()], vec![plain, conditional]] {
            let code = compile(&filter("SCMP_ACT_ERRNO", rules)).expect("compiles");
            assert_eq!(answer(&code, 83, 1), ALLOW);
        }
    }

    /// What the rules of a call say, without any compilation.
    fn plainly(policy: &policy::Policy, number: u32, args: [u64; 6]) -> u32 {
        let half = |value: u64| {
            if policy.arch.is_wide() {
                value
            } else {
                value & 0xffff_ffff
            }
        };
        match policy.calls.get(&number) {
            None => match policy.unknown {
                Some((first, action)) if number >= first => action,
                _ => policy.default,
            },
            Some(policy::Verdict::Always(action)) => *action,
            Some(policy::Verdict::Checked(alternatives)) => {
                let holds = |check: &policy::Check| {
                    let value = half(args[check.index as usize]) & half(check.mask);
                    check.op.holds(value, half(check.value))
                };
                let first = alternatives.iter().find(|(checks, _)| checks.iter().all(holds));
                first.map_or(policy.default, |(_, action)| *action)
            }
        }
    }

    /// Every number with arguments around everything that is compared with, by each architecture.
    fn agrees(profile: &Seccomp) {
        let code = compile(profile).expect("compiles");
        let policies = policy::plan_policies(profile, Arch::X86_64).expect("sound");
        let of = |arch: Arch| policies.iter().find(|policy| policy.arch == arch).expect("a policy");
        let mut values = vec![0, 1, 1 << 32, 1 << 63, u64::MAX];
        for arg in profile.syscalls.iter().flat_map(|rule| &rule.args) {
            let near = [arg.value.wrapping_sub(1), arg.value, arg.value.wrapping_add(1)];
            values.extend(near);
            values.extend(near.map(|value| value ^ (1 << 32)));
            values.push(arg.value_two);
        }
        for number in (0..600).chain([0x3fff_ffff, u32::MAX >> 2]) {
            for (arch, bit) in [(Arch::X86_64, 0), (Arch::I386, 0), (Arch::X32, 0x4000_0000)] {
                for value in &values {
                    let args = [*value, !*value, 7, *value, 0, 0];
                    let expected = plainly(of(arch), number | bit, args);
                    let answer = run(&code.0, arch.audit(), number | bit, args);
                    assert_eq!(answer, expected, "{arch:?} {number} {value:#x}");
                }
            }
        }
    }

    #[test]
    fn filters_answer_as_the_rules_say() {
        agrees(&default_profile(&[]));
        agrees(&default_profile(&["CAP_SYS_ADMIN".to_owned()]));
        let all = ["EQ", "NE", "LT", "LE", "GT", "GE"];
        let wanted = [0, 1, 5, 0xffff_ffff, 1 << 32, u64::MAX];
        for (n, first) in all.iter().enumerate() {
            let mut syscalls = Vec::new();
            for (m, second) in all.iter().enumerate() {
                // Several alternatives about one argument, about two, and of two checks each.
                let (a, b) = (wanted[m], wanted[(n + m) % 6]);
                syscalls.push(rule(&["mkdir"], "SCMP_ACT_LOG", vec![arg(0, first, a, 0)]));
                syscalls.push(rule(&["mkdir"], "SCMP_ACT_ALLOW", vec![arg(0, second, b, 0)]));
                syscalls.push(rule(&["rmdir"], "SCMP_ACT_LOG", vec![arg(0, first, a & 0xff, 0)]));
                syscalls.push(rule(&["rmdir"], "SCMP_ACT_ALLOW", vec![arg(0, second, b & 0xff, 0)]));
                syscalls.push(rule(&["read"], "SCMP_ACT_LOG", vec![arg(0, first, a, 0)]));
                syscalls.push(rule(&["read"], "SCMP_ACT_ALLOW", vec![arg(1, second, b, 0)]));
                let both = vec![arg(0, first, a, 0), arg(3, second, b, 0)];
                syscalls.push(rule(&["write"], "SCMP_ACT_ALLOW", both));
                let mask = vec![arg(1, "MASKED_EQ", 0xf0 << (8 * m), 0x30 << (8 * m))];
                syscalls.push(rule(&["close"], "SCMP_ACT_ALLOW", mask));
            }
            agrees(&Seccomp {
                architectures: default_profile(&[]).architectures,
                ..filter("SCMP_ACT_ERRNO", syscalls)
            });
        }
    }

    /// Jumps of a conditional reach 255 instructions.
    #[test]
    fn what_is_too_far_for_a_jump_is_reached_all_the_same() {
        let names: Vec<&str> = default_profile(&[])
            .syscalls
            .first()
            .map(|rule| rule.names.iter().map(|name| &*name.clone().leak()).collect())
            .expect("many names");
        let syscalls = names.iter().enumerate().map(|(n, name)| SeccompRule {
            errno_ret: u32::try_from(n % 200).ok(),
            ..rule(
                &[*name],
                "SCMP_ACT_ERRNO",
                vec![arg(0, "GT", n as u64, 0), arg(1, "NE", 3, 0)],
            )
        });
        let profile = Seccomp {
            architectures: vec![
                "SCMP_ARCH_X86_64".into(),
                "SCMP_ARCH_X86".into(),
                "SCMP_ARCH_X32".into(),
            ],
            ..filter("SCMP_ACT_ALLOW", syscalls.take(110).collect())
        };
        assert!(compile(&profile).expect("compiles").0.len() > 1000);
        agrees(&profile);
    }

    /// Every number, one by one, against the rules themselves.
    #[test]
    fn the_tree_agrees_with_the_rules_for_every_number() {
        let denied = ["mkdir", "rmdir", "unlink", "mount", "reboot", "getpid", "read"];
        let code = compile(&filter(
            "SCMP_ACT_ALLOW",
            vec![rule(&denied, "SCMP_ACT_ERRNO", Vec::new())],
        ));
        let code = code.expect("compiles");
        let numbers: Vec<u32> = denied
            .iter()
            .filter_map(|name| numbers::number_of(Arch::X86_64, name))
            .collect();
        for number in 0..2000 {
            let expected = if numbers.contains(&number) { EPERM } else { ALLOW };
            assert_eq!(answer(&code, number, 0), expected, "{number}");
        }
    }
}

#[test]
fn wrong_values_name_their_field() {
    let check = |seccomp: &Seccomp, expected: &str| {
        assert_eq!(
            compile(seccomp).map(|_| ()).map_err(|e| e.message()),
            Err(expected.to_owned())
        );
    };
    check(
        &filter("SCMP_ACT_X", vec![]),
        "linux.seccomp.defaultAction: unknown value \"SCMP_ACT_X\"",
    );
    let mut bad = filter("SCMP_ACT_ALLOW", vec![rule(&["read"], "SCMP_ACT_KILL", vec![])]);
    bad.syscalls[0].errno_ret = Some(3);
    check(
        &bad,
        "linux.seccomp.syscalls[0].action: SCMP_ACT_KILL takes no errno, but 3 is given",
    );
    check(
        &filter(
            "SCMP_ACT_ALLOW",
            vec![rule(&["read"], "SCMP_ACT_KILL", vec![arg(6, "EQ", 0, 0)])],
        ),
        "linux.seccomp.syscalls[0].args: index 6 is not 0 to 5",
    );
    let mut bad = filter("SCMP_ACT_ALLOW", vec![]);
    bad.architectures = vec!["SCMP_ARCH_Z80".into()];
    check(&bad, "linux.seccomp.architectures: unknown value \"SCMP_ARCH_Z80\"");
}

#[test]
fn unknown_calls_are_skipped() {
    let code = compile(&filter(
        "SCMP_ACT_ALLOW",
        vec![rule(&["no_such_call"], "SCMP_ACT_KILL", vec![])],
    ));
    assert!(code.is_ok());
}

#[test]
fn profiles_in_dockers_format_follow_capabilities() {
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64",
        "subArchitectures":["SCMP_ARCH_X86"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}],
        "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_CHOWN"]}},
        {"name":"rmdir","action":"SCMP_ACT_ERRNO","includes":{"caps":["CAP_CHOWN"],"minKernel":"4.8"}},
        {"names":["read"],"action":"SCMP_ACT_ERRNO","includes":{"arches":["s390"]}}]}"#;
    let names = |caps: &[String]| {
        let profile = resolve_profile(text, caps).expect("valid").expect("a filter");
        profile
            .syscalls
            .iter()
            .flat_map(|rule| rule.names.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["mkdir"]);
    assert_eq!(names(&["CAP_CHOWN".to_owned()]), ["rmdir"]);
    assert_eq!(resolve_profile("{}", &[]), Ok(None));
    assert!(resolve_profile("[", &[]).is_err());
}

#[test]
fn the_default_profile_is_small_enough_to_load_fast() {
    let code = compile(&default_profile(&[])).expect("compiles");
    assert!(code.0.len() < 400, "{} instructions", code.0.len());
}
