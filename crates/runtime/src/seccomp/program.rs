//! From policies to BPF.
//!
//! Per architecture the call numbers are cut into intervals of equal verdict,
//! found by a balanced tree of `>=` comparisons: the kernel walks the program
//! once per number when it is loaded, so its depth decides what a start costs.

use super::Arch;
use super::policy::{Check, Op, Policy, RET_KILL_THREAD, Verdict};
use crate::RuntimeError;
use wharf_sys::seccomp::Instruction;

/// The kernel's limit (BPF_MAXINSNS).
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// Codes of classic BPF (linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Numbers of x32 have this bit.
const X32_BIT: u32 = 0x4000_0000;

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// Assembles one program for all architectures.
pub(super) fn assemble(policies: &[Policy]) -> Result<Vec<Instruction>, RuntimeError> {
    let mut code = vec![plain(LOAD_WORD, OFFSET_ARCH)];
    let x32 = policies.iter().find(|policy| policy.arch == Arch::X32);
    for policy in policies.iter().filter(|policy| policy.arch != Arch::X32) {
        let block = architecture_block(policy, x32);
        code.push(Instruction {
            code: JUMP_EQUAL,
            jt: 1,
            jf: 0,
            k: policy.arch.audit(),
        });
        code.push(plain(JUMP, length(&block)));
        code.extend(block);
    }
    // COMPAT: libseccomp kills the thread that calls by an unlisted architecture.
    code.push(plain(RETURN, RET_KILL_THREAD));
    if code.len() > MAX_INSTRUCTIONS {
        let text = format!(
            "linux.seccomp: the filter has {} instructions, the kernel takes {MAX_INSTRUCTIONS}",
            code.len()
        );
        return Err(RuntimeError::invalid("linux.seccomp", text));
    }
    Ok(code)
}

fn length(code: &[Instruction]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

fn architecture_block(policy: &Policy, x32: Option<&Policy>) -> Vec<Instruction> {
    let mut code = vec![plain(LOAD_WORD, OFFSET_NUMBER)];
    let mut intervals = plan_intervals(policy);
    if policy.arch == Arch::X86_64 {
        intervals.retain(|(first, _)| *first < X32_BIT);
        match x32 {
            Some(x32) => intervals.extend(x32_intervals(x32)),
            None => intervals.push((X32_BIT, Leaf::from(Verdict::Always(RET_KILL_THREAD), policy))),
        }
        merge(&mut intervals);
    }
    code.extend(tree(&intervals));
    code
}

/// The intervals of x32, which begin at its bit.
fn x32_intervals(policy: &Policy) -> Vec<(u32, Leaf)> {
    let mut intervals = plan_intervals(policy);
    let below = intervals.partition_point(|(first, _)| *first <= X32_BIT);
    if let Some((first, _)) = below.checked_sub(1).and_then(|last| intervals.get_mut(last)) {
        *first = X32_BIT;
    }
    intervals.retain(|(first, _)| *first >= X32_BIT);
    intervals
}

/// The end of the tree for one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leaf {
    verdict: Verdict,
    default: u32,
    is_wide: bool,
}

impl Leaf {
    fn from(verdict: Verdict, policy: &Policy) -> Self {
        let is_wide = matches!(verdict, Verdict::Checked(_)) && policy.arch.is_wide();
        let default = if matches!(verdict, Verdict::Checked(_)) {
            policy.default
        } else {
            0
        };
        Self {
            verdict,
            default,
            is_wide,
        }
    }
}

/// First number and leaf of each interval, from 0 on.
fn plan_intervals(policy: &Policy) -> Vec<(u32, Leaf)> {
    let leaf = |verdict: Verdict| Leaf::from(verdict, policy);
    let mut intervals = vec![(0, leaf(Verdict::Always(policy.default)))];
    for (number, verdict) in &policy.calls {
        if intervals.last().is_some_and(|(first, _)| first == number) {
            intervals.pop();
        }
        intervals.push((*number, leaf(verdict.clone())));
        intervals.push((number + 1, leaf(Verdict::Always(policy.default))));
    }
    if let Some((first, action)) = policy.unknown {
        intervals.retain(|(start, _)| *start < first);
        intervals.push((first, leaf(Verdict::Always(action))));
    }
    merge(&mut intervals);
    intervals
}

fn merge(intervals: &mut Vec<(u32, Leaf)>) {
    intervals.dedup_by(|next, before| next.1 == before.1);
}

