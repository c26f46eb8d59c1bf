//! Checks of single values, made while flags are read, in the words of Docker's CLI.

use super::{devices, environment, mounts, networks, security};
use crate::error::CliError;

type Checked = Result<String, String>;

fn keep<T>(text: &str, parsed: Result<T, CliError>) -> Checked {
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn label(text: &str) -> Checked {
    match text.split_once('=').map_or(text, |(key, _)| key) {
        "" => Err(format!("invalid label '{text}': empty name")),
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn stream(text: &str) -> Checked {
    let name = text.to_lowercase();
    match name.as_str() {
        "stdin" | "stdout" | "stderr" => Ok(name),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

pub(super) fn env(text: &str) -> Checked {
    environment::resolve_env(text)
}

pub(super) fn weight_device(text: &str) -> Checked {
    keep(text, devices::weights(&[text.to_owned()]))
}

pub(super) fn byte_rate(text: &str) -> Checked {
    keep(text, devices::byte_rates(&[text.to_owned()]))
}

pub(super) fn operation_rate(text: &str) -> Checked {
    keep(text, devices::operation_rates(&[text.to_owned()]))
}

pub(super) fn device_rule(text: &str) -> Checked {
    let valid = || -> Option<()> {
        let mut words = text.split(' ');
        let (kind, numbers, modes) = (words.next()?, words.next()?, words.next()?);
        let number = |n: &str| n == "*" || (!n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let (major, minor) = numbers.split_once(':')?;
        let modes_valid = (1..=3).contains(&modes.len()) && modes.chars().all(|c| "rwm".contains(c));
        let kind_valid = matches!(kind, "a" | "b" | "c");
        (kind_valid && number(major) && number(minor) && modes_valid && words.next().is_none()).then_some(())
    };
    valid()
        .map(|()| text.to_owned())
        .ok_or_else(|| format!("invalid device cgroup format '{text}'"))
}

pub(super) fn gpus(text: &str) -> Checked {
    keep(text, devices::gpu_request(text))
}

pub(super) fn ulimit(text: &str) -> Checked {
    keep(text, security::ulimits(&[text.to_owned()]))
}

pub(super) fn mount(text: &str) -> Checked {
    keep(text, mounts::parse(text))
}

pub(super) fn network(text: &str) -> Checked {
    keep(text, networks::parse(text))
}

pub(super) fn ip_address(text: &str) -> Checked {
    let text = text.trim();
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// A domain of letters, digits and dashes, or the root `.`.
pub(super) fn search_domain(text: &str) -> Checked {
    let text = text.trim();
    if text == "." {
        return Ok(text.to_owned());
    }
    let label_valid = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let has_letter = text.bytes().any(|b| b.is_ascii_alphabetic());
    let labels_valid = text.len() < 255 && text.trim_end_matches('.').split('.').all(label_valid);
    if has_letter && labels_valid {
        Ok(text.to_owned())
    } else {
        Err(format!("{text} is not a valid domain"))
    }
}

/// `host:ip` or `host=ip`; the address may be in brackets, or the word `host-gateway`.
pub(super) fn extra_host(text: &str) -> Checked {
    let bad = || format!("bad format for add-host: {text:?}");
    let separator = text.find(['=', ':']).ok_or_else(bad)?;
    let (host, address) = (&text[..separator], &text[separator + 1..]);
    if host.is_empty() || address.is_empty() {
        return Err(bad());
    }
    if address == "host-gateway" {
        return Ok(format!("{host}:{address}"));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    if bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{host}:{bare}"))
}

pub(super) fn link(text: &str) -> Checked {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// Parameters that belong to a namespace of the container; others would change the host.
pub(super) fn sysctl(text: &str) -> Checked {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let refused = || format!("sysctl '{text}' is not allowed");
    let (name, _) = text.split_once('=').ok_or_else(refused)?;
    let allowed = NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if allowed { Ok(text.to_owned()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_take_both_separators() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(extra_host(text), expected.map(str::to_owned).map_err(str::to_owned));
        };
        check("a:1.2.3.4", Ok("a:1.2.3.4"));
        check("a=::1", Ok("a:::1"));
        check("a:[::1]", Ok("a:::1"));
        check("a:host-gateway", Ok("a:host-gateway"));
        check("a", Err("bad format for add-host: \"a\""));
        check("a:x", Err("invalid IP address in add-host: \"x\""));
    }

    #[test]
    fn only_namespaced_parameters_are_allowed() {
        assert!(sysctl("net.ipv4.ip_forward=1").is_ok());
        assert!(sysctl("kernel.shmmax=1").is_ok());
        assert!(sysctl("kernel.panic=1").is_err());
        assert!(sysctl("net.x").is_err());
    }

    #[test]
    fn device_rules_have_three_words() {
        assert!(device_rule("c 1:3 rwm").is_ok());
        assert!(device_rule("a *:* m").is_ok());
        for text in ["c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c 1:3 r extra"] {
            assert!(device_rule(text).is_err(), "{text}");
        }
    }
}
