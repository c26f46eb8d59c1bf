//! Limits beside the properties they become.

use super::*;
use crate::resources::{BlockIo, Cpuset};

fn plan(version: Version, resources: &Resources, systemd: u32) -> Vec<(String, Value)> {
    let mut all = plan_properties(version, resources, systemd).expect("properties");
    all.retain(|(name, _)| !name.ends_with("Accounting"));
    all
}

fn limits() -> Resources {
    Resources {
        cpu: Cpu {
            shares: Some(1024),
            quota_us: Some(33_333),
            period_us: Some(100_000),
            ..Cpu::default()
        },
        cpuset: Cpuset {
            cpus: Some("0-1,9".into()),
            mems: Some("0".into()),
        },
        memory: Memory {
            limit: Some(100 << 20),
            reservation: Some(50 << 20),
            swap: Some(150 << 20),
            ..Memory::default()
        },
        pids_limit: Some(20),
        io: BlockIo {
            weight: Some(100),
            ..BlockIo::default()
        },
        ..Resources::default()
    }
}

fn numbers(all: &[(String, Value)]) -> Vec<(&str, u64)> {
    all.iter()
        .filter_map(|(name, value)| match value {
            Value::Uint64(number) => Some((name.as_str(), *number)),
            _ => None,
        })
        .collect()
}

#[test]
fn limits_have_the_words_of_each_version() {
    let all = plan(Version::V1, &limits(), 252);
    let expected = [
        ("CPUShares", 1024),
        ("MemoryLimit", 100 << 20),
        ("BlockIOWeight", 100),
        ("CPUQuotaPeriodUSec", 100_000),
        ("CPUQuotaPerSecUSec", 340_000),
        ("TasksMax", 20),
    ];
    assert_eq!(numbers(&all), expected);
    let all = plan(Version::V2, &limits(), 252);
    let expected = [
        ("CPUWeight", 100),
        ("MemoryMax", 100 << 20),
        ("MemoryLow", 50 << 20),
        ("MemorySwapMax", 50 << 20),
        ("IOWeight", 910),
        ("CPUQuotaPeriodUSec", 100_000),
        ("CPUQuotaPerSecUSec", 340_000),
        ("TasksMax", 20),
    ];
    assert_eq!(numbers(&all), expected);
    let cpus = Value::Array("y".into(), vec![Value::Byte(3), Value::Byte(2)]);
    assert!(all.contains(&("AllowedCPUs".into(), cpus)), "{all:?}");
}

#[test]
fn an_old_systemd_is_not_told_what_it_does_not_know() {
    let all = plan(Version::V2, &limits(), 241);
    let unknown = ["CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes"];
    assert!(!all.iter().any(|(name, _)| unknown.contains(&name.as_str())), "{all:?}");
}

#[test]
fn no_limit_is_the_greatest_number() {
    let resources = Resources {
        cpu: Cpu {
            quota_us: Some(-1),
            ..Cpu::default()
        },
        memory: Memory {
            limit: Some(-1),
            ..Memory::default()
        },
        pids_limit: Some(-1),
        ..Resources::default()
    };
    let all = plan(Version::V2, &resources, 252);
    assert!(
        all.iter().all(|(_, value)| *value == Value::Uint64(u64::MAX)),
        "{all:?}"
    );
    assert_eq!(all.len(), 4);
}

#[test]
fn files_of_version_2_have_words_too() {
    let check = |file: &str, value: &str, expected: &[(&str, u64)]| {
        let resources = Resources {
            unified: [(file.to_owned(), value.to_owned())].into(),
            ..Resources::default()
        };
        assert_eq!(numbers(&plan(Version::V2, &resources, 252)), expected, "{file} {value}");
    };
    check("memory.high", "max", &[("MemoryHigh", u64::MAX)]);
    check("pids.max", "7\n", &[("TasksMax", 7)]);
    check(
        "cpu.max",
        "50000 100000",
        &[("CPUQuotaPeriodUSec", 100_000), ("CPUQuotaPerSecUSec", 500_000)],
    );
    check(
        "cpu.max",
        "max",
        &[("CPUQuotaPeriodUSec", 100_000), ("CPUQuotaPerSecUSec", u64::MAX)],
    );
    check("memory.oom.group", "1", &[]);
    let wrong = Resources {
        unified: [("memory.max".to_owned(), "much".to_owned())].into(),
        ..Resources::default()
    };
    let error = plan_properties(Version::V2, &wrong, 252).map_err(|error| error.to_string());
    let expected = "linux.resources.unified[\"memory.max\"]: \"much\" is no value for it";
    assert_eq!(error.map(|_| ()), Err(expected.to_owned()));
}

fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>) -> DeviceRule {
    DeviceRule {
        allow,
        kind,
        major,
        minor,
        access: DeviceAccess::ALL,
    }
}

#[test]
fn device_rules_become_a_list_of_what_is_allowed() {
    let rules = [
        rule(true, DeviceKind::Char, Some(9), Some(9)),
        rule(false, DeviceKind::All, None, None),
        rule(true, DeviceKind::Char, Some(1), Some(3)),
        rule(true, DeviceKind::Block, None, None),
    ];
    let item = |name: &str| Value::Tuple(vec![Value::text(name), Value::text("rwm")]);
    let expected = vec![
        ("DevicePolicy".to_owned(), Value::text("strict")),
        (
            "DeviceAllow".to_owned(),
            Value::Array("(ss)".into(), vec![item("/dev/char/1:3"), item("block-*")]),
        ),
    ];
    assert_eq!(plan_devices(&rules), expected);
    let all = plan_devices(&[rule(true, DeviceKind::All, None, None)]);
    assert_eq!(all[0], ("DevicePolicy".to_owned(), Value::text("auto")));
}

#[test]
fn whole_majors_go_by_the_names_of_their_drivers() {
    let known = "Character devices:\n  1 mem\n  4 /dev/vc/0\n  4 tty\n136 pts\n\nBlock devices:\n  1 ramdisk\n";
    assert_eq!(drivers(DeviceKind::Char, 4, known), ["/dev/vc/0", "tty"]);
    assert_eq!(drivers(DeviceKind::Block, 1, known), ["ramdisk"]);
    assert!(drivers(DeviceKind::Block, 136, known).is_empty());
}

#[test]
fn annotations_are_properties_and_seconds_become_microseconds() {
    let check = |name: &str, text: &str, expected: (&str, Value)| {
        let found = parse_annotation(name, text).map_err(|error| error.to_string());
        assert_eq!(found, Ok((expected.0.to_owned(), expected.1)));
    };
    check(
        "CollectMode",
        "'inactive-or-failed'",
        ("CollectMode", Value::text("inactive-or-failed")),
    );
    check("TimeoutStopSec", "1.5", ("TimeoutStopUSec", Value::Uint64(1_500_000)));
    check(
        "TimeoutStopSec",
        "uint32 7",
        ("TimeoutStopUSec", Value::Uint64(7_000_000)),
    );
    check("TimeoutStopUSec", "uint64 7", ("TimeoutStopUSec", Value::Uint64(7)));
    for (name, text) in [
        ("X", "1"),
        ("Bad-Name", "1"),
        ("TasksMax", "lots"),
        ("TimeoutStopSec", "'x'"),
    ] {
        assert!(parse_annotation(name, text).is_err(), "{name} {text}");
    }
}
