//! Scheduling, I/O priority, execution domain and NUMA policy: names to numbers.

use crate::RuntimeError;
use crate::spec::{IoPriority, Linux, MemoryPolicy, Process, Scheduler};
use rustix::io::Errno;
use wharf_sys::process::{self, Scheduling};

/// What is set on the process before the program.
#[derive(Debug, Default)]
pub(crate) struct SchedulingPlan {
    scheduler: Option<Scheduling>,
    io: Option<(u32, u32)>,
    personality: Option<u32>,
    memory: Option<(u32, Vec<u64>)>,
}

fn invalid(field: &str, why: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::invalid(field, format!("{field}: {why}"))
}

/// Decides them all.
pub(crate) fn plan_scheduling(process: &Process, linux: &Linux) -> Result<SchedulingPlan, RuntimeError> {
    Ok(SchedulingPlan {
        scheduler: process.scheduler.as_ref().map(plan_scheduler).transpose()?,
        io: process.io_priority.as_ref().map(plan_io).transpose()?,
        personality: match &linux.personality {
            None => None,
            Some(wanted) if !wanted.flags.is_empty() => {
                return Err(invalid("linux.personality.flags", "none are defined"));
            }
            Some(wanted) => Some(match wanted.domain.as_str() {
                "LINUX" => 0,
                "LINUX32" => 8,
                other => return Err(invalid("linux.personality.domain", format!("unknown value {other:?}"))),
            }),
        },
        memory: linux.memory_policy.as_ref().map(plan_memory).transpose()?,
    })
}

fn plan_scheduler(wanted: &Scheduler) -> Result<Scheduling, RuntimeError> {
    const POLICIES: [&str; 7] = [
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "SCHED_ISO",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
    ];
    const FLAGS: [&str; 7] = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    let unknown = |field: &str, value: &str| invalid(field, format!("unknown value {value:?}"));
    let policy = POLICIES
        .iter()
        .position(|name| *name == wanted.policy)
        .ok_or_else(|| unknown("process.scheduler.policy", &wanted.policy))?;
    let mut flags = 0;
    for flag in &wanted.flags {
        let bit = FLAGS.iter().position(|name| name == flag);
        flags |= 1u64 << bit.ok_or_else(|| unknown("process.scheduler.flags", flag))?;
    }
    let priority = u32::try_from(wanted.priority)
        .map_err(|_| invalid("process.scheduler.priority", format!("{} is negative", wanted.priority)))?;
    if wanted.policy == "SCHED_DEADLINE" {
        check_deadline(wanted)?;
    }
    Ok(Scheduling {
        policy: u32::try_from(policy).unwrap_or(0),
        flags,
        nice: wanted.nice,
        priority,
        runtime: wanted.runtime.unwrap_or(0),
        deadline: wanted.deadline.unwrap_or(0),
        period: wanted.period.unwrap_or(0),
        ..Scheduling::default()
    })
}

/// What sched(7) asks of the three times of a deadline, of which the kernel
/// only says that something is wrong.
///
/// COMPAT: the wording follows crun, whose test suite reads it.
fn check_deadline(wanted: &Scheduler) -> Result<(), RuntimeError> {
    /// The kernel's own resolution (kernel/sched/deadline.c).
    const SHORTEST_NS: u64 = 1024;
    let wrong = |part: &str, why: String| {
        let field = format!("process.scheduler.{part}");
        Err(invalid(&field, format!("sched_setattr: `SCHED_DEADLINE` {why}")))
    };
    let Some(runtime) = wanted.runtime else {
        return wrong("runtime", "requires `runtime`".to_owned());
    };
    let Some(deadline) = wanted.deadline else {
        return wrong("deadline", "requires `deadline`".to_owned());
    };
    let end = wanted.period.filter(|period| *period != 0).unwrap_or(deadline);
    if runtime == 0 {
        return wrong("runtime", "runtime must be greater than 0".to_owned());
    }
    if !(SHORTEST_NS..=i64::MAX.unsigned_abs()).contains(&runtime) {
        return wrong(
            "runtime",
            format!("runtime ({runtime}) must be between {SHORTEST_NS} and 2^63-1"),
        );
    }
    if runtime > deadline {
        return wrong(
            "runtime",
            format!("runtime ({runtime}) must be <= deadline ({deadline})"),
        );
    }
    if deadline > end {
        return wrong("deadline", format!("deadline ({deadline}) must be <= period ({end})"));
    }
    Ok(())
}

