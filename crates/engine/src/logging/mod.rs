//! Log drivers: their options in Docker's words, and what a shim is told to do.
//!
//! Owns: which drivers exist, the check of their options, defaults, tags and attributes, the shim's
//! [`LogPlan`]. Does not own: writing and sending (the shim), reading (`containers::logs`).
//!
//! | driver | file | target |
//! |---|---|---|
//! | `json-file`, `local` | the log itself | - |
//! | `syslog`, `journald`, `gelf`, `fluentd` | a cache for `logs`, unless `cache-disabled` | as the options say |
//! | `none` | - | - |

mod address;
mod attributes;
mod files;
mod fluentd;
mod gelf;
mod journald;
mod options;
mod syslog;
mod tag;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wharf_shim::plan::LogPlan;
use wharf_shim::target::TargetPlan;

use self::options::Options;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{ContainerRecord, LogConfig};

/// The drivers, in the order of `info`.
pub const LOG_DRIVERS: [&str; 7] = ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];

/// What containers get that do not choose for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDefaults {
    /// The driver.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
    /// Bytes per file where no option says so; 0 is unlimited.
    pub file_bytes: u64,
    /// Files where no option says so.
    pub files: u32,
    /// The journal's socket.
    pub journal: PathBuf,
    /// The program that resolves names and speaks TLS for shims.
    pub helper: Option<PathBuf>,
}

impl Default for LogDefaults {
    fn default() -> Self {
        Self {
            driver: "json-file".to_owned(),
            options: BTreeMap::new(),
            file_bytes: 20 << 20,
            files: 3,
            journal: PathBuf::from("/run/systemd/journal/socket"),
            helper: None,
        }
    }
}

impl LogDefaults {
    /// Refuses a default that no container could be created with.
    pub fn validate(&self) -> Result<()> {
        let log = LogConfig {
            driver: self.driver.clone(),
            options: Some(self.options.clone()),
        };
        check(&log).map_err(|error| Error::invalid(format!("failed to set log opts: {error}")))
    }

    /// Fills in what a container leaves open. COMPAT: options of the engine count only for the engine's driver,
    /// those of the cache for every driver.
    pub(crate) fn fill(&self, log: &mut LogConfig) {
        if log.driver.is_empty() {
            log.driver.clone_from(&self.driver);
        }
        let is_same = log.driver == self.driver;
        let options = log.options.get_or_insert_default();
        for (key, value) in &self.options {
            if is_same || key.starts_with(options::CACHE) {
                options.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// Checks a container's log configuration. COMPAT: `none` takes any option.
pub(crate) fn check(log: &LogConfig) -> Result<()> {
    if log.driver == "none" {
        return Ok(());
    }
    let options = Options::of(log);
    options.check_general()?;
    match log.driver.as_str() {
        "json-file" => files::check_json(&options)?,
        "local" => files::check_local(&options)?,
        "syslog" => syslog::check(&options)?,
        "journald" => journald::check(&options)?,
        "gelf" => gelf::check(&options)?,
        "fluentd" => fluentd::check(&options)?,
        other => {
            return Err(Error::invalid(format!(
                "logger: no log driver named '{other}' is registered"
            )));
        }
    }
    attributes::check(&options)?;
    tag::check(&options)
}

/// Whether `logs` can read what a container wrote.
pub(crate) fn is_readable(log: &LogConfig) -> bool {
    match log.driver.as_str() {
        "none" => false,
        "json-file" | "local" => true,
        _ => !Options::of(log).cache_disabled(),
    }
}

/// What the shim of a container does with its output; `None` for the driver `none`.
pub(crate) fn plan(config: &Config, record: &ContainerRecord, path: &Path) -> Result<Option<LogPlan>> {
    let failed = |error: Error| Error::invalid(format!("failed to initialize logging driver: {error}"));
    plan_driver(&config.live.now().logging, record, path).map_err(failed)
}

fn plan_driver(defaults: &LogDefaults, record: &ContainerRecord, path: &Path) -> Result<Option<LogPlan>> {
    // A build step names no driver, nor does a record of an engine that left the default open.
    let mut log = record.host.log_config.clone();
    defaults.fill(&mut log);
    if log.driver == "none" {
        return Ok(None);
    }
    check(&log)?;
    let options = Options::of(&log);
    let mut plan = match log.driver.as_str() {
        "json-file" => files::plan_json(&options, defaults)?,
        "local" => files::plan_local(&options)?,
        _ => files::plan_cache(&options)?,
    };
    path.clone_into(&mut plan.path);
    match log.driver.as_str() {
        "json-file" | "local" => plan.attrs = attributes::of_file(&options, record)?,
        _ => plan.target = Some(plan_target(&options, defaults, record)?),
    }
    Ok(Some(plan))
}

fn plan_target(options: &Options<'_>, defaults: &LogDefaults, record: &ContainerRecord) -> Result<TargetPlan> {
    let mut target = match options.driver() {
        "syslog" => syslog::plan(options, record)?,
        "journald" => journald::plan(options, record, &defaults.journal)?,
        "gelf" => gelf::plan(options, record)?,
        _ => fluentd::plan(options, record)?,
    };
    target.waits &= !options.is_non_blocking();
    if let Some(bytes) = options.buffer_bytes()? {
        target.buffer_bytes = bytes;
    }
    target.helper.clone_from(&defaults.helper);
    Ok(target)
}

/// The name of this host.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
