//! Checks of limits, in Docker's words; also used by `update`.
use crate::error::{Error, Result};
use crate::model::Resources;

/// Less memory than this starts nothing.
const MIN_MEMORY_BYTES: i64 = 6 << 20;

/// What limits can refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostLimits {
    /// CPUs online.
    pub cpus: Vec<u32>,
    /// Memory nodes online.
    pub memory_nodes: Vec<u32>,
    /// The kernel accounts for swap.
    pub swap: bool,
    /// A group has a swappiness of its own, which only version 1 knows.
    pub swappiness: bool,
    /// The killer can be switched off for a group, which only version 1 knows.
    pub oom_kill_disable: bool,
    /// Real-time processor time is counted by group, which only version 1 knows.
    pub realtime: bool,
}

/// Checks limits and fills in what follows from others; answers warnings.
pub(crate) fn check_resources(asked: &mut Resources, host: &HostLimits) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    check_memory(asked, host, &mut warnings)?;
    check_cpu(asked, host)?;
    check_cpuset("cpus", "CPUs", &asked.cpuset_cpus, &host.cpus)?;
    check_cpuset("mems", "memory nodes", &asked.cpuset_mems, &host.memory_nodes)?;
    check_block_io(asked)?;
    if asked.pids_limit.is_some_and(|n| n < -1) {
        return Err(Error::invalid("Invalid value for pids limit: less than -1"));
    }
    Ok(warnings)
}

fn check_memory(asked: &mut Resources, host: &HostLimits, warnings: &mut Vec<String>) -> Result<()> {
    if asked.memory != 0 && asked.memory < MIN_MEMORY_BYTES {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if asked.memory > 0 && asked.memory_swap == 0 {
        asked.memory_swap = asked.memory.saturating_mul(2);
    }
    if asked.memory > 0 && asked.memory_swap != -1 && !host.swap {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                .to_owned(),
        );
        asked.memory_swap = -1;
    }
    if asked.memory > 0 && asked.memory_swap > 0 && asked.memory_swap < asked.memory {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if asked.memory == 0 && asked.memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if let Some(swappiness) = asked.memory_swappiness.filter(|n| !(-1..=100).contains(n)) {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    discard_unknown_to_v2(asked, host, warnings);
    check_reservation(asked)
}

/// COMPAT: dropped with a word, so that what was made for version 1 runs on version 2.
fn discard_unknown_to_v2(asked: &mut Resources, host: &HostLimits, warnings: &mut Vec<String>) {
    if asked.memory_swappiness.is_some_and(|n| n != -1) && !host.swappiness {
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
                .to_owned(),
        );
        asked.memory_swappiness = None;
    }
    if asked.oom_kill_disable == Some(true) && !host.oom_kill_disable {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        asked.oom_kill_disable = Some(false);
    }
}

fn check_reservation(asked: &Resources) -> Result<()> {
    let reservation = asked.memory_reservation;
    if reservation > 0 && reservation < MIN_MEMORY_BYTES {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if asked.memory > 0 && reservation > 0 && asked.memory < reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    Ok(())
}

fn check_cpu(asked: &Resources, host: &HostLimits) -> Result<()> {
    let count = i64::try_from(host.cpus.len()).unwrap_or(1).max(1);
    if asked.nano_cpus > 0 && (asked.cpu_period > 0 || asked.cpu_quota > 0) {
        let other = if asked.cpu_period > 0 {
            "CPU Period"
        } else {
            "CPU Quota"
        };
        return Err(Error::invalid(format!(
            "Conflicting options: Nano CPUs and {other} cannot both be set."
        )));
    }
    if asked.nano_cpus < 0 || asked.nano_cpus > count * 1_000_000_000 {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )));
    }
    if asked.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            asked.cpu_shares
        )));
    }
    if asked.cpu_period != 0 && !(1_000..=1_000_000).contains(&asked.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if asked.cpu_quota > 0 && asked.cpu_quota < 1_000 {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if (asked.cpu_realtime_period != 0 || asked.cpu_realtime_runtime != 0) && !host.realtime {
        return Err(Error::invalid("Your kernel does not support CPU real-time scheduler"));
    }
    Ok(())
}

fn check_cpuset(field: &str, what: &str, text: &str, available: &[u32]) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let wanted = parse_list(text).ok_or_else(|| Error::invalid(format!("Invalid value {text} for cpuset {field}")))?;
    if wanted.iter().all(|n| available.contains(n)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Requested {what} are not available - requested {text}, available: {}",
        print_list(available)
    )))
}

