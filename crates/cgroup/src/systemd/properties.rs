//! Limits in systemd's words (systemd.resource-control(5), org.freedesktop.systemd1(5)): those that
//! it would otherwise overwrite when it realizes the unit again. The files are written all the
//! same, as not every limit has a word.

use super::error::SystemdError;
use super::text::parse_value;
use super::wire::Value;
use crate::hierarchy::Version;
use crate::parse;
use crate::resources::{Cpu, DeviceAccess, DeviceKind, DeviceRule, Memory, Resources};
use crate::v2;

/// Name and value of a property of a unit.
pub type Property = (String, Value);

/// From this version on the length of a quota's period can be set.
const SINCE_PERIOD: u32 = 242;
/// From this version on there are `AllowedCPUs=` and `AllowedMemoryNodes=`.
const SINCE_CPUSET: u32 = 244;
/// From this version on a weight of 0 means idle.
const SINCE_IDLE: u32 = 252;

fn property(name: &str, value: Value) -> Property {
    (name.to_owned(), value)
}

fn number(name: &str, value: u64) -> Property {
    property(name, Value::Uint64(value))
}

/// Properties of a unit that holds a container and leaves its cgroup to us.
pub fn delegation(is_slice: bool) -> Vec<Property> {
    let mut all = vec![property("DefaultDependencies", Value::Bool(false))];
    if !is_slice {
        all.push(property("Delegate", Value::Bool(true)));
    }
    all
}

/// The limits as properties. `systemd` is its version; what an older one does not know is left to
/// the files.
///
/// # Errors
/// [`SystemdError::Invalid`] for values that mean nothing, by setting.
pub fn plan_properties(version: Version, resources: &Resources, systemd: u32) -> Result<Vec<Property>, SystemdError> {
    let accounting = match version {
        Version::V1 => [
            "CPUAccounting",
            "MemoryAccounting",
            "BlockIOAccounting",
            "TasksAccounting",
        ],
        Version::V2 => ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"],
    };
    let mut all: Vec<Property> = accounting.map(|name| property(name, Value::Bool(true))).into();
    match version {
        Version::V1 => plan_v1(resources, &mut all),
        Version::V2 => plan_v2(resources, systemd, &mut all)?,
    }
    plan_quota(resources.cpu, systemd, &mut all);
    if let Some(limit) = resources.pids_limit.filter(|limit| *limit != 0) {
        all.push(number("TasksMax", u64::try_from(limit).unwrap_or(u64::MAX)));
    }
    if systemd >= SINCE_CPUSET {
        let lists = [
            ("AllowedCPUs", &resources.cpuset.cpus),
            ("AllowedMemoryNodes", &resources.cpuset.mems),
        ];
        for (name, list) in lists {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                all.push(cpu_list(name, list)?);
            }
        }
    }
    if version == Version::V2 {
        for (file, value) in &resources.unified {
            plan_unified(file, value.trim(), systemd, &mut all)?;
        }
    }
    all.extend(plan_devices(&resources.devices));
    Ok(all)
}

fn plan_v1(resources: &Resources, all: &mut Vec<Property>) {
    if let Some(shares) = resources.cpu.shares.filter(|shares| *shares != 0) {
        all.push(number("CPUShares", shares));
    }
    if let Some(limit) = resources.memory.limit.filter(|limit| *limit != 0) {
        all.push(number("MemoryLimit", u64::try_from(limit).unwrap_or(u64::MAX)));
    }
    if let Some(weight) = resources.io.weight.filter(|weight| *weight != 0) {
        all.push(number("BlockIOWeight", u64::from(weight)));
    }
}

fn plan_v2(resources: &Resources, systemd: u32, all: &mut Vec<Property>) -> Result<(), SystemdError> {
    let cpu = resources.cpu;
    if cpu.idle == Some(1) && systemd >= SINCE_IDLE {
        all.push(number("CPUWeight", 0));
    } else if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        all.push(number("CPUWeight", v2::weight_of_shares(shares)));
    }
    plan_memory(resources.memory, all)?;
    if let Some(weight) = resources.io.weight.filter(|weight| *weight != 0) {
        all.push(number("IOWeight", v2::io_weight(weight)));
    }
    Ok(())
}