fn plan_io(wanted: &IoPriority) -> Result<(u32, u32), RuntimeError> {
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(invalid("process.ioPriority.class", format!("unknown value {other:?}"))),
    };
    let level = u32::try_from(wanted.priority).ok().filter(|level| *level <= 7);
    let level = level.ok_or_else(|| {
        invalid(
            "process.ioPriority.priority",
            format!("{} is not 0 to 7", wanted.priority),
        )
    })?;
    Ok((class, level))
}

fn plan_memory(wanted: &MemoryPolicy) -> Result<(u32, Vec<u64>), RuntimeError> {
    const MODES: [&str; 7] = [
        "MPOL_DEFAULT",
        "MPOL_PREFERRED",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_LOCAL",
        "MPOL_PREFERRED_MANY",
        "MPOL_WEIGHTED_INTERLEAVE",
    ];
    let field = "linux.memoryPolicy";
    let mode = MODES.iter().position(|name| *name == wanted.mode);
    let mode = mode.ok_or_else(|| {
        invalid(
            "linux.memoryPolicy.mode",
            format!("invalid memory policy mode {:?}", wanted.mode),
        )
    })?;
    let mut value = u32::try_from(mode).unwrap_or(0);
    for flag in &wanted.flags {
        value |= match flag.as_str() {
            "MPOL_F_STATIC_NODES" => 1 << 15,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            other => {
                return Err(invalid(
                    "linux.memoryPolicy.flags",
                    format!("invalid memory policy flag {other:?}"),
                ));
            }
        };
    }
    let list = wanted.nodes.as_deref().unwrap_or_default();
    let nodes = parse_list(list).ok_or_else(|| {
        invalid(
            "linux.memoryPolicy.nodes",
            format!("invalid memory policy nodes {list:?}"),
        )
    })?;
    let takes_none = matches!(MODES[mode], "MPOL_DEFAULT" | "MPOL_LOCAL");
    let needs_some = !takes_none && MODES[mode] != "MPOL_PREFERRED";
    if takes_none && !nodes.is_empty() {
        let count: u32 = nodes.iter().map(|word| word.count_ones()).sum();
        return Err(invalid(
            field,
            format!("{} mode requires 0 nodes but got {count}", wanted.mode),
        ));
    }
    if needs_some && nodes.is_empty() {
        return Err(invalid(field, format!("{} needs nodes", wanted.mode)));
    }
    Ok((value, nodes))
}

/// A list such as `0-3,7` as a bit mask; empty for the empty list.
pub(crate) fn parse_list(text: &str) -> Option<Vec<u64>> {
    const MAX: usize = 8192;
    let mut words: Vec<u64> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MAX {
            return None;
        }
        for bit in first..=last {
            if words.len() <= bit / 64 {
                words.resize(bit / 64 + 1, 0);
            }
            words[bit / 64] |= 1 << (bit % 64);
        }
    }
    Some(words)
}

impl SchedulingPlan {
    /// Sets what was decided on the calling process.
    pub(crate) fn apply(&self) -> Result<(), RuntimeError> {
        let failed =
            |field: &'static str| move |errno: Errno| RuntimeError::system(field, format!("set {field}"), errno);
        if let Some(scheduler) = self.scheduler {
            process::set_scheduling(scheduler).map_err(failed("process.scheduler"))?;
        }
        if let Some((class, level)) = self.io {
            process::set_io_priority(class, level).map_err(failed("process.ioPriority"))?;
        }
        if let Some(domain) = self.personality {
            process::set_personality(domain).map_err(failed("linux.personality"))?;
        }
        if let Some((mode, nodes)) = &self.memory {
            process::set_memory_policy(*mode, nodes).map_err(failed("linux.memoryPolicy"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks() {
        assert_eq!(parse_list(""), Some(vec![]));
        assert_eq!(parse_list("0-2,5"), Some(vec![0b10_0111]));
        assert_eq!(parse_list("64"), Some(vec![0, 1]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("x"), None);
        assert_eq!(parse_list("0-99999999"), None);
    }

    #[test]
    fn unknown_names_are_errors_that_name_the_field() {
        let scheduler = Scheduler {
            policy: "SCHED_X".into(),
            ..Scheduler::default()
        };
        let error = plan_scheduler(&scheduler).map(|_| ()).map_err(|e| e.message());
        assert_eq!(error, Err("process.scheduler.policy: unknown value \"SCHED_X\"".into()));
        let policy = MemoryPolicy {
            mode: "MPOL_BIND".into(),
            ..MemoryPolicy::default()
        };
        let error = plan_memory(&policy).map(|_| ()).map_err(|e| e.message());
        assert_eq!(error, Err("linux.memoryPolicy: MPOL_BIND needs nodes".into()));
    }
}
