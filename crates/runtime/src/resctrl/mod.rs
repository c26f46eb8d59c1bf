//! Cache and memory bandwidth allocation through the resctrl file system
//! (config-linux.md#intelrdt, Documentation/filesystems/resctrl.rst).
//!
//! ```text
//! /sys/fs/resctrl/                    the default class ("/")
//!   <closID or container id>/         a class: schemata, tasks
//!     mon_groups/<container id>/      what is measured for the container alone
//! ```
//!
//! A directory that was there before is used but never removed.

mod figures;

use crate::RuntimeError;
use crate::spec::{IntelRdt, Linux};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use figures::read_figures;

const FIELD: &str = "linux.intelRdt";

/// The mounted file system.
#[derive(Debug, Clone)]
pub(crate) struct Resctrl {
    root: PathBuf,
}

/// Where a container is, as it is kept for later commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResctrlGroup {
    /// Directory of the class of service.
    pub class: PathBuf,
    /// Directory of the container's own monitoring group, if it has one.
    pub monitor: Option<PathBuf>,
    /// The directories that were made for the container, to be removed with it in this order.
    pub made: Vec<PathBuf>,
}

/// Removes what was made unless it is kept.
#[derive(Debug)]
pub(crate) struct ResctrlGuard(Option<ResctrlGroup>);

impl ResctrlGuard {
    pub(crate) fn group(&self) -> Option<&ResctrlGroup> {
        self.0.as_ref()
    }

    /// Lets the directories stay.
    pub(crate) fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for ResctrlGuard {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            // On the way of a failure, which is what gets reported.
            let _ = group.remove();
        }
    }
}

fn invalid(part: &str, why: impl std::fmt::Display) -> RuntimeError {
    let field = if part.is_empty() {
        FIELD.to_owned()
    } else {
        format!("{FIELD}.{part}")
    };
    let text = format!("{field}: {why}");
    RuntimeError::invalid(field, text)
}

fn failed(what: String, error: &std::io::Error) -> RuntimeError {
    let errno = rustix::io::Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0));
    RuntimeError::system(FIELD, format!("{FIELD}: {what}"), errno)
}

/// Checks what needs no kernel, and that the kernel has it at all.
pub(crate) fn validate(linux: &Linux) -> Result<(), RuntimeError> {
    let Some(config) = &linux.intel_rdt else { return Ok(()) };
    check_config(config)?;
    Resctrl::probe()?
        .map(drop)
        .ok_or_else(|| invalid("", "resctrl is not mounted"))
}

fn check_config(config: &IntelRdt) -> Result<(), RuntimeError> {
    // SECURITY: it becomes a directory's name.
    if let Some(class) = &config.clos_id
        && class != "/"
        && (class.is_empty() || class == "." || class == ".." || class.contains(['/', '\0', '\n']))
    {
        return Err(invalid("closID", format!("{class:?} is not a name of a class")));
    }
    for (index, line) in config.schemata.iter().enumerate() {
        if !line.contains(':') || line.contains('\n') {
            let why = format!("{line:?} is not a line such as L3:0=f");
            return Err(invalid(&format!("schemata[{index}]"), why));
        }
    }
    Ok(())
}

/// Makes the group of the configuration; none if it asks for none.
pub(crate) fn create_group(linux: &Linux, id: &str) -> Result<ResctrlGuard, RuntimeError> {
    let Some(config) = &linux.intel_rdt else {
        return Ok(ResctrlGuard(None));
    };
    let resctrl = Resctrl::probe()?.ok_or_else(|| invalid("", "resctrl is not mounted"))?;
    resctrl.create_group(config, id)
}

impl Resctrl {
    /// Finds where it is mounted; none where it is not.
    pub(crate) fn probe() -> Result<Option<Self>, RuntimeError> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| failed("read /proc/self/mountinfo".to_owned(), &error))?;
        let mount = table.lines().find_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let is_resctrl = back.split(' ').next() == Some("resctrl");
            is_resctrl.then(|| front.split(' ').nth(4)).flatten()
        });
        Ok(mount.map(|root| Self { root: root.into() }))
    }

    /// The mount.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes or finds the class, and writes its schemata.
    fn create_group(&self, config: &IntelRdt, id: &str) -> Result<ResctrlGuard, RuntimeError> {
        let lines = wanted_lines(config);
        let name = config.clos_id.as_deref().unwrap_or(id);
        let class = match name {
            "/" => self.root.clone(),
            name => self.root.join(name),
        };
        let mut guard = ResctrlGuard(Some(ResctrlGroup {
            class: class.clone(),
            ..ResctrlGroup::default()
        }));
        let existed = class.is_dir();
        if existed && config.clos_id.is_some() {
            check_existing(&class, name, &lines)?;
        } else {
            if config.clos_id.is_some() && lines.is_empty() {
                let why = format!("the class {name} does not exist, and no schema to make it with is given");
                return Err(invalid("closID", why));
            }
            if !existed {
                make(&class)?;
                guard.made(class.clone());
            }
            write_schemata(&self.root, &class, &lines)?;
        }
        if config.enable_monitoring {
            let monitor = class.join("mon_groups").join(id);
            if !monitor.is_dir() {
                make(&monitor)?;
                guard.made(monitor.clone());
            }
            if let Some(group) = &mut guard.0 {
                group.monitor = Some(monitor);
            }
        }
        Ok(guard)
    }
}

