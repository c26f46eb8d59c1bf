//! What the embedded image `hello` runs: it tells what the container sees, and nothing else.
//!
//! Everything comes from `/proc` and `/sys` of the container itself; whatever is not there is said
//! to be missing.

use std::fmt::Write as _;
use std::fs::read_to_string;
use std::net::{Ipv4Addr, Ipv6Addr};

use wharf_sys::caps::NAMES;

/// Prints the explanation; returns the exit code.
pub fn run() -> i32 {
    println!("{}", report());
    0
}

fn report() -> String {
    let mut text = String::from(
        "Hello from Wharf!\n\n\
         This is a small static program in a container of its own. The engine took it from\n\
         an image, gave it namespaces and a cgroup, and started it. What it can see:\n\n",
    );
    let facts = [
        ("process id", process_id()),
        ("hostname", read("/proc/sys/kernel/hostname")),
        ("user", user()),
        ("mounts", mounts(&read("/proc/self/mountinfo"))),
        (
            "memory",
            limit(&["memory.max", "memory/memory.limit_in_bytes"], memory_text),
        ),
        ("processors", processors()),
        ("processes", limit(&["pids.max", "pids/pids.max"], count_text)),
        ("capabilities", capabilities(&read("/proc/self/status"))),
        ("system calls", seccomp(&read("/proc/self/status"))),
        ("addresses", addresses()),
    ];
    for (name, value) in facts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<13} {value}");
    }
    text.push_str(
        "\nTo go on:\n  wharf run --rm -it IMAGE sh      a shell in an image of your choice\n  \
         wharf build -t NAME .            an image from a Dockerfile\n",
    );
    text
}

fn read(path: &str) -> String {
    read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .unwrap_or_default()
}

fn process_id() -> String {
    let pid = std::process::id();
    let others = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let others = others.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .parse::<u32>()
            .is_ok_and(|other| other != pid)
    });
    match (pid, others.count()) {
        (1, 0) => "1: the first process of its pid namespace, and the only one".to_owned(),
        (1, count) => format!("1: the first process of its pid namespace, with {count} others"),
        (pid, count) => format!("{pid}, beside {count} others"),
    }
}

fn user() -> String {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let map = read("/proc/self/uid_map");
    let is_mapped = !map.split_whitespace().eq(["0", "0", "4294967295"]);
    let namespace = if is_mapped {
        "mapped to another on the host"
    } else {
        "the same on the host"
    };
    format!("uid {uid}, gid {gid} ({namespace})")
}

/// The root's file system, how many mounts there are, and which the user asked for.
fn mounts(table: &str) -> String {
    let fields = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        Some((head.split(' ').nth(4)?.to_owned(), tail.split(' ').next()?.to_owned()))
    };
    let all: Vec<(String, String)> = table.lines().filter_map(fields).collect();
    let root = all
        .iter()
        .rev()
        .find(|(point, _)| point == "/")
        .map_or("unknown", |(_, kind)| kind);
    let is_own = |point: &str| ["/proc", "/sys", "/dev"].iter().any(|own| point.starts_with(own)) || point == "/";
    let extra: Vec<&str> = all
        .iter()
        .map(|(point, _)| point.as_str())
        .filter(|point| !is_own(point))
        .collect();
    let extra = if extra.is_empty() {
        String::new()
    } else {
        format!(", among them {}", extra.join(", "))
    };
    format!("root is {root}, {} mounts{extra}", all.len())
}

/// The first of some cgroup files that is there.
fn limit(files: &[&str], spell: fn(u64) -> String) -> String {
    let found = files
        .iter()
        .find_map(|file| read_to_string(format!("/sys/fs/cgroup/{file}")).ok());
    match found.as_deref().map(str::trim) {
        None => "unknown (no cgroup is mounted here)".to_owned(),
        Some("max") => "no limit".to_owned(),
        Some(number) => number.parse().map_or_else(|_| number.to_owned(), spell),
    }
}

fn memory_text(bytes: u64) -> String {
    // Version 1 has no word for it, only the highest multiple of a page.
    if bytes > 1 << 60 {
        "no limit".to_owned()
    } else {
        format!("at most {} MiB", bytes >> 20)
    }
}

fn count_text(count: u64) -> String {
    format!("at most {count}")
}

