//! From policies to BPF.
//!
//! Per architecture the call numbers are cut into intervals of equal verdict,
//! found by a balanced tree of `>=` comparisons: the kernel walks the program
//! once per number when it is loaded, and translates each instruction several
//! times over. So its depth and its length decide what a start costs.

use super::Arch;
use super::policy::{Check, Op, Policy, RET_KILL_THREAD, Verdict};
use crate::RuntimeError;
use std::collections::BTreeMap;
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
    let mut code = Backwards::default();
    // COMPAT: libseccomp kills the thread that calls by an unlisted architecture.
    let mut otherwise = Target::Return(RET_KILL_THREAD);
    let x32 = policies.iter().find(|policy| policy.arch == Arch::X32);
    for policy in policies.iter().rev().filter(|policy| policy.arch != Arch::X32) {
        let numbers = code.tree(&architecture_intervals(policy, x32));
        code.lead_to(numbers);
        let own = code.push(plain(LOAD_WORD, OFFSET_NUMBER));
        otherwise = code.branch(JUMP_EQUAL, policy.arch.audit(), Target::At(own), otherwise);
    }
    code.lead_to(otherwise);
    code.push(plain(LOAD_WORD, OFFSET_ARCH));
    let code = code.forwards();
    if code.len() > MAX_INSTRUCTIONS {
        let text = format!(
            "linux.seccomp: the filter has {} instructions, the kernel takes {MAX_INSTRUCTIONS}",
            code.len()
        );
        return Err(RuntimeError::invalid("linux.seccomp", text));
    }
    Ok(code)
}

/// The intervals of an architecture, with those of x32 where they belong to it.
fn architecture_intervals(policy: &Policy, x32: Option<&Policy>) -> Vec<(u32, Leaf)> {
    let mut intervals = plan_intervals(policy);
    if policy.arch == Arch::X86_64 {
        intervals.retain(|(first, _)| *first < X32_BIT);
        match x32 {
            Some(x32) => intervals.extend(x32_intervals(x32)),
            None => intervals.push((X32_BIT, Leaf::from(Verdict::Always(RET_KILL_THREAD), policy))),
        }
        merge(&mut intervals);
    }
    intervals
}

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// To an instruction: how many were there before it.
    At(usize),
    /// To any that returns this action.
    Return(u32),
}

/// A program that is written from its end, for its jumps go forwards only: what they go to is there already, and
/// branches share the instructions that return.
#[derive(Debug, Default)]
struct Backwards {
    code: Vec<Instruction>,
    /// The nearest instruction that returns an action.
    returns: BTreeMap<u32, usize>,
}

impl Backwards {
    /// Farthest that a conditional jump is let go; a few instructions may still get between.
    const REACH: usize = 250;

    fn forwards(mut self) -> Vec<Instruction> {
        self.code.reverse();
        self.code
    }

    fn push(&mut self, instruction: Instruction) -> usize {
        self.code.push(instruction);
        self.code.len() - 1
    }

    /// Puts a block before everything.
    fn push_block(&mut self, block: Vec<Instruction>) -> usize {
        self.code.extend(block.into_iter().rev());
        self.code.len() - 1
    }

    /// Instructions between the next one to be put before everything and one that is there.
    fn distance(&self, at: usize) -> usize {
        self.code.len() - at - 1
    }

    /// Has a target within the reach of a conditional jump, by a way station if need be.
    fn bring_near(&mut self, target: Target) -> usize {
        match target {
            Target::At(at) if self.distance(at) <= Self::REACH => at,
            Target::At(at) => {
                let far = length(self.distance(at));
                self.push(plain(JUMP, far))
            }
            Target::Return(action) => match self.returns.get(&action) {
                Some(at) if self.distance(*at) <= Self::REACH => *at,
                _ => {
                    let at = self.push(plain(RETURN, action));
                    self.returns.insert(action, at);
                    at
                }
            },
        }
    }

    /// Has the program go on from here with this target.
    fn lead_to(&mut self, target: Target) {
        match target {
            Target::At(at) if self.distance(at) == 0 => {}
            Target::At(at) => {
                let far = length(self.distance(at));
                self.push(plain(JUMP, far));
            }
            Target::Return(action) => {
                self.push(plain(RETURN, action));
            }
        }
    }

