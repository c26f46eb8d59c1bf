//! The `syslog` driver.

use std::path::{Path, PathBuf};

use wharf_shim::target::{Address, Format, SyslogForm, TargetPlan, TlsPlan};

use super::address::Url;
use super::options::Options;
use super::{hostname, tag};
use crate::error::{Error, Result};
use crate::model::ContainerRecord;

const KEYS: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
    "syslog-format",
];

/// By their numbers (RFC 5424, section 6.2.1); 12 to 15 have no name.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

const DAEMON: u8 = 3;
const PORT: u16 = 514;

/// Where a local daemon listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Without any progress for so long a connection is made anew.
const STALL_MS: u64 = 30_000;

pub(super) fn check(options: &Options<'_>) -> Result<()> {
    options.check_keys(&KEYS, |key| format!("unknown log opt '{key}' for syslog log driver"))?;
    address(options)?;
    facility(options)?;
    form(options).map(drop)
}

pub(super) fn plan(options: &Options<'_>, record: &ContainerRecord) -> Result<TargetPlan> {
    let address = address(options)?;
    let form = form(options)?;
    let is_rfc5424 = matches!(form, SyslogForm::Rfc5424 | SyslogForm::Rfc5424Micro);
    Ok(TargetPlan {
        format: Format::Syslog {
            form,
            facility: facility(options)?,
            hostname: hostname(),
            tag: tag::of(options, record)?,
            utc_offset_s: jiff::Zoned::now().offset().seconds(),
            counted: is_rfc5424 && matches!(address, Address::Tls { .. }),
        },
        address,
        stall_ms: STALL_MS,
        ..TargetPlan::default()
    })
}

fn address(options: &Options<'_>) -> Result<Address> {
    let Some(text) = options.text("syslog-address") else {
        let paths = LOCAL.map(PathBuf::from).into();
        return Ok(Address::Unix { paths, datagram: true });
    };
    let url = Url::parse(text)?;
    if matches!(url.scheme, "unix" | "unixgram") {
        check_socket(url.path)?;
        return Ok(Address::Unix {
            paths: vec![url.path.into()],
            datagram: url.scheme == "unixgram",
        });
    }
    if !matches!(url.scheme, "udp" | "tcp" | "tcp+tls") {
        return Err(Error::invalid(format!("unsupported scheme: '{}'", url.scheme)));
    }
    let (host, port) = url.host_and_port()?;
    let (host, port) = (local_if_empty(host), port.unwrap_or(PORT));
    Ok(match url.scheme {
        "udp" => Address::Udp { host, port },
        "tcp" => Address::Tcp { host, port },
        _ => Address::Tls {
            host,
            port,
            tls: tls(options)?,
        },
    })
}

/// COMPAT: without a host the connection goes to this one.
pub(super) fn local_if_empty(host: &str) -> String {
    if host.is_empty() { "127.0.0.1" } else { host }.to_owned()
}

fn check_socket(path: &str) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::invalid(format!("stat {path}: no such file or directory")))
        }
        Err(error) => Err(Error::invalid(format!("stat {path}: {error}"))),
    }
}

fn tls(options: &Options<'_>) -> Result<TlsPlan> {
    let path = |key: &str| options.text(key).map(PathBuf::from);
    let plan = TlsPlan {
        ca: path("syslog-tls-ca-cert"),
        certificate: path("syslog-tls-cert"),
        key: path("syslog-tls-key"),
        // COMPAT: the option alone counts, whatever its value.
        skip_verify: options.value("syslog-tls-skip-verify").is_some(),
    };
    for (what, path) in [("CA", &plan.ca), ("certificate", &plan.certificate), ("key", &plan.key)] {
        if let Some(path) = path.as_deref().filter(|path| !Path::is_file(path)) {
            return Err(Error::invalid(format!("could not read {what} {path:?}")));
        }
    }
    if plan.certificate.is_some() != plan.key.is_some() {
        return Err(Error::invalid(
            "syslog-tls-cert and syslog-tls-key must be given together",
        ));
    }
    Ok(plan)
}

fn facility(options: &Options<'_>) -> Result<u8> {
    let Some(text) = options.text("syslog-facility") else {
        return Ok(DAEMON);
    };
    let named = FACILITIES.iter().position(|name| *name == text);
    let number = named.or_else(|| text.parse().ok().filter(|number| *number < FACILITIES.len()));
    number
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| Error::invalid("invalid syslog facility"))
}

fn form(options: &Options<'_>) -> Result<SyslogForm> {
    match options.value("syslog-format").unwrap_or_default() {
        "" => Ok(SyslogForm::Local),
        "rfc3164" => Ok(SyslogForm::Rfc3164),
        "rfc5424" => Ok(SyslogForm::Rfc5424),
        "rfc5424micro" => Ok(SyslogForm::Rfc5424Micro),
        _ => Err(Error::invalid("Invalid syslog format")),
    }
}
