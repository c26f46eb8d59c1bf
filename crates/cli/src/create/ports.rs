//! `-p` and `--expose`: addresses, ports, ranges and protocols.

use std::net::IpAddr;

use wharf_api::types::{Empty, PortBinding, PortMap, StringSet};

use crate::error::CliError;

/// The exposed ports and the bindings of published ones.
pub(super) fn exposed_and_published(publish: &[String], expose: &[String]) -> Result<(StringSet, PortMap), CliError> {
    let mut exposed = StringSet::new();
    let mut bindings = PortMap::new();
    for text in publish {
        for (port, binding) in published(&standard_notation(text)?)? {
            exposed.insert(port.clone(), Empty::default());
            bindings
                .entry(port)
                .or_default()
                .get_or_insert_with(Vec::new)
                .push(binding);
        }
    }
    for text in expose {
        for port in exposed_ports(text)? {
            exposed.insert(port, Empty::default());
        }
    }
    Ok((exposed, bindings))
}

/// `target=80,published=8080,protocol=tcp` in the short form.
fn standard_notation(text: &str) -> Result<String, CliError> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let mut values = std::collections::BTreeMap::new();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            CliError::message(format!(
                "invalid publish opts format (should be name=value but got '{field}')"
            ))
        })?;
        values.insert(key, value);
    }
    let value = |key: &str| values.get(key).copied().unwrap_or_default();
    Ok(format!(
        "{}:{}/{}",
        value("published"),
        value("target"),
        value("protocol")
    ))
}

/// The ports of one `-p` value.
fn published(text: &str) -> Result<Vec<(String, PortBinding)>, CliError> {
    let invalid = |reason: String| CliError::message(reason);
    let (address, host, container) = split(text);
    let (container, protocol) = split_protocol(container);
    let host_ip = match address {
        "" => String::new(),
        bracketed => {
            let bare = bracketed.trim_start_matches('[').trim_end_matches(']');
            if bare.parse::<IpAddr>().is_err() {
                return Err(invalid(format!("invalid IP address: {bare}")));
            }
            bare.to_owned()
        }
    };
    if container.is_empty() {
        return Err(invalid(format!("no port specified: {text}<empty>")));
    }
    let (first, last) = range(container).ok_or_else(|| invalid(format!("invalid containerPort: {container}")))?;
    let host_range = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| invalid(format!("invalid hostPort: {host}")))?),
    };
    if let Some((low, high)) = host_range
        && high - low != last - first
        && first != last
    {
        return Err(invalid(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        )));
    }
    check_protocol(protocol)?;
    Ok((0..=last - first)
        .map(|offset| {
            let host_port = match host_range {
                None => String::new(),
                Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
                Some((low, _)) => (low + offset).to_string(),
            };
            let port = format!("{}/{}", first + offset, protocol.to_lowercase());
            (
                port,
                PortBinding {
                    host_ip: host_ip.clone(),
                    host_port,
                },
            )
        })
        .collect())
}

fn exposed_ports(text: &str) -> Result<Vec<String>, CliError> {
    if text.contains(':') {
        return Err(CliError::message(format!("invalid port format for --expose: {text}")));
    }
    let (ports, protocol) = split_protocol(text);
    let (first, last) = range(ports).ok_or_else(|| {
        CliError::message(format!(
            "invalid range format for --expose: {text}, error: {}",
            range_error(ports)
        ))
    })?;
    check_protocol(protocol)?;
    Ok((first..=last)
        .map(|port| format!("{port}/{}", protocol.to_lowercase()))
        .collect())
}

/// Address, host port and container port; an IPv6 address holds colons itself.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else {
        return ("", "", text);
    };
    match rest.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

fn split_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((port, "")) => (port, "tcp"),
        Some((port, protocol)) => (port, protocol),
        None => (text, "tcp"),
    }
}

fn check_protocol(protocol: &str) -> Result<(), CliError> {
    match protocol.to_lowercase().as_str() {
        "tcp" | "udp" | "sctp" => Ok(()),
        _ => Err(CliError::message(format!("invalid proto: {protocol}"))),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// What is wrong with a range, in Go's words.
fn range_error(text: &str) -> String {
    for part in text.split('-') {
        if let Err(error) = part.parse::<u16>() {
            let reason = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            return format!("strconv.ParseUint: parsing {part:?}: {reason}");
        }
    }
    format!("invalid range specified for port: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match exposed_and_published(&[text.to_owned()], &[]) {
            Ok((_, bindings)) => bindings
                .iter()
                .flat_map(|(port, hosts)| {
                    hosts
                        .iter()
                        .flatten()
                        .map(move |h| format!("{port}={}:{}", h.host_ip, h.host_port))
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn published_ports_take_every_form() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected, "{text}");
        check("80", "80/tcp=:");
        check("8080:80", "80/tcp=:8080");
        check("127.0.0.1:8080:80/udp", "80/udp=127.0.0.1:8080");
        check("127.0.0.1::80", "80/tcp=127.0.0.1:");
        check("[::1]:8080:80", "80/tcp=::1:8080");
        check("8000-8001:80-81", "80/tcp=:8000 81/tcp=:8001");
        check("8000-8010:80", "80/tcp=:8000-8010");
        check("80-81", "80/tcp=: 81/tcp=:");
        check("target=80,published=8080,protocol=udp", "80/udp=:8080");
    }

    #[test]
    fn wrong_ports_are_refused() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected, "{text}");
        check("x", "invalid containerPort: x");
        check("x:80", "invalid hostPort: x");
        check("99999", "invalid containerPort: 99999");
        check("1.2.3:80:80", "invalid IP address: 1.2.3");
        check("80/abc", "invalid proto: abc");
        check(
            "8000-8001:80-82",
            "invalid ranges specified for container and host Ports: 80-82 and 8000-8001",
        );
        check("80:", "no port specified: 80:<empty>");
    }
}