fn check_block_io(asked: &Resources) -> Result<()> {
    let weights = asked.blkio_weight_device.iter().flatten().map(|d| d.weight);
    if weights
        .chain([asked.blkio_weight])
        .any(|w| w != 0 && !(10..=1000).contains(&w))
    {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    Ok(())
}

/// Reads `0-3,5`; `None` when it is not such a list, or has more than 8,192 members.
pub(crate) fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        // Far larger numbers than any machine has would only cost memory here.
        if last < first || last - first >= 8_192 || all.len() > 8_192 {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

fn print_list(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &n in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    let texts: Vec<String> = ranges
        .iter()
        .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostLimits {
        HostLimits {
            cpus: vec![0, 1],
            memory_nodes: vec![0],
            swap: true,
            swappiness: true,
            oom_kill_disable: true,
            realtime: true,
        }
    }

    #[test]
    fn what_version_2_does_not_know_is_discarded_with_a_word_or_refused() {
        let v2 = HostLimits {
            swappiness: false,
            oom_kill_disable: false,
            realtime: false,
            ..host()
        };
        let wanted = Resources {
            memory_swappiness: Some(10),
            oom_kill_disable: Some(true),
            ..Resources::default()
        };
        let mut asked = wanted.clone();
        let warnings = check_resources(&mut asked, &v2).expect("valid");
        assert!(warnings[0].contains("swappiness") && warnings[1].contains("OomKillDisable"));
        assert_eq!((asked.memory_swappiness, asked.oom_kill_disable), (None, Some(false)));
        let mut asked = wanted.clone();
        assert_eq!(
            check_resources(&mut asked, &host()).expect("valid"),
            Vec::<String>::new()
        );
        assert_eq!(asked, wanted);
        let mut asked = Resources {
            cpu_realtime_runtime: 1000,
            ..Resources::default()
        };
        let refused = check_resources(&mut asked, &v2).expect_err("refused");
        assert!(refused.message().contains("real-time"));
        check_resources(&mut asked, &host()).expect("valid");
    }

    #[test]
    fn limits_out_of_range_are_refused_in_dockers_words() {
        let check = |asked: Resources, words: &str| {
            let err = check_resources(&mut asked.clone(), &host()).expect_err(words);
            assert!(err.message().contains(words), "{err}");
        };
        let r = Resources::default;
        check(
            Resources { memory: 1 << 20, ..r() },
            "Minimum memory limit allowed is 6MB",
        );
        check(
            Resources {
                memory: 32 << 20,
                memory_swap: 16 << 20,
                ..r()
            },
            "larger than memory limit",
        );
        check(
            Resources {
                memory_swap: 32 << 20,
                ..r()
            },
            "always set the Memory limit",
        );
        check(
            Resources {
                memory: 16 << 20,
                memory_reservation: 32 << 20,
                ..r()
            },
            "reservation",
        );
        check(Resources { nano_cpus: -1, ..r() }, "0.01 to 2.00");
        check(
            Resources {
                nano_cpus: 3_000_000_000,
                ..r()
            },
            "only 2 CPUs",
        );
        check(
            Resources {
                nano_cpus: 1,
                cpu_quota: 5000,
                ..r()
            },
            "Nano CPUs and CPU Quota",
        );
        check(Resources { cpu_period: 10, ..r() }, "cfs period");
        check(Resources { cpu_quota: 10, ..r() }, "cfs quota");
        check(
            Resources {
                cpuset_cpus: "a-b".into(),
                ..r()
            },
            "Invalid value a-b",
        );
        check(
            Resources {
                cpuset_cpus: "99999".into(),
                ..r()
            },
            "available: 0-1",
        );
        check(
            Resources {
                cpuset_mems: "x".into(),
                ..r()
            },
            "cpuset mems",
        );
        check(Resources { blkio_weight: 5, ..r() }, "10 to 1000");
    }

    #[test]
    fn swap_defaults_to_as_much_again() {
        let mut asked = Resources {
            memory: 100 << 20,
            ..Resources::default()
        };
        assert!(check_resources(&mut asked, &host()).expect("valid").is_empty());
        assert_eq!(asked.memory_swap, 200 << 20);
        let mut asked = Resources {
            memory: 100 << 20,
            ..Resources::default()
        };
        let warnings = check_resources(&mut asked, &HostLimits { swap: false, ..host() }).expect("valid");
        assert_eq!((warnings.len(), asked.memory_swap), (1, -1));
    }

    #[test]
    fn lists_read_and_print() {
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(print_list(&[0, 1, 2, 5]), "0-2,5");
        for wrong in ["", "1-", "3-1", "0-4000000000", "x"] {
            assert_eq!(parse_list(wrong), None, "{wrong:?}");
        }
    }
}
