//! The `fluentd` driver.

use std::time::Duration;

use wharf_shim::target::{Address, Format, TargetPlan, TlsPlan};

use super::address::Url;
use super::options::Options;
use super::syslog::local_if_empty;
use super::units::{parse_duration, parse_ram, require_bool, require_number};
use super::{attributes, tag};
use crate::error::{Error, Result};
use crate::model::ContainerRecord;

const KEYS: [&str; 10] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
    "fluentd-read-timeout",
];

const PORT: u16 = 24224;
const BUFFER: u64 = 1 << 20;
const RETRY_WAIT: Duration = Duration::from_secs(1);
const RECONNECT_MS: std::ops::RangeInclusive<u128> = 100..=10_000;

/// How long a receiver may leave a message unconfirmed, or take nothing.
const STALL: Duration = Duration::from_secs(30);

pub(super) fn check(options: &Options<'_>) -> Result<()> {
    options.check_keys(&KEYS, |key| format!("unknown log opt '{key}' for fluentd log driver"))?;
    settings(options).map(drop)
}

pub(super) fn plan(options: &Options<'_>, record: &ContainerRecord) -> Result<TargetPlan> {
    let (mut plan, sub_second, ack) = settings(options)?;
    let facts = [
        ("container_id".to_owned(), record.id.to_string()),
        ("container_name".to_owned(), format!("/{}", record.name)),
    ];
    let mut fields = std::collections::BTreeMap::from(facts);
    fields.extend(attributes::of(options, record, str::to_owned)?);
    plan.format = Format::Fluentd {
        tag: tag::of(options, record)?,
        record: fields,
        sub_second,
        ack,
    };
    Ok(plan)
}

/// Everything but the format; then whether times are fine and messages confirmed. In Docker's order, so that
/// of several mistakes the same one is told.
fn settings(options: &Options<'_>) -> Result<(TargetPlan, bool, bool)> {
    let text = options.value("fluentd-address").unwrap_or_default();
    let address =
        address(text).map_err(|error| Error::invalid(format!("invalid fluentd-address ({text}): {error}")))?;
    let buffer_bytes = options.text("fluentd-buffer-limit").map_or(Ok(BUFFER), parse_ram)?;
    let retry_wait = match options.text("fluentd-retry-wait") {
        Some(text) => parse_duration(text)?.1,
        None => RETRY_WAIT,
    };
    let max_retries = match options.text("fluentd-max-retries") {
        Some(text) => Some(
            u32::try_from(require_number(text, "ParseUint")?)
                .ok()
                .filter(|most| *most <= i32::MAX.unsigned_abs())
                .ok_or_else(|| Error::invalid("invalid fluentd-max-retries: value out of range"))?,
        ),
        None => None,
    };
    let is_true = |key: &str| options.text(key).map_or(Ok(false), require_bool);
    let is_async = is_true("fluentd-async")?;
    let interval = reconnect_interval(options)?;
    let sub_second = is_true("fluentd-sub-second-precision")?;
    let ack = is_true("fluentd-request-ack")?;
    let write_timeout = timeout(options, "fluentd-write-timeout")?;
    let read_timeout = timeout(options, "fluentd-read-timeout")?;
    let stall = [write_timeout, read_timeout]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(STALL);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1);
    let plan = TargetPlan {
        address,
        buffer_bytes,
        waits: !is_async,
        retry_ms: millis(interval.unwrap_or(retry_wait)),
        retry_max_ms: millis(interval.unwrap_or(retry_wait.saturating_mul(30))),
        max_retries,
        stall_ms: millis(stall),
        ..TargetPlan::default()
    };
    Ok((plan, sub_second, ack))
}

fn reconnect_interval(options: &Options<'_>) -> Result<Option<Duration>> {
    const KEY: &str = "fluentd-async-reconnect-interval";
    let Some(text) = options.text(KEY) else { return Ok(None) };
    let (is_negative, interval) =
        parse_duration(text).map_err(|error| Error::invalid(format!("invalid value for {KEY}: {error}")))?;
    if interval.is_zero() {
        return Ok(None);
    }
    if is_negative || !RECONNECT_MS.contains(&interval.as_millis()) {
        return Err(Error::invalid(format!(
            "invalid value for {KEY}: value (\"{text}\") must be between 100ms and 10s"
        )));
    }
    Ok(Some(interval))
}

fn timeout(options: &Options<'_>, key: &str) -> Result<Option<Duration>> {
    let Some(text) = options.text(key) else { return Ok(None) };
    let (is_negative, timeout) = parse_duration(text)
        .map_err(|error| Error::invalid(format!("invalid value for {key}: value must be a duration: {error}")))?;
    if is_negative {
        return Err(Error::invalid(format!(
            "invalid value for {key}: value must be a duration that is non-negative"
        )));
    }
    Ok(Some(timeout).filter(|timeout| !timeout.is_zero()))
}

fn address(text: &str) -> Result<Address> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("tcp://{text}")
    };
    let url = Url::parse(&full)?;
    match url.scheme {
        "unix" if url.path.trim_start_matches('/').is_empty() => return Err(Error::invalid("path is empty")),
        "unix" => {
            return Ok(Address::Unix {
                paths: vec![url.path.into()],
                datagram: false,
            });
        }
        "tcp" | "tls" => {}
        other => return Err(Error::invalid(format!("unsupported scheme: '{other}'"))),
    }
    if !url.path.is_empty() {
        return Err(Error::invalid("should not contain a path element"));
    }
    let (host, port) = url.host_and_port()?;
    let (host, port) = (local_if_empty(host), port.unwrap_or(PORT));
    Ok(match url.scheme {
        "tcp" => Address::Tcp { host, port },
        _ => Address::Tls {
            host,
            port,
            tls: TlsPlan::default(),
        },
    })
}
