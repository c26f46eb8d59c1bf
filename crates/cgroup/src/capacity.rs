//! What a group may use at most: its limits as they stand now, those of the groups around it included.

use std::path::Path;

use crate::details::parse_ids;
use crate::dir::Dir;
use crate::error::CgroupError;
use crate::hierarchy::Controller;
use crate::parse;
use crate::v1::Existing;

/// The most that a group may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    /// Numbers of the processors it may run on; empty where nothing limits that.
    pub cpus: Vec<u16>,
    /// Processors' worth of time it gets; infinite without a limit.
    pub cpu_time: f64,
    /// Bytes of memory; `u64::MAX` without a limit.
    pub memory: u64,
    /// Bytes of memory and swap together; `u64::MAX` without a limit.
    pub memory_and_swap: u64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            cpus: Vec::new(),
            cpu_time: f64::INFINITY,
            memory: u64::MAX,
            memory_and_swap: u64::MAX,
        }
    }
}

/// Reads it on version 1; `mount_of` names the top of a controller's hierarchy.
pub(crate) fn read_v1(
    existing: &Existing<'_>,
    mount_of: &dyn Fn(Controller) -> Option<std::path::PathBuf>,
) -> Result<Capacity, CgroupError> {
    let mut capacity = Capacity::default();
    if let Some(dir) = existing(Controller::Cpuset) {
        capacity.cpus = match dir.read("cpuset.effective_cpus")? {
            Some(text) => parse_ids(&text),
            None => parse_ids(&dir.read("cpuset.cpus")?.unwrap_or_default()),
        };
    }
    if let Some(dir) = existing(Controller::Memory) {
        let text = dir.read("memory.stat")?.unwrap_or_default();
        let limit = |key| {
            let number = parse::parse_keyed(&text, key)?;
            parse::parse_v1_limit(&number.to_string())
        };
        capacity.memory = limit("hierarchical_memory_limit").unwrap_or(u64::MAX);
        // KERNEL: without accounting of swap there is no such line.
        capacity.memory_and_swap = limit("hierarchical_memsw_limit").unwrap_or(u64::MAX);
    }
    if let (Some(dir), Some(top)) = (existing(Controller::Cpu), mount_of(Controller::Cpu)) {
        let bandwidth = |dir: &Dir| -> Result<f64, CgroupError> {
            let quota = dir.read("cpu.cfs_quota_us")?.unwrap_or_default();
            let period = dir.read("cpu.cfs_period_us")?.unwrap_or_default();
            Ok(share(quota.trim().parse().ok(), period.trim().parse().ok()))
        };
        capacity.cpu_time = least(dir.path(), &top, &bandwidth)?;
    }
    Ok(capacity)
}

/// Reads it on version 2, whose hierarchy has its top at `top`.
pub(crate) fn read_v2(dir: &Dir, top: &Path) -> Result<Capacity, CgroupError> {
    let number = |dir: &Dir, file: &str| -> Result<f64, CgroupError> {
        let text = dir.read(file)?;
        let limit = text.as_deref().and_then(parse::parse_number).unwrap_or(u64::MAX);
        Ok(from_bytes(limit))
    };
    let bandwidth = |dir: &Dir| -> Result<f64, CgroupError> {
        let text = dir.read("cpu.max")?.unwrap_or_default();
        let (quota, period) = parse::parse_cpu_max(&text).unwrap_or((None, 0));
        Ok(share(quota, Some(period)))
    };
    let memory = least(dir.path(), top, &|dir| number(dir, "memory.max"))?;
    let swap = least(dir.path(), top, &|dir| number(dir, "memory.swap.max"))?;
    Ok(Capacity {
        cpus: parse_ids(&dir.read("cpuset.cpus.effective")?.unwrap_or_default()),
        cpu_time: least(dir.path(), top, &bandwidth)?,
        memory: to_bytes(memory),
        memory_and_swap: to_bytes(memory + swap),
    })
}

/// Processors' worth of time in a quota of a period.
#[expect(clippy::cast_precision_loss, reason = "microseconds of at most a second each")]
fn share(quota_us: Option<u64>, period_us: Option<u64>) -> f64 {
    match (quota_us, period_us) {
        (Some(quota), Some(period)) if quota > 0 && period > 0 => quota as f64 / period as f64,
        _ => f64::INFINITY,
    }
}

/// Sizes are compared and added as numbers that know infinity.
#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
fn from_bytes(bytes: u64) -> f64 {
    if bytes == u64::MAX { f64::INFINITY } else { bytes as f64 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and infinity becomes the largest number"
)]
fn to_bytes(number: f64) -> u64 {
    number as u64
}

/// The least that a limit allows, from a group up to the top of its hierarchy.
fn least(group: &Path, top: &Path, limit: &dyn Fn(&Dir) -> Result<f64, CgroupError>) -> Result<f64, CgroupError> {
    let mut least = f64::INFINITY;
    for path in group.ancestors().take_while(|path| path.starts_with(top)) {
        if let Some(dir) = Dir::open(path.to_path_buf())? {
            least = least.min(limit(&dir)?);
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            std::fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_counts() {
        let root = tree(&[
            ("cpu.max", "max 100000\n"),
            ("a/cpu.max", "50000 100000\n"),
            ("a/memory.max", "1000\n"),
            ("a/memory.swap.max", "max\n"),
            ("a/b/cpu.max", "150000 100000\n"),
            ("a/b/memory.max", "4000\n"),
            ("a/b/memory.swap.max", "500\n"),
            ("a/b/cpuset.cpus.effective", "0,2-3\n"),
        ]);
        let dir = Dir::open(root.path().join("a/b")).expect("open").expect("there");
        let capacity = read_v2(&dir, root.path()).expect("capacity");
        let expected = Capacity {
            cpus: vec![0, 2, 3],
            cpu_time: 0.5,
            memory: 1000,
            memory_and_swap: 1500,
        };
        assert_eq!(capacity, expected);
    }

    #[test]
    fn what_is_not_limited_has_no_end() {
        let root = tree(&[
            ("c/cpu.cfs_quota_us", "-1\n"),
            ("c/cpu.cfs_period_us", "100000\n"),
            (
                "c/memory.stat",
                "cache 1\nhierarchical_memory_limit 9223372036854771712\n",
            ),
        ]);
        let open = |_| {
            let dir = Dir::open(root.path().join("c")).expect("open").expect("there");
            Some(std::sync::Arc::new(dir))
        };
        let capacity = read_v1(&open, &|_| Some(root.path().to_path_buf())).expect("capacity");
        assert_eq!(capacity, Capacity::default());
    }
}
