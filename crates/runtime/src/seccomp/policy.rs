//! What a filter means: for each architecture and call number an action, or
//! checks of arguments that lead to one.

use super::{Arch, numbers::number_of};
use crate::RuntimeError;
use crate::spec::{Seccomp, SeccompArg, SeccompRule};
use std::collections::BTreeMap;

/// `SECCOMP_RET_...` (linux/seccomp.h).
pub(super) const RET_KILL_THREAD: u32 = 0;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) index: u32,
    pub(super) op: Op,
    pub(super) value: u64,
    /// Applied first; all ones but for masked comparisons.
    pub(super) mask: u64,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Op {
    /// Whether a value compares so with the one that is wanted.
    pub(super) fn holds(self, value: u64, wanted: u64) -> bool {
        match self {
            Self::Equal => value == wanted,
            Self::NotEqual => value != wanted,
            Self::Less => value < wanted,
            Self::LessOrEqual => value <= wanted,
            Self::Greater => value > wanted,
            Self::GreaterOrEqual => value >= wanted,
        }
    }
}

/// What happens to one call: the first alternative all of whose checks hold,
/// else the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Always(u32),
    Checked(Vec<(Vec<Check>, u32)>),
}

/// The filter of one architecture.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) arch: Arch,
    pub(super) calls: BTreeMap<u32, Verdict>,
    /// For every other number.
    pub(super) default: u32,
    /// For numbers above all that the rules know, if other than the default.
    pub(super) unknown: Option<(u32, u32)>,
}

/// Names of architectures, without `SCMP_ARCH_`.
#[rustfmt::skip]
pub(crate) const KNOWN_ARCHITECTURES: [&str; 24] = [
    "X86_64", "X86", "X32", "AARCH64", "ARM", "MIPS", "MIPS64", "MIPS64N32",
    "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X",
    "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB", "NATIVE",
];

fn invalid(field: &str, why: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::invalid(field, format!("{field}: {why}"))
}

/// Decides the filters of all architectures that occur beside `native`.
pub(super) fn plan_policies(seccomp: &Seccomp, native: Arch) -> Result<Vec<Policy>, RuntimeError> {
    check_notify(seccomp)?;
    let default = parse_action(
        "linux.seccomp.defaultAction",
        &seccomp.default_action,
        seccomp.default_errno_ret,
    )?;
    let rules = seccomp
        .syscalls
        .iter()
        .enumerate()
        .map(|(index, rule)| parse_rule(index, rule))
        .collect::<Result<Vec<_>, _>>()?;
    let archs = plan_archs(&seccomp.architectures, native)?;
    Ok(archs
        .into_iter()
        .map(|arch| plan_policy(arch, &rules, default))
        .collect())
}

/// Notified calls need someone who answers, and those that the hand-over of
/// the listener itself is made of cannot be notified.
pub(super) fn check_notify(seccomp: &Seccomp) -> Result<(), RuntimeError> {
    const NOTIFY: &str = "SCMP_ACT_NOTIFY";
    if seccomp.default_action == NOTIFY {
        let why = format!("{NOTIFY} cannot be used as default action");
        return Err(invalid("linux.seccomp.defaultAction", why));
    }
    let has_path = seccomp
        .listener_path
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty());
    if !has_path && seccomp.listener_metadata.as_ref().is_some_and(|text| !text.is_empty()) {
        return Err(invalid("linux.seccomp.listenerMetadata", "needs listenerPath"));
    }
    for (index, rule) in seccomp
        .syscalls
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.action == NOTIFY)
    {
        if !has_path {
            let field = format!("linux.seccomp.syscalls[{index}].action");
            return Err(invalid(&field, format!("{NOTIFY} needs linux.seccomp.listenerPath")));
        }
        if rule.names.iter().any(|name| name == "write") {
            let field = format!("linux.seccomp.syscalls[{index}].names");
            return Err(invalid(
                &field,
                format!("{NOTIFY} cannot be used for the write syscall"),
            ));
        }
    }
    Ok(())
}

fn plan_archs(names: &[String], native: Arch) -> Result<Vec<Arch>, RuntimeError> {
    let mut archs = vec![native];
    for name in names {
        let bare = name.strip_prefix("SCMP_ARCH_").unwrap_or_default();
        let arch = match bare {
            "X86_64" => Arch::X86_64,
            "X86" => Arch::I386,
            "X32" => Arch::X32,
            "AARCH64" => Arch::Aarch64,
            "ARM" => Arch::Arm,
            // Calls of these cannot be made on this machine.
            other if KNOWN_ARCHITECTURES.contains(&other) => continue,
            _ => {
                return Err(invalid(
                    "linux.seccomp.architectures",
                    format!("unknown value {name:?}"),
                ));
            }
        };
        let same_machine = matches!(native, Arch::X86_64) == matches!(arch, Arch::X86_64 | Arch::I386 | Arch::X32);
        if same_machine && !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    Ok(archs)
}

struct Rule<'a> {
    names: &'a [String],
    action: u32,
    /// Alternatives; each is a list of checks that must all hold.
    alternatives: Vec<Vec<Check>>,
}

