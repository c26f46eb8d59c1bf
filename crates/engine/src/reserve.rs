//! What containers together may not take: a reserve of memory and process ids for the host and the engine.
//!
//! All containers live below one group, named as the instance, which is limited to what the machine has less the
//! reserve. Processor time needs no limit to be shared: that group weighs as much as one process of the host's beside
//! it, however many processes are inside; a hard reserve can be configured all the same.
use std::path::Path;

use wharf_cgroup::{Cgroup, Cpu, Hierarchy, Memory, Resources};

use crate::config::Reserve;
use crate::error::{Error, Result};

/// The least and the most memory that is kept back unless the configuration says how much: a twentieth between them.
const LEAST_MEMORY: u64 = 128 << 20;
const MOST_MEMORY: u64 = 1 << 30;

/// The least process ids kept back: a tenth of what there are.
const LEAST_PIDS: u64 = 512;

/// Period of a hard reserve of processor time, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// What the machine has.
#[derive(Clone, Copy, Debug)]
struct Machine {
    memory: u64,
    pids: u64,
    cpus: u64,
}

/// Makes the group of all containers and limits it. What may not be limited here is told and left: containers run all
/// the same, as they do under engines that keep nothing back.
pub(crate) fn ensure(reserve: &Reserve, instance: &str, hierarchy: &Hierarchy) {
    let machine = Machine::probe();
    let limits = match plan(reserve, machine) {
        Ok(limits) => limits,
        Err(error) => return tracing::warn!("no reserve for the host: {}", error.message()),
    };
    let path = format!("/{instance}");
    let group = match Cgroup::create(hierarchy, &path) {
        Ok(group) => group,
        Err(error) => return tracing::warn!("no reserve for the host: {error}"),
    };
    // One by one: a controller that is missing does not take the others' limits away.
    for limit in limits {
        if let Err(error) = group.update(&limit) {
            tracing::warn!("not all of the reserve for the host: {error}");
        }
    }
}

/// Refuses a reserve that leaves containers nothing, before anything is touched.
pub(crate) fn check(reserve: &Reserve) -> Result<()> {
    plan(reserve, Machine::probe()).map(drop)
}

/// The limits of the group of all containers; -1 lifts what an engine before set.
fn plan(reserve: &Reserve, machine: Machine) -> Result<[Resources; 3]> {
    let memory = reserve.memory.unwrap_or_else(|| {
        let part = (machine.memory / 20).clamp(LEAST_MEMORY, MOST_MEMORY);
        // A machine too small for that keeps a tenth.
        part.min(machine.memory / 10)
    });
    let pids = reserve
        .pids
        .unwrap_or_else(|| (machine.pids / 10).max(LEAST_PIDS).min(machine.pids / 2));
    let left = |what: &str, has: u64, kept: u64| match has.checked_sub(kept).filter(|left| *left > 0) {
        _ if kept == 0 => Ok(-1),
        Some(left) => Ok(i64::try_from(left).unwrap_or(i64::MAX)),
        None => Err(Error::invalid(format!(
            "a reserve of {kept} leaves containers nothing of {has} {what}"
        ))),
    };
    let memory = left("bytes of memory", machine.memory, memory)?;
    let pids = left("process ids", machine.pids, pids)?;
    let cpu = cpu_quota(reserve.cpus, machine.cpus)?;
    Ok([
        Resources {
            memory: Memory {
                limit: Some(memory),
                ..Memory::default()
            },
            ..Resources::default()
        },
        Resources {
            pids_limit: Some(pids),
            ..Resources::default()
        },
        Resources {
            cpu,
            ..Resources::default()
        },
    ])
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "microseconds of some processors"
)]
fn cpu_quota(kept: f64, cpus: u64) -> Result<Cpu> {
    let left = cpus as f64 - kept;
    if !(kept >= 0.0 && left > 0.0) {
        let message = format!("a reserve of {kept} processors leaves containers nothing of {cpus}");
        return Err(Error::invalid(message));
    }
    let quota = if kept == 0.0 {
        -1
    } else {
        (left * CPU_PERIOD_US as f64) as i64
    };
    Ok(Cpu {
        quota_us: Some(quota),
        period_us: Some(CPU_PERIOD_US),
        ..Cpu::default()
    })
}

impl Machine {
    fn probe() -> Self {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = memory.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        });
        let number = |path: &str| {
            std::fs::read_to_string(Path::new(path))
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        };
        let threads = number("/proc/sys/kernel/threads-max").unwrap_or(u64::MAX);
        Self {
            memory: kilobytes.map_or(u64::MAX, |n| n << 10),
            pids: number("/proc/sys/kernel/pid_max").unwrap_or(32_768).min(threads),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        memory: 8 << 30,
        pids: 32_768,
        cpus: 4,
    };

    #[test]
    fn a_part_of_the_machine_is_kept_back() {
        let limits = |reserve: Reserve| {
            let [memory, pids, cpu] = plan(&reserve, MACHINE).expect("a plan");
            (memory.memory.limit, pids.pids_limit, cpu.cpu.quota_us)
        };
        let kept = (8 << 30) - (8 << 30) / 20;
        assert_eq!(limits(Reserve::default()), (Some(kept), Some(29_492), Some(-1)));
        let asked = Reserve {
            memory: Some(2 << 30),
            pids: Some(1000),
            cpus: 0.5,
        };
        assert_eq!(limits(asked), (Some(6 << 30), Some(31_768), Some(350_000)));
        let none = Reserve {
            memory: Some(0),
            pids: Some(0),
            cpus: 0.0,
        };
        assert_eq!(limits(none), (Some(-1), Some(-1), Some(-1)));
    }

    #[test]
    fn a_small_machine_keeps_little_and_a_large_one_enough() {
        let kept = |memory: u64| {
            let machine = Machine { memory, ..MACHINE };
            let [limits, ..] = plan(&Reserve::default(), machine).expect("a plan");
            memory - limits.memory.limit.expect("a limit").cast_unsigned()
        };
        assert_eq!(kept(512 << 20), (512 << 20) / 10);
        assert_eq!(kept(2 << 30), 128 << 20);
        assert_eq!(kept(256 << 30), 1 << 30);
    }

    #[test]
    fn a_reserve_that_leaves_nothing_is_refused() {
        let refused = |reserve: Reserve| plan(&reserve, MACHINE).expect_err("refused").message().to_owned();
        let memory = Some(8 << 30);
        assert!(
            refused(Reserve {
                memory,
                ..Reserve::default()
            })
            .contains("bytes of memory")
        );
        let pids = Some(40_000);
        assert!(
            refused(Reserve {
                pids,
                ..Reserve::default()
            })
            .contains("process ids")
        );
        for cpus in [4.0, -1.0, f64::NAN] {
            assert!(
                refused(Reserve {
                    cpus,
                    ..Reserve::default()
                })
                .contains("processors")
            );
        }
    }
}