impl ResctrlGuard {
    /// Inner directories go first.
    fn made(&mut self, path: PathBuf) {
        if let Some(group) = &mut self.0 {
            group.made.insert(0, path);
        }
    }
}

impl ResctrlGroup {
    /// Moves a process (one thread) into the class and the monitoring group.
    pub(crate) fn add(&self, pid: i32) -> Result<(), RuntimeError> {
        for directory in [Some(&self.class), self.monitor.as_ref()].into_iter().flatten() {
            let path = directory.join("tasks");
            std::fs::write(&path, pid.to_string())
                .map_err(|error| failed(format!("write {pid} to {}", path.display()), &error))?;
        }
        Ok(())
    }

    /// Writes new lines for the class.
    ///
    /// # Errors
    /// What the kernel refuses, with its own words.
    pub(crate) fn update(&self, config: &IntelRdt) -> Result<(), RuntimeError> {
        let root = Resctrl::probe()?
            .ok_or_else(|| invalid("", "resctrl is not mounted"))?
            .root;
        write_schemata(&root, &self.class, &wanted_lines(config))
    }

    /// Removes the directories that were made; those already gone are no error.
    ///
    /// # Errors
    /// The first that the kernel refuses to remove.
    pub fn remove(&self) -> Result<(), RuntimeError> {
        for path in &self.made {
            match std::fs::remove_dir(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(format!("remove {}", path.display()), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn make(path: &Path) -> Result<(), RuntimeError> {
    std::fs::create_dir(path).map_err(|error| failed(format!("make {}", path.display()), &error))
}

/// The lines in the order of the specification: L3, MB, the rest. Where both
/// schemas are given the memory bandwidth is that of its own field.
fn wanted_lines(config: &IntelRdt) -> Vec<String> {
    let lines = |text: &Option<String>| -> Vec<String> {
        let text = text.as_deref().unwrap_or_default();
        text.lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    };
    let bandwidth = lines(&config.mem_bw_schema);
    let mut wanted = lines(&config.l3_cache_schema);
    if !bandwidth.is_empty() {
        wanted.retain(|line| !line.starts_with("MB:"));
    }
    wanted.extend(bandwidth);
    wanted.extend(config.schemata.iter().map(|line| line.trim().to_owned()));
    wanted
}

/// The kernel says in a file of its own what was wrong with a line.
fn write_schemata(root: &Path, class: &Path, lines: &[String]) -> Result<(), RuntimeError> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = class.join("schemata");
    let text = format!("{}\n", lines.join("\n"));
    std::fs::write(&path, &text).map_err(|error| {
        let mut refused = failed(format!("write {:?} to {}", text.trim_end(), path.display()), &error);
        let said = std::fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
        refused
            .chain
            .extend(Some(said.trim().to_owned()).filter(|said| !said.is_empty()));
        refused
    })
}

/// A class that exists must already have what is asked for.
fn check_existing(class: &Path, name: &str, wanted: &[String]) -> Result<(), RuntimeError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let path = class.join("schemata");
    let present = std::fs::read_to_string(&path).map_err(|error| failed(format!("read {}", path.display()), &error))?;
    let present: Vec<_> = present.lines().filter_map(parse_line).collect();
    for line in wanted {
        let (resource, domains) =
            parse_line(line).ok_or_else(|| invalid("", format!("{line:?} is not a line such as L3:0=f")))?;
        let is_there = present.iter().any(|(known, values)| {
            *known == resource && domains.iter().all(|(domain, value)| values.get(domain) == Some(value))
        });
        if !is_there {
            let why = format!("the class {name} exists and differs from {line:?}");
            return Err(invalid("closID", why));
        }
    }
    Ok(())
}

/// Resource, and value by domain; case and leading zeros mean nothing.
fn parse_line(line: &str) -> Option<(String, BTreeMap<String, String>)> {
    let (resource, domains) = line.trim().split_once(':')?;
    let plain = |value: &str| {
        let value = value.trim().to_ascii_lowercase();
        match value.trim_start_matches('0') {
            "" => "0".to_owned(),
            rest => rest.to_owned(),
        }
    };
    let pair = |pair: &str| {
        let (domain, value) = pair.split_once('=')?;
        Some((plain(domain), plain(value)))
    };
    let domains = domains.split(';').map(pair).collect::<Option<_>>()?;
    Some((resource.trim().to_owned(), domains))
}

#[cfg(test)]
mod tests;