fn parse_rule(index: usize, rule: &SeccompRule) -> Result<Rule<'_>, RuntimeError> {
    let field = format!("linux.seccomp.syscalls[{index}]");
    if rule.names.is_empty() {
        return Err(invalid(&format!("{field}.names"), "is empty"));
    }
    let action = parse_action(&format!("{field}.action"), &rule.action, rule.errno_ret)?;
    let checks = rule
        .args
        .iter()
        .map(|arg| parse_check(&field, arg))
        .collect::<Result<Vec<_>, _>>()?;
    let mut indices: Vec<u32> = checks.iter().map(|check| check.index).collect();
    indices.sort_unstable();
    indices.dedup();
    // COMPAT: with one argument compared more than once, runc takes each
    // comparison for itself.
    let alternatives = if indices.len() == checks.len() {
        vec![checks]
    } else {
        checks.into_iter().map(|check| vec![check]).collect()
    };
    Ok(Rule {
        names: &rule.names,
        action,
        alternatives,
    })
}

fn parse_check(field: &str, arg: &SeccompArg) -> Result<Check, RuntimeError> {
    if arg.index > 5 {
        return Err(invalid(
            &format!("{field}.args"),
            format!("index {} is not 0 to 5", arg.index),
        ));
    }
    let (op, value, mask) = match arg.op.as_str() {
        "SCMP_CMP_EQ" => (Op::Equal, arg.value, u64::MAX),
        "SCMP_CMP_NE" => (Op::NotEqual, arg.value, u64::MAX),
        "SCMP_CMP_LT" => (Op::Less, arg.value, u64::MAX),
        "SCMP_CMP_LE" => (Op::LessOrEqual, arg.value, u64::MAX),
        "SCMP_CMP_GT" => (Op::Greater, arg.value, u64::MAX),
        "SCMP_CMP_GE" => (Op::GreaterOrEqual, arg.value, u64::MAX),
        // COMPAT: libseccomp compares nothing outside the mask, on either side.
        "SCMP_CMP_MASKED_EQ" => (Op::Equal, arg.value_two & arg.value, arg.value),
        other => return Err(invalid(&format!("{field}.args"), format!("unknown op {other:?}"))),
    };
    Ok(Check {
        index: arg.index,
        op,
        value,
        mask,
    })
}

fn parse_action(field: &str, name: &str, errno: Option<u32>) -> Result<u32, RuntimeError> {
    let takes_errno = matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
    if let (false, Some(errno)) = (takes_errno, errno) {
        return Err(invalid(field, format!("{name} takes no errno, but {errno} is given")));
    }
    let data = errno.unwrap_or(EPERM) & 0xffff;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => RET_KILL_PROCESS,
        "SCMP_ACT_TRAP" => RET_TRAP,
        "SCMP_ACT_ERRNO" => RET_ERRNO | data,
        "SCMP_ACT_TRACE" => RET_TRACE | data,
        "SCMP_ACT_ALLOW" => RET_ALLOW,
        "SCMP_ACT_LOG" => RET_LOG,
        "SCMP_ACT_NOTIFY" => RET_USER_NOTIF,
        other => return Err(invalid(field, format!("unknown value {other:?}"))),
    })
}

fn plan_policy(arch: Arch, rules: &[Rule<'_>], default: u32) -> Policy {
    let mut calls: BTreeMap<u32, Verdict> = BTreeMap::new();
    let mut highest = 0;
    for rule in rules {
        for number in rule.names.iter().filter_map(|name| number_of(arch, name)) {
            highest = highest.max(number);
            // COMPAT: a rule that says what happens anyway is left out.
            if rule.action != default {
                add(&mut calls, number, rule);
            }
        }
    }
    // COMPAT: as runc does, calls newer than the profile do not exist, so
    // that programs fall back instead of taking "not permitted" for final.
    let is_errno = default & 0xffff_0000 == RET_ERRNO;
    let unknown = (is_errno && !rules.is_empty()).then_some((highest + 1, RET_ERRNO | ENOSYS));
    Policy {
        arch,
        calls,
        default,
        unknown: unknown.filter(|(_, action)| *action != default),
    }
}

/// A rule without checks outweighs those with; of two without, the first.
fn add(calls: &mut BTreeMap<u32, Verdict>, number: u32, rule: &Rule<'_>) {
    if rule.alternatives.iter().any(Vec::is_empty) {
        match calls.get(&number) {
            Some(Verdict::Always(_)) => {}
            _ => {
                calls.insert(number, Verdict::Always(rule.action));
            }
        }
        return;
    }
    let verdict = calls.entry(number).or_insert_with(|| Verdict::Checked(Vec::new()));
    if let Verdict::Checked(alternatives) = verdict {
        alternatives.extend(rule.alternatives.iter().map(|checks| (checks.clone(), rule.action)));
    }
}