/// A balanced tree over the intervals; the number is in the accumulator.
fn tree(intervals: &[(u32, Leaf)]) -> Vec<Instruction> {
    let middle = intervals.len() / 2;
    let (left, right) = match intervals {
        [] => return vec![plain(RETURN, RET_KILL_THREAD)],
        [(_, leaf)] => return leaf_code(leaf),
        _ => intervals.split_at(middle),
    };
    let first_right = right.first().map_or(0, |(first, _)| *first);
    let (left, right) = (tree(left), tree(right));
    let mut code = match u8::try_from(left.len()) {
        Ok(distance) => vec![Instruction {
            code: JUMP_GREATER_EQUAL,
            jt: distance,
            jf: 0,
            k: first_right,
        }],
        // Too far for a conditional jump.
        Err(_) => vec![
            Instruction {
                code: JUMP_GREATER_EQUAL,
                jt: 0,
                jf: 1,
                k: first_right,
            },
            plain(JUMP, length(&left)),
        ],
    };
    code.extend(left);
    code.extend(right);
    code
}

fn leaf_code(leaf: &Leaf) -> Vec<Instruction> {
    let alternatives = match &leaf.verdict {
        Verdict::Always(action) => return vec![plain(RETURN, *action)],
        Verdict::Checked(alternatives) => alternatives,
    };
    let mut code = Vec::new();
    for (checks, action) in alternatives {
        // From the back, for each check must know how far the end is.
        let mut rest = vec![plain(RETURN, *action)];
        for check in checks.iter().rev() {
            let mut with = check_code(*check, leaf.is_wide, rest.len());
            with.append(&mut rest);
            rest = with;
        }
        code.append(&mut rest);
    }
    code.push(plain(RETURN, leaf.default));
    code
}

/// Where a jump of a check goes.
#[derive(Clone, Copy)]
enum To {
    /// The check holds: what follows its code.
    Holds,
    /// It fails: behind the alternative.
    Fails,
    /// The next instruction of the check.
    Next,
}

/// Code that falls through when the check holds, and jumps over `rest`
/// further instructions when it fails.
fn check_code(check: Check, is_wide: bool, rest: usize) -> Vec<Instruction> {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits")]
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = halves(check.value);
    let (high_mask, low_mask) = halves(check.mask);
    let at = OFFSET_ARGS + 8 * check.index;
    let mut steps = Vec::new();
    if is_wide {
        push_load(&mut steps, at + 4, high_mask);
        push_high(&mut steps, check.op, high);
    }
    push_load(&mut steps, at, low_mask);
    push_low(&mut steps, check.op, low);
    link(&steps, rest)
}

type Step = (Instruction, To, To);

fn push_load(steps: &mut Vec<Step>, offset: u32, mask: u32) {
    steps.push((plain(LOAD_WORD, offset), To::Next, To::Next));
    if mask != u32::MAX {
        steps.push((plain(AND, mask), To::Next, To::Next));
    }
}

/// The upper half decides unless it is equal.
fn push_high(steps: &mut Vec<Step>, op: Op, value: u32) {
    let equal = plain(JUMP_EQUAL, value);
    let greater = plain(JUMP_GREATER, value);
    match op {
        Op::Equal => steps.push((equal, To::Next, To::Fails)),
        Op::NotEqual => steps.push((equal, To::Next, To::Holds)),
        Op::Greater | Op::GreaterOrEqual => {
            steps.push((greater, To::Holds, To::Next));
            steps.push((equal, To::Next, To::Fails));
        }
        Op::Less | Op::LessOrEqual => {
            steps.push((greater, To::Fails, To::Next));
            steps.push((equal, To::Next, To::Holds));
        }
    }
}

fn push_low(steps: &mut Vec<Step>, op: Op, value: u32) {
    steps.push(match op {
        Op::Equal => (plain(JUMP_EQUAL, value), To::Holds, To::Fails),
        Op::NotEqual => (plain(JUMP_EQUAL, value), To::Fails, To::Holds),
        Op::Greater => (plain(JUMP_GREATER, value), To::Holds, To::Fails),
        Op::GreaterOrEqual => (plain(JUMP_GREATER_EQUAL, value), To::Holds, To::Fails),
        Op::Less => (plain(JUMP_GREATER_EQUAL, value), To::Fails, To::Holds),
        Op::LessOrEqual => (plain(JUMP_GREATER, value), To::Fails, To::Holds),
    });
}

/// Turns targets into distances.
fn link(steps: &[Step], rest: usize) -> Vec<Instruction> {
    let distance = |index: usize, to: To| {
        let behind = steps.len() - index - 1;
        let far = match to {
            To::Next => 0,
            To::Holds => behind,
            To::Fails => behind + rest,
        };
        // At most six checks of six instructions each lie between.
        u8::try_from(far).expect("invariant: an alternative has at most 43 instructions")
    };
    steps
        .iter()
        .enumerate()
        .map(|(index, (instruction, yes, no))| {
            let is_jump = matches!(instruction.code, JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_EQUAL);
            let (jt, jf) = if is_jump {
                (distance(index, *yes), distance(index, *no))
            } else {
                (0, 0)
            };
            Instruction { jt, jf, ..*instruction }
        })
        .collect()
}
