//! The texts of the files: the host's, with what the container's limits leave of it. Pure.
//!
//! COMPAT: the shapes are the kernel's (proc(5)); what LXCFS shows for a system container was the guide for what each
//! figure means inside.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wharf_cgroup::{Capacity, Stats};

/// Units of processor time in `/proc/stat`: hundredths of a second.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// A container's measurements at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) capacity: Capacity,
    pub(super) stats: Stats,
    /// Seconds since the container was made.
    pub(super) uptime: f64,
    /// Exponentially damped processors in use over 1, 5 and 15 minutes.
    pub(super) loads: [f64; 3],
    /// Processors in use just now.
    pub(super) busy: f64,
}

impl Figures {
    /// The processors that are shown, of those that the host has.
    ///
    /// As many as the time that may be used would fill, at least one.
    pub(super) fn processors(&self, online: &[u16]) -> Vec<u16> {
        let cpus = &self.capacity.cpus;
        let is_allowed = |cpu: &&u16| cpus.is_empty() || cpus.contains(*cpu);
        let allowed = online.iter().filter(is_allowed).copied();
        allowed.take(self.most_processors()).collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, which is right for no limit"
    )]
    fn most_processors(&self) -> usize {
        (self.capacity.cpu_time.ceil() as usize).max(1)
    }

    fn used_ticks(&self) -> (u64, u64) {
        let cpu = &self.stats.cpu;
        let (user, system) = (cpu.user_ns / NANOSECONDS_PER_TICK, cpu.system_ns / NANOSECONDS_PER_TICK);
        (user, system)
    }
}

/// `/sys/devices/system/cpu/online`: as many as there are, numbered from 0.
pub(super) fn online(count: usize) -> String {
    match count {
        0 | 1 => "0\n".to_owned(),
        more => format!("0-{}\n", more - 1),
    }
}

/// `/proc/cpuinfo`: the host's descriptions of the processors shown, numbered anew.
pub(super) fn cpuinfo(host: &str, shown: &[u16]) -> String {
    let mut text = String::with_capacity(host.len());
    for block in host.split_inclusive("\n\n") {
        let number = block.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "processor").then(|| value.trim().parse::<u16>().ok())?
        });
        // What describes no processor describes the machine.
        let Some(number) = number else {
            text.push_str(block);
            continue;
        };
        let Some(place) = shown.iter().position(|cpu| *cpu == number) else {
            continue;
        };
        for line in block.split_inclusive('\n') {
            match line.split_once(':') {
                Some((key, _)) if key.trim() == "processor" => _ = writeln!(text, "{key}: {place}"),
                _ => text.push_str(line),
            }
        }
    }
    text
}

/// `/proc/stat`: the container's processor time, shared evenly among the processors shown; counters of the machine
/// (interrupts, switches, forks) are the host's.
pub(super) fn stat(host: &str, figures: &Figures, count: usize) -> String {
    let count = count.max(1) as u64;
    let (user, system) = figures.used_ticks();
    let existed = ticks(figures.uptime) * count;
    let idle = existed.saturating_sub(user + system);
    let line = |name: &str, part: u64| {
        let of = |ticks: u64| ticks / part;
        format!("{name} {} 0 {} {} 0 0 0 0 0 0\n", of(user), of(system), of(idle))
    };
    let mut text = line("cpu ", 1);
    for number in 0..count {
        text.push_str(&line(&format!("cpu{number}"), count));
    }
    for row in host.lines().filter(|row| !row.starts_with("cpu")) {
        let (key, value) = row.split_once(' ').unwrap_or((row, ""));
        match key {
            "btime" => _ = writeln!(text, "btime {}", value.trim().parse().unwrap_or(0) + host_age(figures)),
            "procs_running" => _ = writeln!(text, "procs_running {}", running(figures)),
            // Nobody counts a group's tasks that wait for devices.
            "procs_blocked" => {}
            _ => _ = writeln!(text, "{row}"),
        }
    }
    text
}

/// Seconds between the start of the host and that of the container.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole seconds of a positive time"
)]
fn host_age(figures: &Figures) -> u64 {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (since_boot.tv_sec as f64 - figures.uptime).max(0.0) as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "hundredths of a positive time"
)]
fn ticks(seconds: f64) -> u64 {
    (seconds * 100.0) as u64
}

/// Tasks that run, by the processors in use: whoever asks is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few processors"
)]
fn running(figures: &Figures) -> u64 {
    (figures.busy.round() as u64).max(1)
}

/// `/proc/uptime`: since the container was made, and the time its processors were not used.
pub(super) fn uptime(figures: &Figures, count: usize) -> String {
    let used = figures.stats.cpu.total_ns as f64 / 1e9;
    let idle = (figures.uptime * count.max(1) as f64 - used).max(0.0);
    format!("{:.2} {idle:.2}\n", figures.uptime)
}

