//! Real-time processor time, which version 1 hands down: a group can give those below it no more than it was given
//! itself, and a new group has none (sched-rt-group.txt of the kernel). Kernels without CONFIG_RT_GROUP_SCHED, and
//! version 2, know no such limit.

use std::ffi::OsStr;

use crate::dir::Dir;
use crate::error::CgroupError;
use crate::group::Cgroup;
use crate::hierarchy::Controller;

const RUNTIME: &str = "cpu.rt_runtime_us";
const PERIOD: &str = "cpu.rt_period_us";

/// Parts of a processor that the kernel counts in.
const WHOLE: u128 = 1 << 20;

/// The kernel's period of a group that was asked for none, in microseconds.
const USUAL_PERIOD_US: u64 = 1_000_000;

/// What a group is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realtime {
    /// Its name below the group that gives.
    pub child: String,
    /// Time in every period, in microseconds.
    pub runtime_us: i64,
    /// The period, in microseconds; the kernel's if absent.
    pub period_us: Option<u64>,
}

impl Cgroup {
    /// Gives this group what it lacks for those named to have their time beside the others that are below it already.
    /// Takes nothing back, and does nothing where the kernel does not count it.
    ///
    /// # Errors
    /// [`CgroupError::Write`] if the group above has no more to give, [`CgroupError::Read`].
    pub fn ensure_realtime(&self, wanted: &[Realtime]) -> Result<(), CgroupError> {
        let Some(dir) = self.branch(Controller::Cpu) else {
            return Ok(());
        };
        let Some((has, period)) = read(&dir)? else {
            return Ok(());
        };
        let shares = wanted
            .iter()
            .map(|each| share(each.runtime_us, each.period_us.unwrap_or(USUAL_PERIOD_US)));
        let mut parts: u128 = shares.sum();
        for other in dir.children()? {
            let is_other = |each: &Realtime| other.path().file_name() != Some(OsStr::new(&each.child));
            if wanted.iter().all(is_other) {
                // One that is gone by now has none.
                parts += read(&other)?.map_or(0, |(runtime, period)| share(runtime, period));
            }
        }
        let needed = (parts * u128::from(period)).div_ceil(WHOLE);
        if has < 0 || u128::try_from(has).is_ok_and(|has| has >= needed) {
            return Ok(());
        }
        dir.write(RUNTIME, &needed.to_string())
    }
}

/// Runtime and period of a group; nothing where the kernel does not count them.
fn read(dir: &Dir) -> Result<Option<(i64, u64)>, CgroupError> {
    let runtime = dir.read(RUNTIME)?.and_then(|text| text.trim().parse().ok());
    let period = dir.read(PERIOD)?.and_then(|text| text.trim().parse().ok());
    Ok(runtime.zip(period))
}

/// Part of a processor, as the kernel rounds it; all of it without a limit.
fn share(runtime_us: i64, period_us: u64) -> u128 {
    match u128::try_from(runtime_us) {
        Ok(runtime) => runtime * WHOLE / u128::from(period_us.max(1)),
        Err(_) => WHOLE,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::hierarchy::Hierarchy;

    fn tree(root: &Path, groups: &[(&str, &str, &str)]) -> Cgroup {
        for (name, runtime, period) in groups {
            std::fs::create_dir_all(root.join(name)).expect("a directory");
            std::fs::write(root.join(name).join(RUNTIME), runtime).expect("a file");
            std::fs::write(root.join(name).join(PERIOD), period).expect("a file");
        }
        let hierarchy = Hierarchy::v1_at([(root.to_owned(), vec![Controller::Cpu])]);
        Cgroup::create(&hierarchy, "/n").expect("the group")
    }

    fn given(groups: &[(&str, &str, &str)], (runtime_us, period_us): (i64, Option<u64>)) -> String {
        let root = tempfile::tempdir().expect("a directory");
        let group = tree(root.path(), groups);
        let wanted = |child: &str| Realtime {
            child: child.to_owned(),
            runtime_us,
            period_us,
        };
        group.ensure_realtime(&[wanted("child"), wanted("next")]).expect("room");
        std::fs::read_to_string(root.path().join("n").join(RUNTIME)).unwrap_or_default()
    }

    #[test]
    fn a_group_gets_what_those_below_it_need_together() {
        let alone = [("n", "0", "1000000\n")];
        let others = [
            ("n", "0", "1000000"),
            ("n/other", "20000", "100000"),
            ("n/child", "5", "10"),
        ];
        for (groups, wanted, gets) in [
            (&alone[..], (250_000, None), "500000"),
            (&alone, (25_000, Some(100_000)), "500000"),
            (&others, (250_000, None), "700000"),
            (&[("n", "600000", "1000000")], (250_000, None), "600000"),
            (&[("n", "-1", "1000000")], (250_000, None), "-1"),
        ] {
            let found: i64 = given(groups, wanted).parse().expect("a number");
            let gets: i64 = gets.parse().expect("a number");
            assert!((gets - 1..=gets).contains(&found), "{groups:?} {wanted:?}: {found}");
        }
    }

    #[test]
    fn nothing_happens_where_the_kernel_does_not_count_it() {
        assert_eq!(given(&[], (1000, None)), "");
    }
}
