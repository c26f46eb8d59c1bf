//! System call filters against a direct reading of their profile: an
//! interpreter of the kernel's BPF, a reader that knows neither trees nor
//! jumps, and profiles to compare them on.

use crate::random::Random;
use wharf_runtime::seccomp::{Instruction, compile};
use wharf_runtime::spec::{Seccomp, SeccompArg, SeccompRule};

/// `AUDIT_ARCH_...` and the numbers that one name has there.
pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
/// Numbers of x32 have this bit.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// Name, number of x86-64 (and, with its bit, of x32), number of i386: of
/// the kernel's tables, for calls that are the same on all three.
pub(crate) const CALLS: [(&str, u32, u32); 29] = [
    ("open", 2, 5),
    ("close", 3, 6),
    ("poll", 7, 168),
    ("brk", 12, 45),
    ("access", 21, 33),
    ("pipe", 22, 42),
    ("dup", 32, 41),
    ("getpid", 39, 20),
    ("fork", 57, 2),
    ("kill", 62, 37),
    ("uname", 63, 122),
    ("chdir", 80, 12),
    ("mkdir", 83, 39),
    ("rmdir", 84, 40),
    ("unlink", 87, 10),
    ("chmod", 90, 15),
    ("umask", 95, 60),
    ("personality", 135, 136),
    ("prctl", 157, 172),
    ("chroot", 161, 61),
    ("sync", 162, 36),
    ("mount", 165, 21),
    ("reboot", 169, 88),
    ("setns", 308, 346),
    ("getrandom", 318, 355),
    ("bpf", 321, 357),
    ("statx", 332, 383),
    ("clone3", 435, 435),
    ("openat2", 437, 437),
];

const KILL_THREAD: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const ENOSYS: u32 = 0x0005_0026;

/// Runs a filter on one call, as the kernel does.
pub(crate) fn run(code: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = [number.to_le_bytes(), arch.to_le_bytes(), [0; 4], [0; 4]].concat();
    data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
    let (mut at, mut value) = (0usize, 0u32);
    loop {
        let instruction = code[at];
        let jump = |holds: bool| usize::from(if holds { instruction.jt } else { instruction.jf });
        let k = instruction.k;
        at += 1;
        match instruction.code {
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

/// Instructions as the kernel takes them.
pub(crate) fn decode(bytes: &[u8]) -> Vec<Instruction> {
    let chunks = bytes.as_chunks::<8>().0.iter();
    chunks.map(|chunk| Instruction::from_bytes(*chunk)).collect()
}

/// A call to judge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

/// What the profile says about a call, read rule by rule: the first rule
/// without conditions, else the first whose conditions hold, else the default;
/// nothing known is newer than the profile, an unlisted architecture is fatal.
pub(crate) fn read(profile: &Seccomp, call: Call) -> u32 {
    let lists = |name: &str| profile.architectures.iter().any(|arch| arch == name);
    // As libseccomp has it: all that is not below, other bits or not.
    let is_x32 = call.arch == X86_64 && call.number >= X32_BIT;
    let known = match call.arch {
        X86_64 => !is_x32 || lists("SCMP_ARCH_X32"),
        I386 => lists("SCMP_ARCH_X86"),
        _ => false,
    };
    if !known {
        return KILL_THREAD;
    }
    let number_of = |name: &String| {
        let (_, wide, narrow) = CALLS.iter().find(|(known, ..)| known == name)?;
        Some(match call.arch {
            I386 => *narrow,
            _ => wide | if is_x32 { X32_BIT } else { 0 },
        })
    };
    let default = action(&profile.default_action, profile.default_errno_ret);
    let rules = || profile.syscalls.iter();
    let newest = rules()
        .flat_map(|rule| &rule.names)
        .filter_map(number_of)
        .max()
        .unwrap_or(0);
    if default & 0xffff_0000 == 0x0005_0000 && !profile.syscalls.is_empty() && call.number > newest {
        return ENOSYS;
    }
    let about = |rule: &&SeccompRule| {
        rule.names
            .iter()
            .filter_map(number_of)
            .any(|number| number == call.number)
            && action(&rule.action, rule.errno_ret) != default
    };
    let is_wide = call.arch == X86_64 && !is_x32;
    let plain = rules().filter(about).find(|rule| rule.args.is_empty());
    let matching = || rules().filter(about).find(|rule| holds(rule, call.args, is_wide));
    let found = plain.or_else(matching);
    found.map_or(default, |rule| action(&rule.action, rule.errno_ret))
}

/// All comparisons, or any where one argument is compared twice.
fn holds(rule: &SeccompRule, args: [u64; 6], is_wide: bool) -> bool {
    let compare = |arg: &SeccompArg| {
        let cut = |value: u64| if is_wide { value } else { value & 0xffff_ffff };
        let index = usize::try_from(arg.index).expect("an index");
        let (value, wanted) = (cut(args[index]), cut(arg.value));
        match arg.op.as_str() {
            "SCMP_CMP_EQ" => value == wanted,
            "SCMP_CMP_NE" => value != wanted,
            "SCMP_CMP_LT" => value < wanted,
            "SCMP_CMP_LE" => value <= wanted,
            "SCMP_CMP_GT" => value > wanted,
            "SCMP_CMP_GE" => value >= wanted,
            "SCMP_CMP_MASKED_EQ" => value & wanted == cut(arg.value_two) & wanted,
            other => panic!("unknown comparison {other}"),
        }
    };
    let mut indices: Vec<u32> = rule.args.iter().map(|arg| arg.index).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() == rule.args.len() {
        rule.args.iter().all(compare)
    } else {
        rule.args.iter().any(compare)
    }
}

fn action(name: &str, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1) & 0xffff;
    match name {
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL" => KILL_THREAD,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | data,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => ALLOW,
        other => panic!("unknown action {other}"),
    }
}

const ACTIONS: [&str; 7] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
];
const OPS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];