fn plan_memory(memory: Memory, all: &mut Vec<Property>) -> Result<(), SystemdError> {
    let unlimited = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let limit = memory.limit.filter(|limit| *limit != 0).map(unlimited);
    if let Some(limit) = limit {
        all.push(number("MemoryMax", limit));
    }
    if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
        all.push(number("MemoryLow", unlimited(reservation)));
    }
    // Without the limit beside it only the file's owner knows what is beyond it.
    if let Some(limit) = limit
        && let Some(swap) = v2::swap_only(limit, memory).map_err(|error| SystemdError::Invalid {
            field: "memory.swap".to_owned(),
            reason: error.to_string(),
        })?
    {
        all.push(number("MemorySwapMax", swap));
    }
    Ok(())
}

/// Microseconds per second; systemd counts in steps of 10 ms.
fn plan_quota(cpu: Cpu, systemd: u32, all: &mut Vec<Property>) {
    const DEFAULT_PERIOD_US: u64 = 100_000;
    const STEP_US: u64 = 10_000;
    let period = cpu.period_us.filter(|period| *period != 0);
    if let Some(period) = period.filter(|_| systemd >= SINCE_PERIOD) {
        all.push(number("CPUQuotaPeriodUSec", period));
    }
    let Some(quota) = cpu.quota_us.filter(|quota| *quota != 0) else {
        return;
    };
    let per_second = u64::try_from(quota).ok().map_or(u64::MAX, |quota| {
        let exact = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(DEFAULT_PERIOD_US));
        u64::try_from(exact).map_or(u64::MAX, |exact| exact.div_ceil(STEP_US).saturating_mul(STEP_US))
    });
    all.push(number("CPUQuotaPerSecUSec", per_second));
}

