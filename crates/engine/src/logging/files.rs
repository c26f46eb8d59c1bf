//! `json-file`, `local`, and the cache of the other drivers.

use wharf_shim::plan::LogPlan;

use super::LogDefaults;
use super::options::Options;
use super::units::{parse_bool, parse_decimal, require_bool, require_number};
use crate::error::{Error, Result};

const KEYS: [&str; 3] = ["max-file", "max-size", "compress"];

/// COMPAT: what Docker's `local` driver keeps.
const LOCAL_BYTES: u64 = 20 << 20;
const LOCAL_FILES: u32 = 5;

pub(super) fn check_json(options: &Options<'_>) -> Result<()> {
    options.check_keys(&KEYS, |key| format!("unknown log opt '{key}' for json-file log driver"))?;
    plan_json(options, &LogDefaults::default()).map(drop)
}

/// COMPAT: a size alone keeps one file.
pub(super) fn plan_json(options: &Options<'_>, defaults: &LogDefaults) -> Result<LogPlan> {
    let max_bytes = match options.value("max-size") {
        None => defaults.file_bytes,
        // Ours: without limit.
        Some("-1") => 0,
        Some(text) => match parse_decimal(text)? {
            0 => return Err(Error::invalid("max-size must be a positive number")),
            bytes => bytes,
        },
    };
    let max_files = match options.value("max-file") {
        None if options.value("max-size").is_some() => 1,
        None => defaults.files,
        Some(text) => match u32::try_from(require_number(text, "Atoi")?) {
            Ok(files @ 1..) => files,
            _ => return Err(Error::invalid("max-file cannot be less than 1")),
        },
    };
    let compress = options.value("compress").map_or(Ok(false), require_bool)?;
    if compress && (max_files == 1 || max_bytes == 0) {
        return Err(Error::invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ));
    }
    Ok(LogPlan {
        max_bytes,
        max_files,
        compress,
        ..LogPlan::default()
    })
}

pub(super) fn check_local(options: &Options<'_>) -> Result<()> {
    options.check_keys(&KEYS, |key| format!("unknown log opt '{key}' for log driver local"))?;
    plan_local(options).map(drop)
}

pub(super) fn plan_local(options: &Options<'_>) -> Result<LogPlan> {
    plan_limited(options, KEYS.map(|key| (key, key)))
}

/// The cache that `logs` reads for the drivers that send lines elsewhere. It has the limits of `local`.
pub(super) fn plan_cache(options: &Options<'_>) -> Result<LogPlan> {
    let keys = [
        ("cache-max-file", "max-file"),
        ("cache-max-size", "max-size"),
        ("cache-compress", "compress"),
    ];
    Ok(LogPlan {
        no_file: options.cache_disabled(),
        ..plan_limited(options, keys)?
    })
}

/// Reads a driver's options by their keys; the second of each pair is how errors call it.
fn plan_limited(options: &Options<'_>, keys: [(&str, &str); 3]) -> Result<LogPlan> {
    let [(file_key, file), (size_key, size), (compress_key, _)] = keys;
    let max_files = match options.value(file_key) {
        None => LOCAL_FILES,
        Some(text) => {
            let wrong = |error: Error| Error::invalid(format!("invalid value for {file}: {text}: {error}"));
            let files = require_number(text, "Atoi").map_err(wrong)?;
            u32::try_from(files).map_err(|_| Error::invalid("max-file must not be negative"))?
        }
    };
    let max_bytes = match options.value(size_key) {
        None => LOCAL_BYTES,
        Some(text) => {
            parse_decimal(text).map_err(|error| Error::invalid(format!("invalid value for {size}: {text}: {error}")))?
        }
    };
    let compress = match options.value(compress_key) {
        None => true,
        Some(text) => parse_bool(text).ok_or_else(|| {
            Error::invalid(format!(
                "invalid boolean value for compress: strconv.ParseBool: parsing {text:?}: invalid syntax"
            ))
        })?,
    };
    if compress && max_files <= 1 {
        return Err(Error::invalid("compression cannot be enabled when max file count is 1"));
    }
    Ok(LogPlan {
        max_bytes,
        max_files,
        compress,
        ..LogPlan::default()
    })
}
