//! Device rules: the lines of v1 and the eBPF program of v2.

use crate::resources::{DeviceAccess, DeviceKind, DeviceRule};

/// File and line for one rule on v1.
pub(crate) fn v1_line(rule: &DeviceRule) -> (&'static str, String) {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let kind = match rule.kind {
        DeviceKind::All => "a",
        DeviceKind::Char => "c",
        DeviceKind::Block => "b",
    };
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    (
        file,
        format!("{kind} {}:{} {}", number(rule.major), number(rule.minor), rule.access),
    )
}

const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;
const CONTEXT: u8 = 1;
const RESULT: u8 = 0;

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const AND_NUMBER: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// The rules as a program of type BPF_PROG_TYPE_CGROUP_DEVICE.
///
/// The last rule that matches decides, so they are tested from the end; without a match access is
/// allowed, as in a new v1 group. A rule that allows must cover all that is asked for; a rule that
/// denies needs to touch it only.
pub(crate) fn v2_program(rules: &[DeviceRule]) -> Vec<u64> {
    let mut program = vec![
        encode(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        encode(MOVE_REGISTER, ACCESS, TYPE, 0, 0),
        encode(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        encode(AND_NUMBER, TYPE, 0, 0, 0xffff),
        encode(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        encode(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(v2_rule(rule));
        if is_everything(rule) {
            return program;
        }
    }
    program.extend([encode(MOVE_NUMBER, RESULT, 0, 0, 1), encode(EXIT, 0, 0, 0, 0)]);
    program
}

/// Whether nothing gets past the rule.
fn is_everything(rule: &DeviceRule) -> bool {
    rule.kind == DeviceKind::All && rule.access == DeviceAccess::ALL && rule.major.is_none() && rule.minor.is_none()
}

/// Tests, each jumping past the end of the rule, then the verdict.
fn v2_rule(rule: &DeviceRule) -> Vec<u64> {
    let mut tests: Vec<(u8, u8, i32)> = Vec::new();
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Char => tests.push((JUMP_UNLESS_EQUAL, TYPE, CHAR)),
        DeviceKind::Block => tests.push((JUMP_UNLESS_EQUAL, TYPE, BLOCK)),
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        tests.extend(number.map(|number| (JUMP_UNLESS_EQUAL, register, number.cast_signed())));
    }
    let mask = access_bits(rule.access);
    let access = (rule.access != DeviceAccess::ALL).then(|| {
        let (mask, jump) = if rule.allow {
            (!mask, JUMP_UNLESS_EQUAL)
        } else {
            (mask, JUMP_IF_EQUAL)
        };
        [
            encode(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0),
            encode(AND_NUMBER, SCRATCH, 0, 0, mask),
            encode(jump, SCRATCH, 0, 2, 0),
        ]
    });
    let access: &[u64] = access.as_ref().map_or(&[], |tests| tests);
    let total = tests.len() + access.len() + 2;
    let mut program = Vec::with_capacity(total);
    for (index, (jump, register, number)) in tests.into_iter().enumerate() {
        let past_the_end = i16::try_from(total - index - 1).expect("invariant: a rule has at most eight instructions");
        program.push(encode(jump, register, 0, past_the_end, number));
    }
    program.extend_from_slice(access);
    program.push(encode(MOVE_NUMBER, RESULT, 0, 0, i32::from(rule.allow)));
    program.push(encode(EXIT, 0, 0, 0, 0));
    program
}

fn access_bits(access: DeviceAccess) -> i32 {
    [(access.mknod, MKNOD), (access.read, READ), (access.write, WRITE)]
        .into_iter()
        .filter_map(|(set, bit)| set.then_some(bit))
        .sum()
}

/// One instruction, laid out as `struct bpf_insn` on a little-endian machine.
fn encode(code: u8, dst: u8, src: u8, offset: i16, number: i32) -> u64 {
    let registers = dst | (src << 4);
    u64::from(code)
        | (u64::from(registers) << 8)
        | (u64::from(offset.cast_unsigned()) << 16)
        | (u64::from(number.cast_unsigned()) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tiny interpreter of the instructions used above.
    fn run(program: &[u64], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let context = [kind | (access << 16), major, minor];
        let mut registers = [0i64; 11];
        let mut at = 0usize;
        loop {
            let word = program[at];
            let code = (word & 0xff) as u8;
            let (dst, src) = (((word >> 8) & 0xf) as usize, ((word >> 12) & 0xf) as usize);
            let offset = ((word >> 16) & 0xffff) as i16;
            let number = i64::from((word >> 32) as i32);
            at += 1;
            match code {
                LOAD_WORD => registers[dst] = i64::from(context[(offset / 4) as usize]),
                MOVE_REGISTER => registers[dst] = registers[src],
                MOVE_NUMBER => registers[dst] = number,
                AND_NUMBER => registers[dst] = i64::from((registers[dst] as u32) & (number as u32)),
                SHIFT_RIGHT => registers[dst] = i64::from((registers[dst] as u32) >> number),
                JUMP_UNLESS_EQUAL if registers[dst] != number => at += offset as usize,
                JUMP_IF_EQUAL if registers[dst] == number => at += offset as usize,
                JUMP_UNLESS_EQUAL | JUMP_IF_EQUAL => {}
                EXIT => return registers[0] != 0,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: DeviceKind, numbers: (Option<u32>, Option<u32>), access: &str) -> DeviceRule {
        let access = DeviceAccess::parse(access).expect("access letters");
        DeviceRule {
            allow,
            kind,
            major: numbers.0,
            minor: numbers.1,
            access,
        }
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let rules = [
            rule(false, DeviceKind::All, (None, None), "rwm"),
            rule(true, DeviceKind::Char, (None, None), "m"),
            rule(true, DeviceKind::Char, (Some(1), Some(3)), "rwm"),
            rule(true, DeviceKind::Block, (Some(8), None), "r"),
            rule(false, DeviceKind::Block, (Some(8), Some(1)), "r"),
        ];
        let program = v2_program(&rules);
        let cases = [
            ("null, read and write", CHAR, READ | WRITE, 1, 3, true),
            ("mknod of any character device", CHAR, MKNOD, 10, 200, true),
            ("read of another character device", CHAR, READ, 10, 200, false),
            ("mknod and read of another", CHAR, MKNOD | READ, 10, 200, false),
            ("read of a disk", BLOCK, READ, 8, 0, true),
            ("write of a disk", BLOCK, WRITE, 8, 0, false),
            ("read of the denied partition", BLOCK, READ | WRITE, 8, 1, false),
            ("a block device with null's numbers", BLOCK, READ, 1, 3, false),
        ];
        for (what, kind, access, major, minor, expected) in cases {
            assert_eq!(run(&program, kind, access, major, minor), expected, "{what}");
        }
    }

    #[test]
    fn without_a_match_access_is_allowed() {
        let program = v2_program(&[rule(false, DeviceKind::Char, (Some(1), Some(5)), "w")]);
        assert!(run(&program, CHAR, READ, 1, 5));
        assert!(!run(&program, CHAR, READ | WRITE, 1, 5));
        assert!(run(&program, CHAR, WRITE, 1, 3));
    }

    #[test]
    fn v1_lines_spell_wildcards_and_access() {
        let check = |rule: DeviceRule, file: &str, line: &str| assert_eq!(v1_line(&rule), (file, line.to_owned()));
        check(
            rule(false, DeviceKind::All, (None, None), "rwm"),
            "devices.deny",
            "a *:* rwm",
        );
        check(
            rule(true, DeviceKind::Char, (Some(136), None), "wr"),
            "devices.allow",
            "c 136:* rw",
        );
        check(
            rule(true, DeviceKind::Block, (Some(8), Some(0)), "m"),
            "devices.allow",
            "b 8:0 m",
        );
    }
}