/// A list such as `0-3,7` as the bytes of a bit mask.
fn cpu_list(name: &str, list: &str) -> Result<Property, SystemdError> {
    const MAX: usize = 8192;
    let invalid = || SystemdError::Invalid {
        field: name.to_owned(),
        reason: format!("{list:?} is no list of numbers"),
    };
    let mut mask: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |text: &str| text.trim().parse::<usize>().map_err(|_| invalid());
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last || last >= MAX {
            return Err(invalid());
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    Ok(property(
        name,
        Value::Array("y".into(), mask.into_iter().map(Value::Byte).collect()),
    ))
}

/// Files of version 2 that systemd has a word for.
fn plan_unified(file: &str, value: &str, systemd: u32, all: &mut Vec<Property>) -> Result<(), SystemdError> {
    let invalid = || SystemdError::Invalid {
        field: format!("linux.resources.unified[{file:?}]"),
        reason: format!("{value:?} is no value for it"),
    };
    let amount = || {
        if value == "max" {
            Ok(u64::MAX)
        } else {
            value.parse::<u64>().map_err(|_| invalid())
        }
    };
    match file {
        "cpu.weight" => all.push(number("CPUWeight", amount()?)),
        "cpu.idle" if value == "1" && systemd >= SINCE_IDLE => all.push(number("CPUWeight", 0)),
        "cpu.max" => {
            let text = if value.contains(' ') {
                value.to_owned()
            } else {
                format!("{value} 100000")
            };
            let (quota, period) = parse::parse_cpu_max(&text).ok_or_else(invalid)?;
            let quota = quota.map_or(Ok(-1), |quota| i64::try_from(quota).map_err(|_| invalid()))?;
            let cpu = Cpu {
                quota_us: Some(quota),
                period_us: Some(period),
                ..Cpu::default()
            };
            plan_quota(cpu, systemd, all);
        }
        "cpuset.cpus" if systemd >= SINCE_CPUSET => all.push(cpu_list("AllowedCPUs", value)?),
        "cpuset.mems" if systemd >= SINCE_CPUSET => all.push(cpu_list("AllowedMemoryNodes", value)?),
        "memory.max" => all.push(number("MemoryMax", amount()?)),
        "memory.high" => all.push(number("MemoryHigh", amount()?)),
        "memory.low" => all.push(number("MemoryLow", amount()?)),
        "memory.min" => all.push(number("MemoryMin", amount()?)),
        "memory.swap.max" => all.push(number("MemorySwapMax", amount()?)),
        "pids.max" => all.push(number("TasksMax", amount()?)),
        // Others are written to their files only.
        _ => {}
    }
    Ok(())
}

/// Device rules as a list of what is allowed. Rules that take a part back cannot be said: then the
/// list is wider than the filter that we load ourselves, never narrower.
fn plan_devices(rules: &[DeviceRule]) -> Vec<Property> {
    if rules.is_empty() {
        return Vec::new();
    }
    let is_all =
        |rule: &&DeviceRule| rule.kind == DeviceKind::All && rule.major.is_none() && rule.access == DeviceAccess::ALL;
    let last_word = rules.iter().rposition(|rule| is_all(&rule));
    let list = |items| property("DeviceAllow", Value::Array("(ss)".into(), items));
    if last_word.is_none_or(|at| rules[at].allow) {
        return vec![property("DevicePolicy", Value::text("auto")), list(Vec::new())];
    }
    let known = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let mut items: Vec<Value> = Vec::new();
    let after = last_word.map_or(0, |at| at + 1);
    for rule in rules[after..].iter().filter(|rule| rule.allow) {
        let kinds: &[DeviceKind] = match rule.kind {
            DeviceKind::All => &[DeviceKind::Char, DeviceKind::Block],
            ref kind => std::slice::from_ref(kind),
        };
        for kind in kinds {
            let names = device_names(*kind, rule, &known);
            items.extend(
                names
                    .into_iter()
                    .map(|name| Value::Tuple(vec![Value::text(name), Value::text(rule.access.to_string())])),
            );
        }
    }
    vec![property("DevicePolicy", Value::text("strict")), list(items)]
}

/// How systemd calls the devices of a rule.
fn device_names(kind: DeviceKind, rule: &DeviceRule, known: &str) -> Vec<String> {
    let word = if kind == DeviceKind::Block { "block" } else { "char" };
    match (rule.major, rule.minor) {
        (None, _) => vec![format!("{word}-*")],
        (Some(major), Some(minor)) => vec![format!("/dev/{word}/{major}:{minor}")],
        (Some(major), None) => drivers(kind, major, known)
            .into_iter()
            .map(|name| format!("{word}-{name}"))
            .collect(),
    }
}

/// Names in `/proc/devices` of a major number; several drivers may share it.
fn drivers(kind: DeviceKind, major: u32, known: &str) -> Vec<String> {
    let wanted = if kind == DeviceKind::Block {
        "Block devices:"
    } else {
        "Character devices:"
    };
    let mut section = "";
    let mut names: Vec<String> = Vec::new();
    for line in known.lines() {
        match line.trim().split_once(' ') {
            Some((number, name)) if section == wanted && number.parse() == Ok(major) => names.push(name.to_owned()),
            Some((number, _)) if number.parse::<u32>().is_ok() => {}
            _ if line.ends_with("devices:") => section = line,
            _ => {}
        }
    }
    names
}

/// A property out of an annotation `org.systemd.property.NAME`. A time whose name ends in `Sec` is
/// given in seconds.
///
/// # Errors
/// [`SystemdError::Invalid`] for names that no property has and texts that are no value.
pub fn parse_annotation(name: &str, text: &str) -> Result<Property, SystemdError> {
    let invalid = |reason: String| SystemdError::Invalid {
        field: format!("annotations[\"org.systemd.property.{name}\"]"),
        reason,
    };
    if name.len() < 3 || !name.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(invalid("is no name of a property".to_owned()));
    }
    let value = parse_value(text).ok_or_else(|| invalid(format!("{text:?} is no value in GVariant's text form")))?;
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            let micros = microseconds(&value).ok_or_else(|| invalid(format!("{text:?} is no number of seconds")))?;
            Ok((format!("{stem}USec"), Value::Uint64(micros)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    let whole = match *value {
        Value::Byte(number) => u64::from(number),
        Value::Uint16(number) => u64::from(number),
        Value::Uint32(number) => u64::from(number),
        Value::Uint64(number) => number,
        Value::Int16(number) => u64::try_from(number).ok()?,
        Value::Int32(number) => u64::try_from(number).ok()?,
        Value::Int64(number) => u64::try_from(number).ok()?,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        Value::Double(number) if number >= 0.0 => return Some((number * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests;
