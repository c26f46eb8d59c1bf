//! Pure parsers of the kernel's texts. A field that is missing or malformed counts as absent.

use std::collections::BTreeMap;

use crate::stats::BlkioEntry;

/// A single number; `max` and -1 are unlimited.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "-1" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Limits of v1 are page counts in disguise: near the top of the range means unlimited.
pub(crate) fn parse_v1_limit(text: &str) -> Option<u64> {
    const UNLIMITED_FROM: u64 = (i64::MAX as u64) & !0xffff;
    parse_number(text).map(|limit| if limit >= UNLIMITED_FROM { u64::MAX } else { limit })
}

/// Lines of `key value`.
pub(crate) fn parse_flat_keyed(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// One key of a flat keyed file.
pub(crate) fn parse_keyed(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}

/// Process ids, one per line; 0 stands for processes of other pid namespaces and is left out.
pub(crate) fn parse_pids(text: &str) -> impl Iterator<Item = u32> {
    text.lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|pid| *pid != 0)
}

/// `cpuacct.usage_all`: nanoseconds in user and in kernel mode for each processor.
pub(crate) fn parse_usage_all(text: &str) -> Vec<(u64, u64)> {
    let row = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// Numbers in one line.
pub(crate) fn parse_list(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Lines of `major:minor Op value` (v1); the closing total is left out, as it names no device.
pub(crate) fn parse_v1_blkio(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = parse_device(words.next()?)?;
        let second = words.next()?;
        let (op, value) = match words.next() {
            Some(value) => (second, value),
            None => ("", second),
        };
        Some(BlkioEntry {
            major,
            minor,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// `io.stat` (v2): bytes and operations by device.
pub(crate) fn parse_io_stat(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(parse_device) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "read"),
                "wbytes" => (&mut bytes, "write"),
                "rios" => (&mut operations, "read"),
                "wios" => (&mut operations, "write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                list.push(BlkioEntry {
                    major,
                    minor,
                    op: op.to_owned(),
                    value,
                });
            }
        }
    }
    (bytes, operations)
}

/// `cpu.max`: quota (none if unlimited) and period.
pub(crate) fn parse_cpu_max(text: &str) -> Option<(Option<u64>, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((quota.parse().ok(), period.parse().ok()?))
}

/// `/proc/<pid>/cgroup`: path by controller name; the v2 line under the empty name.
pub(crate) fn parse_proc_cgroup(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(names), Some(path)) = (fields.next(), fields.next()) {
            found.extend(names.split(',').map(|name| (name, path)));
        }
    }
    found
}

fn parse_device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlimited_has_three_spellings() {
        assert_eq!(parse_number("max\n"), Some(u64::MAX));
        assert_eq!(parse_number("-1\n"), Some(u64::MAX));
        assert_eq!(parse_v1_limit("9223372036854771712\n"), Some(u64::MAX));
        assert_eq!(parse_v1_limit("33554432\n"), Some(32 << 20));
        assert_eq!(parse_number("lots"), None);
    }

    #[test]
    fn keyed_files_are_read_by_whole_keys() {
        let text = "oom_kill_disable 0\nunder_oom 1\noom_kill 3\n";
        assert_eq!(parse_keyed(text, "oom_kill"), Some(3));
        assert_eq!(parse_keyed(text, "under"), None);
        assert_eq!(
            parse_flat_keyed("a 1\nb two\nc 3 \n"),
            BTreeMap::from([("a".into(), 1), ("c".into(), 3)])
        );
    }

    #[test]
    fn v1_block_counters_leave_the_total_out() {
        let text = "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288\n";
        let found = parse_v1_blkio(text);
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[1],
            BlkioEntry {
                major: 8,
                minor: 0,
                op: "Write".into(),
                value: 8192
            }
        );
        assert_eq!(parse_v1_blkio("8:16 77\n")[0].op, "");
    }

    #[test]
    fn v2_block_counters_are_split_into_bytes_and_operations() {
        let (bytes, operations) = parse_io_stat("254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 \n");
        assert_eq!(bytes.iter().map(|entry| entry.value).collect::<Vec<_>>(), [10, 20]);
        assert_eq!(
            operations
                .iter()
                .map(|entry| (entry.op.as_str(), entry.value))
                .collect::<Vec<_>>(),
            [("read", 1), ("write", 2)]
        );
    }

    #[test]
    fn usage_per_processor_is_read_from_the_combined_file() {
        assert_eq!(parse_usage_all("cpu user system\n0 5 6\n1 7 8\n"), [(5, 6), (7, 8)]);
    }

    #[test]
    fn cpu_max_knows_no_limit() {
        assert_eq!(parse_cpu_max("max 100000\n"), Some((None, 100_000)));
        assert_eq!(parse_cpu_max("50000 100000\n"), Some((Some(50_000), 100_000)));
        assert_eq!(parse_cpu_max("100000\n"), None);
    }

    #[test]
    fn a_process_is_found_by_controller_even_when_its_path_has_colons() {
        let found = parse_proc_cgroup("3:cpu,cpuacct:/a:b\n1:name=systemd:/c\n0::/d\n");
        assert_eq!(
            found,
            [("cpu", "/a:b"), ("cpuacct", "/a:b"), ("name=systemd", "/c"), ("", "/d")]
        );
    }
}
