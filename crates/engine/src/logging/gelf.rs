//! The `gelf` driver.

use wharf_shim::target::{Address, Compression, Format, TargetPlan};

use super::address::Url;
use super::options::Options;
use super::syslog::local_if_empty;
use super::{attributes, hostname, tag};
use crate::error::{Error, Result};
use crate::model::ContainerRecord;

/// Without any progress for so long a connection is made anew.
const STALL_MS: u64 = 30_000;

pub(super) fn check(options: &Options<'_>) -> Result<()> {
    let (scheme, _) = address(options)?;
    for (key, value) in options.own_keys() {
        check_option(key, value, &scheme)?;
    }
    Ok(())
}

fn check_option(key: &str, value: &str, scheme: &str) -> Result<()> {
    let unknown = || {
        Error::invalid(format!(
            "unknown value {value:?} for log opt {key:?} for gelf log driver"
        ))
    };
    match key {
        "gelf-address" => Ok(()),
        "gelf-compression-level" | "gelf-compression-type" if scheme != "udp" => {
            Err(Error::invalid("compression is only supported on UDP"))
        }
        "gelf-compression-level" => match value.parse() {
            Ok(-1..=9i32) => Ok(()),
            _ => Err(unknown()),
        },
        "gelf-compression-type" => compression(value).map(drop).ok_or_else(unknown),
        "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if scheme != "tcp" => {
            Err(Error::invalid(format!("{key:?} is only valid for TCP")))
        }
        "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => match value.parse::<u32>() {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::invalid(format!("{key:?} must be a positive integer"))),
        },
        key if super::options::ATTRIBUTES.contains(&key) => Ok(()),
        key => Err(Error::invalid(format!("unknown log opt {key:?} for gelf log driver"))),
    }
}

fn compression(text: &str) -> Option<Compression> {
    match text {
        "gzip" => Some(Compression::Gzip),
        "zlib" => Some(Compression::Zlib),
        "none" => Some(Compression::None),
        _ => None,
    }
}

fn address(options: &Options<'_>) -> Result<(String, Address)> {
    let Some(text) = options.text("gelf-address") else {
        return Err(Error::invalid("gelf-address is a required parameter"));
    };
    let url = Url::parse(text)?;
    if !matches!(url.scheme, "udp" | "tcp") {
        return Err(Error::invalid("gelf: endpoint needs to be TCP or UDP"));
    }
    let Ok((host, Some(port))) = url.host_and_port() else {
        return Err(Error::invalid("gelf: please provide gelf-address as proto://host:port"));
    };
    let host = local_if_empty(host);
    let address = match url.scheme {
        "udp" => Address::Udp { host, port },
        _ => Address::Tcp { host, port },
    };
    Ok((url.scheme.to_owned(), address))
}

pub(super) fn plan(options: &Options<'_>, record: &ContainerRecord) -> Result<TargetPlan> {
    let (_, address) = address(options)?;
    let facts = [
        ("_container_id", record.id.to_string()),
        ("_container_name", record.name.clone()),
        ("_image_id", record.image_id.clone()),
        ("_image_name", record.config.image.clone()),
        ("_command", tag::command(record)),
        ("_tag", tag::of(options, record)?),
        ("_created", record.created.to_string()),
    ];
    let mut extra: std::collections::BTreeMap<_, _> = facts.map(|(key, value)| (key.to_owned(), value)).into();
    let underscored = |key: &str| {
        if key.starts_with('_') {
            key.to_owned()
        } else {
            format!("_{key}")
        }
    };
    extra.extend(attributes::of(options, record, underscored)?);
    let number = |key: &str| options.value(key).and_then(|text| text.parse::<u32>().ok());
    let delay_ms = number("gelf-tcp-reconnect-delay").map(|seconds| u64::from(seconds) * 1000);
    let defaults = TargetPlan::default();
    Ok(TargetPlan {
        address,
        format: Format::Gelf {
            hostname: hostname(),
            extra,
            compression: options
                .value("gelf-compression-type")
                .and_then(compression)
                .unwrap_or_default(),
            // COMPAT: the fastest one.
            level: options
                .value("gelf-compression-level")
                .and_then(|text| text.parse().ok())
                .unwrap_or(1),
        },
        max_retries: number("gelf-tcp-max-reconnect"),
        retry_ms: delay_ms.unwrap_or(defaults.retry_ms).max(1),
        retry_max_ms: delay_ms.unwrap_or(defaults.retry_max_ms),
        stall_ms: STALL_MS,
        ..defaults
    })
}