    /// Compares the accumulator with a number.
    fn branch(&mut self, comparison: u16, k: u32, holds: Target, fails: Target) -> Target {
        if holds == fails {
            return holds;
        }
        let (holds, fails) = (self.bring_near(holds), self.bring_near(fails));
        let near = |at| u8::try_from(self.distance(at)).expect("invariant: two instructions at most got between");
        let (jt, jf) = (near(holds), near(fails));
        let code = comparison;
        Target::At(self.push(Instruction { code, jt, jf, k }))
    }

    /// A balanced tree over intervals; the number is in the accumulator.
    fn tree(&mut self, intervals: &[(u32, Leaf)]) -> Target {
        let (left, right) = match intervals {
            [] => return Target::Return(RET_KILL_THREAD),
            [(_, leaf)] => return self.leaf(leaf),
            _ => intervals.split_at(intervals.len() / 2),
        };
        let first_right = right.first().map_or(0, |(first, _)| *first);
        let (right, left) = (self.tree(right), self.tree(left));
        self.branch(JUMP_GREATER_EQUAL, first_right, right, left)
    }

    fn leaf(&mut self, leaf: &Leaf) -> Target {
        match &leaf.verdict {
            Verdict::Always(action) => Target::Return(*action),
            Verdict::Checked(alternatives) => match Question::of(alternatives, leaf) {
                Some(question) => self.question(&question, leaf.is_wide),
                None => Target::At(self.push_block(checked_code(alternatives, leaf))),
            },
        }
    }

    /// A tree over the values of an argument.
    fn question(&mut self, question: &Question, is_wide: bool) -> Target {
        let at = OFFSET_ARGS + 8 * question.index;
        let low = self.tree(&question.intervals);
        self.lead_to(low);
        let low = Target::At(self.push(plain(LOAD_WORD, at)));
        if !is_wide {
            return low;
        }
        let high = self.branch(JUMP_EQUAL, 0, low, Target::Return(question.beyond));
        self.lead_to(high);
        Target::At(self.push(plain(LOAD_WORD, at + 4)))
    }
}

/// Checks that all look at the same argument, of which only the lower half differs.
#[derive(Debug)]
struct Question {
    index: u32,
    /// Actions by the lower half.
    intervals: Vec<(u32, Leaf)>,
    /// That of every value with more than 32 bits.
    beyond: u32,
}

impl Question {
    fn of(alternatives: &[(Vec<Check>, u32)], leaf: &Leaf) -> Option<Self> {
        let single = |(checks, action): &(Vec<Check>, u32)| match &checks[..] {
            [check] if check.mask == u64::MAX => Some((*check, *action)),
            _ => None,
        };
        let mut all = alternatives.iter().map(single).collect::<Option<Vec<_>>>()?;
        let (Check { index, .. }, _) = *all.first()?;
        for (check, _) in &mut all {
            if check.index != index || (leaf.is_wide && check.value > u64::from(u32::MAX)) {
                return None;
            }
            check.value &= u64::from(u32::MAX);
        }
        let action = |value: u64| {
            let first = all.iter().find(|(check, _)| check.op.holds(value, check.value));
            first.map_or(leaf.default, |(_, action)| *action)
        };
        // Answers change nowhere but at the values compared with, and behind them.
        let mut firsts: Vec<u32> = all
            .iter()
            .flat_map(|(check, _)| [check.value, check.value + 1])
            .filter_map(|value| u32::try_from(value).ok())
            .chain([0])
            .collect();
        firsts.sort_unstable();
        let always = |value: u64| Leaf {
            verdict: Verdict::Always(action(value)),
            default: 0,
            is_wide: false,
        };
        let mut intervals = firsts.into_iter().map(|first| (first, always(first.into()))).collect();
        merge(&mut intervals);
        Some(Self {
            index,
            intervals,
            beyond: action(1 << 32),
        })
    }
}

fn length(distance: usize) -> u32 {
    u32::try_from(distance).unwrap_or(u32::MAX)
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

/// Code that returns the action of the first alternative all of whose checks hold, else the default.
fn checked_code(alternatives: &[(Vec<Check>, u32)], leaf: &Leaf) -> Vec<Instruction> {
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
    // A half of which nothing is compared says nothing.
    if is_wide && (high_mask, high) != (0, 0) {
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