/// Values around which comparisons differ.
fn value(random: &mut Random) -> u64 {
    const EDGES: [u64; 8] = [
        0,
        1,
        5,
        0x7fff_ffff,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0005,
        u64::MAX,
    ];
    match random.below(3) {
        0 => random.number() >> random.below(64),
        _ => random.pick(&EDGES).wrapping_add(random.number() % 3).wrapping_sub(1),
    }
}

/// A sound profile of some rules about some calls.
pub(crate) fn profile(random: &mut Random) -> Seccomp {
    let errno = |name: &str, random: &mut Random| {
        let takes = matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
        (takes && random.below(2) == 0).then(|| u32::try_from(random.below(100)).unwrap_or_default())
    };
    let rules = (0..random.below(8)).map(|_| {
        let names = (0..=random.below(6))
            .map(|_| random.pick(&CALLS).0.to_owned())
            .collect();
        let args = (0..random.below(4)).map(|_| SeccompArg {
            index: u32::try_from(random.below(6)).unwrap_or_default(),
            value: value(random),
            value_two: value(random),
            op: format!("SCMP_CMP_{}", random.pick(&OPS)),
        });
        let args = args.collect();
        let action = (*random.pick(&ACTIONS)).to_owned();
        let errno_ret = errno(&action, random);
        SeccompRule {
            names,
            action,
            errno_ret,
            args,
        }
    });
    let syscalls = rules.collect();
    let default_action = (*random.pick(&ACTIONS)).to_owned();
    let others = [
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_X86_64",
    ];
    Seccomp {
        default_errno_ret: errno(&default_action, random),
        default_action,
        architectures: others
            .iter()
            .filter(|_| random.below(2) == 0)
            .map(|name| (*name).to_owned())
            .collect(),
        syscalls,
        ..Seccomp::default()
    }
}

/// A call that some rule of the profile may be about.
pub(crate) fn call(profile: &Seccomp, random: &mut Random) -> Call {
    let arch = *random.pick(&[X86_64, X86_64, X86_64, I386, 0xc000_00b7]);
    let (_, wide, narrow) = *random.pick(&CALLS);
    let bit = if arch == X86_64 && random.below(4) == 0 {
        X32_BIT
    } else {
        0
    };
    let number = match random.below(8) {
        0 => u32::try_from(random.number() >> random.below(64) & 0xffff_ffff).unwrap_or_default(),
        1 => (if arch == I386 { narrow } else { wide }).wrapping_add(1) | bit,
        _ => (if arch == I386 { narrow } else { wide }) | bit,
    };
    let mut args = [0; 6].map(|_: u64| value(random));
    // Values of the profile itself, and their neighbours.
    for arg in profile.syscalls.iter().flat_map(|rule| &rule.args) {
        if random.below(2) == 0 {
            let near = random.number() % 3;
            let wanted = if arg.op.ends_with("MASKED_EQ") {
                arg.value_two
            } else {
                arg.value
            };
            args[usize::try_from(arg.index).unwrap_or_default()] = wanted.wrapping_add(near).wrapping_sub(1);
        }
    }
    Call { arch, number, args }
}

/// Compares compiler and reader on some calls.
///
/// # Panics
/// When they differ.
pub(crate) fn compare(profile: &Seccomp, calls: usize, random: &mut Random) {
    let filter = compile(profile).expect("a sound profile");
    for _ in 0..calls {
        let call = call(profile, random);
        let (is, should) = (
            run(filter.instructions(), call.arch, call.number, call.args),
            read(profile, call),
        );
        assert_eq!(
            is, should,
            "{is:#x} instead of {should:#x} for {call:x?} by {profile:#?}"
        );
    }
}