fn processors() -> String {
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let v2 = read_to_string("/sys/fs/cgroup/cpu.max").ok();
    let v1 = || {
        let quota = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
        let period = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
        Some(format!("{quota} {period}"))
    };
    match v2.or_else(v1).as_deref().and_then(share_of_time) {
        None => format!("{count}"),
        Some(share) => format!("{count}, {share} of their time"),
    }
}

/// Quota by period; none for an unlimited quota.
fn share_of_time(text: &str) -> Option<String> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    let hundredths = (quota * 100).checked_div(period)?;
    Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn capabilities(status: &str) -> String {
    let bits = status_field(status, "CapEff").and_then(|bits| u64::from_str_radix(bits, 16).ok());
    let Some(bits) = bits else { return "unknown".to_owned() };
    let names: Vec<&str> = (0u32..)
        .zip(NAMES)
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, name)| name)
        .collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count == NAMES.len() => "all of them".to_owned(),
        count => format!("{count} of {}: {}", NAMES.len(), names.join(" ").to_ascii_lowercase()),
    }
}

fn seccomp(status: &str) -> String {
    let filter = match status_field(status, "Seccomp") {
        Some("2") => "filtered",
        Some("0") => "not filtered",
        _ => "unknown",
    };
    let privileges = match status_field(status, "NoNewPrivs") {
        Some("1") => ", no new privileges",
        _ => "",
    };
    format!("{filter}{privileges}")
}

fn addresses() -> String {
    let mut found: Vec<String> = ipv4_addresses(&read("/proc/net/fib_trie"))
        .into_iter()
        .map(|address| address.to_string())
        .collect();
    found.extend(
        ipv6_addresses(&read("/proc/net/if_inet6"))
            .into_iter()
            .map(|(address, name)| format!("{address} ({name})")),
    );
    if found.is_empty() {
        "none: no interface has one".to_owned()
    } else {
        found.join(", ")
    }
}

/// Addresses that belong to this host: in the kernel's tree they stand before `/32 host LOCAL`.
fn ipv4_addresses(tree: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in tree.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

fn ipv6_addresses(table: &str) -> Vec<(Ipv6Addr, &str)> {
    let parse = |line| -> Option<(Ipv6Addr, &str)> {
        let mut fields = str::split_whitespace(line);
        let bits = u128::from_str_radix(fields.next()?, 16).ok()?;
        Some((Ipv6Addr::from_bits(bits), fields.last()?))
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named() {
        assert_eq!(capabilities("CapEff:\t0000000000000021"), "2 of 41: chown kill");
        assert_eq!(capabilities("CapEff:\t000001ffffffffff"), "all of them");
        assert_eq!(capabilities("CapEff:\t0000000000000000"), "none");
        assert_eq!(capabilities(""), "unknown");
    }

    #[test]
    fn addresses_are_found_once_and_loopback_among_them() {
        let tree = "Main:\n  |-- 127.0.0.0\n     /8 host LOCAL\n  |-- 127.0.0.1\n     /32 host LOCAL\n  |-- 172.17.0.2\n     /32 host LOCAL\nLocal:\n  |-- 172.17.0.2\n     /32 host LOCAL\n  |-- 172.17.255.255\n     /32 link BROADCAST\n";
        assert_eq!(
            ipv4_addresses(tree),
            [Ipv4Addr::LOCALHOST, Ipv4Addr::new(172, 17, 0, 2)]
        );
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(ipv6_addresses(table), [(Ipv6Addr::LOCALHOST, "lo")]);
    }

    #[test]
    fn mounts_name_the_root_and_what_was_added() {
        let table = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /proc rw - proc proc rw\n3 1 8:1 /v /data rw - ext4 /dev/sda rw";
        assert_eq!(mounts(table), "root is overlay, 3 mounts, among them /data");
    }

    #[test]
    fn a_share_of_time_is_a_fraction() {
        assert_eq!(share_of_time("150000 100000"), Some("1.50".to_owned()));
        assert_eq!(share_of_time("max 100000"), None);
        assert_eq!(share_of_time("-1 100000"), None);
    }

    #[test]
    fn the_report_holds_on_any_host() {
        let text = report();
        assert!(text.starts_with("Hello from Wharf!"));
        assert!(text.contains("hostname") && text.contains("addresses"));
    }
}