/// `/proc/loadavg`: the processors that the container used; it waits for nothing else that could be counted.
pub(super) fn loadavg(figures: &Figures) -> String {
    let [one, five, fifteen] = figures.loads;
    let tasks = figures.stats.pids.current.max(1);
    let running = running(figures).min(tasks);
    format!("{one:.2} {five:.2} {fifteen:.2} {running}/{tasks} {tasks}\n")
}

/// Swap of the container, in bytes: how much it may use, how much it does.
fn swap(host: &BTreeMap<&str, u64>, figures: &Figures) -> (u64, u64) {
    let capacity = &figures.capacity;
    let host_total = host.get("SwapTotal").copied().unwrap_or(0);
    let beyond = match capacity.memory_and_swap {
        u64::MAX => host_total,
        both => both.saturating_sub(capacity.memory),
    };
    let total = beyond.min(host_total);
    (total, figures.stats.memory.swap_usage.min(total))
}

/// `/proc/swaps`: one area, as large as the container may swap.
pub(super) fn swaps(host_meminfo: &str, figures: &Figures) -> String {
    let (total, used) = swap(&parse_meminfo(host_meminfo), figures);
    let mut text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned();
    if total > 0 {
        let (total, used) = (total >> 10, used >> 10);
        _ = writeln!(text, "{:<40}virtual\t{total}\t\t{used}\t\t0", "none");
    }
    text
}

/// Values of `/proc/meminfo` in bytes; counts of pages are left out.
fn parse_meminfo(host: &str) -> BTreeMap<&str, u64> {
    let row = |line| {
        let (key, value): (&str, &str) = str::split_once(line, ':')?;
        let kilobytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some((key, kilobytes << 10))
    };
    host.lines().filter_map(row).collect()
}

fn host_value(machine: &BTreeMap<&str, u64>, key: &str) -> u64 {
    machine.get(key).copied().unwrap_or(u64::MAX)
}

