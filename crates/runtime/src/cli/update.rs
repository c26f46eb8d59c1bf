//! `update`.

use super::store::{Entry, Status};
use super::{Call, argument, failed, required_id, text, usage};
use crate::spec::{Cpu, IntelRdt, Memory, Pids, Resources};
use crate::{ErrorKind, ResctrlGroup, RuntimeError, cgroups};
use lexopt::Arg::{Long, Short, Value};
use std::io::Read as _;

/// `update [OPTIONS] ID`: changes limits; those not given stay.
pub(super) fn update(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut resources, mut id, mut class) = (Resources::default(), None, IntelRdt::default());
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Value(value) if id.is_none() => id = Some(text(value)?),
            Short('r') => resources = read(&text(call.parser.value().map_err(argument)?)?)?,
            Long("l3-cache-schema") => {
                class.l3_cache_schema = Some(text(call.parser.value().map_err(argument)?)?);
            }
            Long("mem-bw-schema") => class.mem_bw_schema = Some(text(call.parser.value().map_err(argument)?)?),
            Long(name) => {
                let name = name.to_owned();
                let value = text(call.parser.value().map_err(argument)?)?;
                set(&mut resources, &name, &value)?;
            }
            other => return Err(argument(other.unexpected())),
        }
    }
    let entry = Entry::open(&call.global, &required_id(id)?)?;
    let _lock = entry.lock()?;
    let record = entry.load()?;
    if entry.status(&record) == Status::Stopped {
        let text = format!("container not running: {}", record.id);
        return Err(RuntimeError::new(ErrorKind::Conflict, "update", text));
    }
    update_class(record.resctrl.as_ref(), &class)?;
    let group = record.require_cgroup()?;
    let mut limits = cgroups::convert(&resources)?;
    // Device rules are those of the container's creation.
    limits.devices.clear();
    if let Some(scope) = &record.scope {
        scope.update(group.hierarchy(), &limits)?;
    }
    group
        .update(&limits)
        .map_err(|error| cgroups::failed("update", &error))?;
    Ok(0)
}

/// A class is joined at creation only.
fn update_class(group: Option<&ResctrlGroup>, class: &IntelRdt) -> Result<(), RuntimeError> {
    if *class == IntelRdt::default() {
        return Ok(());
    }
    let group = group.ok_or_else(|| {
        let text = "update: linux.intelRdt: the container was created without it";
        RuntimeError::new(ErrorKind::Conflict, "update", text)
    })?;
    group.update(class)
}

fn read(path: &str) -> Result<Resources, RuntimeError> {
    let mut bytes = Vec::new();
    let done = match path {
        "-" => std::io::stdin().read_to_end(&mut bytes).map(drop),
        path => std::fs::read(path).map(|content| bytes = content),
    };
    done.map_err(|error| failed(format!("read {path}"), &error))?;
    crate::spec::nulls::from_slice(&bytes).map_err(|error| {
        let field = crate::spec::place::of_error(&bytes, &error);
        RuntimeError::invalid("--resources", format!("parse {path}: {field}: {error}"))
    })
}

fn set(resources: &mut Resources, name: &str, value: &str) -> Result<(), RuntimeError> {
    fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>, RuntimeError> {
        value
            .parse()
            .map(Some)
            .map_err(|_| usage(format!("--{name}: {value:?} is no number")))
    }
    if name == "resources" {
        *resources = read(value)?;
        return Ok(());
    }
    match name {
        "memory" | "memory-reservation" | "memory-swap" => {
            let memory = resources.memory.get_or_insert_with(Memory::default);
            let bytes = parse_bytes(value).ok_or_else(|| usage(format!("--{name}: {value:?} is no size")))?;
            match name {
                "memory" => memory.limit = Some(bytes),
                "memory-reservation" => memory.reservation = Some(bytes),
                _ => memory.swap = Some(bytes),
            }
        }
        "pids-limit" => {
            resources.pids = Some(Pids {
                limit: number(name, value)?,
            })
        }
        "blkio-weight" => resources.block_io.get_or_insert_default().weight = number(name, value)?,
        // Without effect since the kernel gave them up.
        "kernel-memory" | "kernel-memory-tcp" => {}
        _ => {
            let cpu = resources.cpu.get_or_insert_with(Cpu::default);
            match name {
                "cpu-period" => cpu.period = number(name, value)?,
                "cpu-quota" => cpu.quota = number(name, value)?,
                "cpu-burst" => cpu.burst = number(name, value)?,
                "cpu-share" => cpu.shares = number(name, value)?,
                "cpu-rt-period" => cpu.realtime_period = number(name, value)?,
                "cpu-rt-runtime" => cpu.realtime_runtime = number(name, value)?,
                "cpu-idle" => cpu.idle = number(name, value)?,
                "cpuset-cpus" => cpu.cpus = Some(value.to_owned()),
                "cpuset-mems" => cpu.mems = Some(value.to_owned()),
                other => return Err(usage(format!("unknown option --{other}"))),
            }
        }
    }
    Ok(())
}

/// Bytes with an optional unit (k, m, g, t, of 1024); -1 is no limit.
fn parse_bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.trim_end_matches(['b', 'i']);
    let (digits, shift) = match bare.chars().last()? {
        'k' => (&bare[..bare.len() - 1], 10),
        'm' => (&bare[..bare.len() - 1], 20),
        'g' => (&bare[..bare.len() - 1], 30),
        't' => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes_have_units() {
        let check = |text: &str, expected| assert_eq!(parse_bytes(text), expected, "{text}");
        check("1024", Some(1024));
        check("-1", Some(-1));
        check("4k", Some(4096));
        check("2MiB", Some(2 << 20));
        check("1gb", Some(1 << 30));
        check("x", None);
        check("", None);
        check("9223372036854775807k", None);
    }
}
