//! Device nodes and the rules about them.
use std::path::PathBuf;

use wharf_runtime::spec::{Device, DeviceRule};

use super::{DeviceFact, HostFacts};
use crate::error::{Error, Result};
use crate::model::HostConfig;

/// Nodes beyond the runtime's default ones.
pub(super) fn plan_devices(host: &HostConfig, facts: &HostFacts) -> Vec<Device> {
    let list = if host.privileged {
        &facts.host_devices
    } else {
        &facts.devices
    };
    let mut devices: Vec<Device> = list.iter().map(node_of).collect();
    if host.privileged {
        let has = |d: &DeviceFact| list.iter().any(|l| l.path == d.path);
        devices.extend(facts.devices.iter().filter(|d| !has(d)).map(node_of));
    }
    devices
}

fn node_of(fact: &DeviceFact) -> Device {
    Device {
        kind: fact.kind.to_string(),
        path: PathBuf::from(&fact.path),
        major: i64::from(fact.major),
        minor: i64::from(fact.minor),
        file_mode: Some(fact.mode),
        uid: Some(fact.uid),
        gid: Some(fact.gid),
    }
}

/// Which devices may be used, in order.
pub(super) fn plan_rules(host: &HostConfig, facts: &HostFacts) -> Result<Vec<DeviceRule>> {
    if host.privileged {
        return Ok(vec![rule(true, "a", None, None, "rwm")]);
    }
    let mut rules = vec![rule(false, "a", None, None, "rwm")];
    rules.extend(default_rules());
    for fact in &facts.devices {
        let kind = if fact.kind == 'b' { "b" } else { "c" };
        rules.push(rule(true, kind, Some(fact.major), Some(fact.minor), &fact.access));
    }
    for text in host.resources.device_cgroup_rules.iter().flatten() {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// Nodes may be made, the harmless ones used, terminals too.
fn default_rules() -> Vec<DeviceRule> {
    let mut rules = vec![rule(true, "c", None, None, "m"), rule(true, "b", None, None, "m")];
    let usable = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(usable.map(|(major, minor)| rule(true, "c", Some(major), Some(minor), "rwm")));
    rules.push(rule(true, "c", Some(136), None, "rwm"));
    rules
}

fn rule(allow: bool, kind: &str, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: Some(kind.to_owned()),
        major: major.map(i64::from),
        minor: minor.map(i64::from),
        access: Some(access.to_owned()),
    }
}

/// Reads `c 1:3 rwm`, `b *:* m`, `a *:* rwm`.
pub(crate) fn parse_rule(text: &str) -> Result<DeviceRule> {
    let wrong = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(Some).map_err(|_| wrong()),
    };
    let access_ok = (1..=3).contains(&access.len()) && access.bytes().all(|b| b"rwm".contains(&b));
    if !matches!(kind, "a" | "b" | "c") || !access_ok {
        return Err(wrong());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_parse_strictly() {
        assert_eq!(
            parse_rule("c 1:* rw").expect("valid"),
            rule(true, "c", Some(1), None, "rw")
        );
        for wrong in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c 1:3 r ", "c a:b r"] {
            assert!(parse_rule(wrong).is_err(), "{wrong:?}");
        }
    }
}