/// `/proc/meminfo`: memory that the container may use and what is left of it. Lines whose meaning no group has a
/// figure for are left out; those that describe the machine (huge pages, address space) are the host's.
pub(super) fn meminfo(host: &str, figures: &Figures) -> String {
    let machine = parse_meminfo(host);
    let total = figures.capacity.memory.min(host_value(&machine, "MemTotal"));
    let used = figures.stats.memory.usage.min(total);
    let counted = |names: [&str; 2]| {
        let stat = &figures.stats.memory.stat;
        let found = names.iter().find_map(|name| stat.get(*name));
        found.copied().unwrap_or(0).min(total)
    };
    // Names on version 1, which count what is below too, then on version 2.
    let inactive_file = counted(["total_inactive_file", "inactive_file"]);
    let reclaimable = counted(["", "slab_reclaimable"]);
    let free = total - used;
    let (swap_total, swap_used) = swap(&machine, figures);
    let active = ["total_active_anon", "active_anon"];
    let inactive = ["total_inactive_anon", "inactive_anon"];
    let mut text = String::with_capacity(host.len());
    for line in host.lines() {
        let (key, rest) = line.split_once(':').unwrap_or((line, ""));
        let bytes = match key {
            "MemTotal" => total,
            // A host that has less left is not hidden.
            "MemFree" => free.min(host_value(&machine, key)),
            "MemAvailable" => (free + inactive_file + reclaimable)
                .min(total)
                .min(host_value(&machine, key)),
            "Buffers" | "SwapCached" => 0,
            "Cached" => counted(["total_cache", "file"]),
            "Active" => counted(active) + counted(["total_active_file", "active_file"]),
            "Inactive" => counted(inactive) + inactive_file,
            "Active(anon)" => counted(active),
            "Inactive(anon)" => counted(inactive),
            "Active(file)" => counted(["total_active_file", "active_file"]),
            "Inactive(file)" => inactive_file,
            "Unevictable" => counted(["total_unevictable", "unevictable"]),
            "SwapTotal" => swap_total,
            "SwapFree" => swap_total - swap_used,
            "Dirty" => counted(["total_dirty", "file_dirty"]),
            "Writeback" => counted(["total_writeback", "file_writeback"]),
            "AnonPages" => counted(["total_rss", "anon"]),
            "Mapped" => counted(["total_mapped_file", "file_mapped"]),
            "Shmem" => counted(["total_shmem", "shmem"]),
            "Slab" => counted(["", "slab"]),
            "SReclaimable" | "KReclaimable" => reclaimable,
            "SUnreclaim" => counted(["", "slab_unreclaimable"]),
            "KernelStack" => counted(["", "kernel_stack"]),
            "PageTables" => counted(["", "pagetables"]),
            _ if key.starts_with("Huge") || key.starts_with("Vmalloc") || key.starts_with("DirectMap") => {
                _ = writeln!(text, "{key}:{rest}");
                continue;
            }
            _ => continue,
        };
        _ = writeln!(text, "{:<16}{:>8} kB", format!("{key}:"), bytes >> 10);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures {
            uptime: 10.0,
            loads: [0.5, 0.25, 0.125],
            busy: 1.6,
            ..Figures::default()
        };
        figures.capacity.cpu_time = 1.5;
        figures.capacity.memory = 64 << 20;
        figures.capacity.memory_and_swap = 96 << 20;
        figures.stats.cpu.user_ns = 3_000_000_000;
        figures.stats.cpu.system_ns = 1_000_000_000;
        figures.stats.cpu.total_ns = 4_000_000_000;
        figures.stats.memory.usage = 24 << 20;
        figures.stats.memory.swap_usage = 1 << 20;
        figures.stats.memory.stat = [("inactive_file".to_owned(), 4 << 20), ("file".to_owned(), 8 << 20)].into();
        figures.stats.pids.current = 7;
        figures
    }

    #[test]
    fn a_quota_shows_as_many_processors_as_it_fills_of_those_allowed() {
        let mut f = figures();
        assert_eq!(f.processors(&[0, 1, 2, 3]), [0, 1]);
        f.capacity.cpus = vec![1, 3];
        assert_eq!(f.processors(&[0, 1, 2, 3]), [1, 3]);
        f.capacity.cpu_time = 0.1;
        assert_eq!(f.processors(&[0, 1, 2, 3]), [1]);
        f.capacity.cpu_time = f64::INFINITY;
        assert_eq!(f.processors(&[0, 1, 2, 3]), [1, 3]);
        assert_eq!((online(1), online(4)), ("0\n".into(), "0-3\n".into()));
    }

    #[test]
    fn processors_are_numbered_anew() {
        let host = "processor\t: 0\nflags\t\t: a:b\n\nprocessor\t: 1\nflags\t\t: c\n\nHardware\t: x\n";
        let expected = "processor\t: 0\nflags\t\t: c\n\nHardware\t: x\n";
        assert_eq!(cpuinfo(host, &[1]), expected);
    }

    #[test]
    fn time_of_the_container_is_shared_among_the_processors_shown() {
        let host = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 9 9 9 9 9 9 9 9 9 9\nintr 5 6\nctxt 7\nbtime 1000\nprocesses 8\n\
                    procs_running 99\nprocs_blocked 3\nsoftirq 1\n";
        let text = stat(host, &figures(), 2);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "cpu  300 0 100 1600 0 0 0 0 0 0");
        assert_eq!(lines[1], "cpu0 150 0 50 800 0 0 0 0 0 0");
        assert_eq!(lines[2], "cpu1 150 0 50 800 0 0 0 0 0 0");
        assert_eq!(&lines[3..5], ["intr 5 6", "ctxt 7"]);
        assert_eq!(&lines[6..], ["processes 8", "procs_running 2", "softirq 1"]);
    }

    #[test]
    fn time_and_load_are_the_container_s() {
        assert_eq!(uptime(&figures(), 2), "10.00 16.00\n");
        assert_eq!(loadavg(&figures()), "0.50 0.25 0.12 2/7 7\n");
    }

    #[test]
    fn memory_is_what_the_limit_leaves() {
        let host = "MemTotal:       24000000 kB\nMemFree:        20000000 kB\nMemAvailable:   22000000 kB\n\
                    Cached:          1000000 kB\nSwapTotal:         16384 kB\nSwapFree:           8192 kB\n\
                    NFS_Unstable:          0 kB\nHugePages_Total:       3\n";
        let text = meminfo(host, &figures());
        let value = |key: &str| parse_meminfo(&text).get(key).map(|bytes| bytes >> 10);
        assert_eq!(value("MemTotal"), Some(65536));
        assert_eq!(value("MemFree"), Some(40960));
        assert_eq!(value("MemAvailable"), Some(45056));
        assert_eq!(value("Cached"), Some(8192));
        // The host has less swap than the container may use.
        assert_eq!((value("SwapTotal"), value("SwapFree")), (Some(16384), Some(15360)));
        assert_eq!(value("NFS_Unstable"), None);
        assert!(text.contains("HugePages_Total:       3\n"));
        assert!(text.starts_with("MemTotal:          65536 kB\n"), "{text}");
        assert_eq!(swaps(host, &figures()).lines().count(), 2);
    }

    #[test]
    fn without_limits_the_machine_is_seen() {
        let mut f = figures();
        f.capacity = Capacity::default();
        let text = meminfo("MemTotal:       1000 kB\nMemFree: 1 kB\n", &f);
        assert_eq!(text, "MemTotal:           1000 kB\nMemFree:               0 kB\n");
        assert_eq!(swaps("SwapTotal: 0 kB\n", &f).lines().count(), 1);
    }
}
