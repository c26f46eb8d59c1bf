//! `--network` in its short and long form, and the flags that belong to the first network.

use std::collections::BTreeMap;

use wharf_api::types::{EndpointIpamConfig, EndpointSettings, StringMap};

use crate::error::CliError;
use crate::flags::Parsed;

/// One network to join.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attachment {
    name: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    mac_address: String,
    driver_options: StringMap,
    gateway_priority: i64,
}

/// The networks of a new container.
pub(super) struct Plan {
    pub(super) mode: String,
    pub(super) endpoints: BTreeMap<String, Option<EndpointSettings>>,
}

/// One `--network` value: a name, or `name=..,alias=..`.
pub(super) fn parse(text: &str) -> Result<Attachment, CliError> {
    let long_form = text
        .split_once('=')
        .is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-'));
    if !long_form {
        return Ok(Attachment {
            name: text.to_owned(),
            ..Attachment::default()
        });
    }
    let mut attachment = Attachment::default();
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| CliError::message(format!("invalid field {field}")))?;
        attachment.set(key.trim().to_lowercase().as_str(), value.trim())?;
    }
    if attachment.name.is_empty() {
        return Err(CliError::message("network name/id is not specified"));
    }
    Ok(attachment)
}

impl Attachment {
    fn set(&mut self, key: &str, value: &str) -> Result<(), CliError> {
        match key {
            "name" => self.name = value.to_owned(),
            "alias" => self.aliases.push(value.to_owned()),
            "driver-opt" => {
                let (name, option) = value.split_once('=').ok_or_else(|| {
                    CliError::message(format!("invalid key value pair format in driver options: {value}"))
                })?;
                self.driver_options
                    .insert(name.trim().to_lowercase(), option.trim().to_owned());
            }
            "ip" => self.ipv4 = value.to_owned(),
            "ip6" => self.ipv6 = value.to_owned(),
            "mac-address" => {
                check_mac_address(value)?;
                self.mac_address = value.to_owned();
            }
            "link-local-ip" => self.link_local.push(value.to_owned()),
            "gw-priority" => {
                self.gateway_priority = value
                    .parse()
                    .map_err(|_| CliError::message(format!("invalid gw-priority ({value}): must be an integer")))?;
            }
            _ => return Err(CliError::message(format!("invalid field key {key}"))),
        }
        Ok(())
    }

    /// Adds what the flags beside `--network` say about the first network.
    fn apply_flags(&mut self, parsed: &Parsed) -> Result<(), CliError> {
        let aliases = [parsed.all("network-alias"), parsed.all("net-alias")].concat();
        let links = parsed.all("link");
        let conflicts = [
            (
                "network-alias",
                "alias",
                !aliases.is_empty() && !self.aliases.is_empty(),
            ),
            ("ip", "IPv4 address", parsed.is_given("ip") && !self.ipv4.is_empty()),
            ("ip6", "IPv6 address", parsed.is_given("ip6") && !self.ipv6.is_empty()),
            (
                "mac-address",
                "MAC address",
                parsed.is_given("mac-address") && !self.mac_address.is_empty(),
            ),
            (
                "link-local-ip",
                "link-local IP addresses",
                parsed.is_given("link-local-ip") && !self.link_local.is_empty(),
            ),
        ];
        if let Some((flag, option, _)) = conflicts.iter().find(|(_, _, both)| *both) {
            return Err(CliError::message(format!(
                "conflicting options: cannot specify both --{flag} and per-network {option}"
            )));
        }
        self.aliases.extend(aliases);
        if is_user_defined(&self.name) {
            self.links.extend(links);
        }
        for (flag, field) in [
            ("ip", &mut self.ipv4),
            ("ip6", &mut self.ipv6),
            ("mac-address", &mut self.mac_address),
        ] {
            if let Some(value) = parsed.last(flag) {
                value.clone_into(field);
            }
        }
        self.link_local.extend(parsed.all("link-local-ip"));
        Ok(())
    }

    fn settings(&self) -> Result<EndpointSettings, CliError> {
        if self.name.trim().is_empty() {
            return Err(CliError::message("no name set for network"));
        }
        if !is_user_defined(&self.name) && !self.aliases.is_empty() {
            return Err(CliError::message(
                "network-scoped aliases are only supported for user-defined networks",
            ));
        }
        if !self.mac_address.is_empty() {
            check_mac_address(&self.mac_address)?;
        }
        let fixed = !(self.ipv4.is_empty() && self.ipv6.is_empty() && self.link_local.is_empty());
        Ok(EndpointSettings {
            ipam_config: fixed.then(|| EndpointIpamConfig {
                ipv4_address: self.ipv4.clone(),
                ipv6_address: self.ipv6.clone(),
                link_local_ips: self.link_local.clone(),
            }),
            links: some(&self.links),
            aliases: some(&self.aliases),
            mac_address: self.mac_address.clone(),
            driver_opts: (!self.driver_options.is_empty()).then(|| self.driver_options.clone()),
            gw_priority: self.gateway_priority,
            ..EndpointSettings::default()
        })
    }
}

fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The networks for the flags.
pub(super) fn plan(parsed: &Parsed) -> Result<Plan, CliError> {
    let given = [parsed.all("network"), parsed.all("net")].concat();
    let mut attachments = given.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mode = attachments
        .first()
        .map_or_else(|| "default".to_owned(), |first| first.name.clone());
    if attachments.is_empty() {
        attachments.push(Attachment {
            name: mode.clone(),
            ..Attachment::default()
        });
    }
    check_kinds(&attachments)?;
    let alone = given.len() == 1;
    let mut endpoints = BTreeMap::new();
    for (index, attachment) in attachments.iter_mut().enumerate() {
        if index == 0 {
            attachment.apply_flags(parsed)?;
        }
        let settings = attachment.settings()?;
        // COMPAT: one network without any options is named by the mode alone.
        if alone && settings == EndpointSettings::default() {
            continue;
        }
        if endpoints.insert(attachment.name.clone(), Some(settings)).is_some() {
            return Err(CliError::message(format!(
                "network {:?} is specified multiple times",
                attachment.name
            )));
        }
    }
    Ok(Plan { mode, endpoints })
}

fn check_kinds(attachments: &[Attachment]) -> Result<(), CliError> {
    let user_defined = attachments.iter().filter(|a| is_user_defined(&a.name)).count();
    if user_defined > 0 && user_defined < attachments.len() {
        return Err(CliError::message(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ));
    }
    Ok(())
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

fn check_mac_address(text: &str) -> Result<(), CliError> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    let valid = parts.len() == 6
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
    if valid {
        Ok(())
    } else {
        Err(CliError::message(format!("{text} is not a valid mac address")))
    }
}

/// The settings for `network connect`.
pub(crate) fn endpoint_settings_from_connect(parsed: &Parsed) -> Result<EndpointSettings, CliError> {
    let mut attachment = Attachment {
        aliases: parsed.all("alias"),
        links: parsed.all("link"),
        ipv4: parsed.text("ip").to_owned(),
        ipv6: parsed.text("ip6").to_owned(),
        link_local: parsed.all("link-local-ip"),
        gateway_priority: parsed.number("gw-priority"),
        name: parsed.arg(0).to_owned(),
        ..Attachment::default()
    };
    for option in parsed.all("driver-opt") {
        attachment.set("driver-opt", &option)?;
    }
    let addresses = attachment.ipv4.clone();
    let mut settings = Attachment {
        name: "x".to_owned(),
        ..attachment
    }
    .settings()?;
    // COMPAT: Docker's CLI always sends these here, empty ones too.
    settings.aliases.get_or_insert_default();
    settings.driver_opts.get_or_insert_default();
    if settings.ipam_config.is_none() {
        settings.ipam_config = Some(EndpointIpamConfig {
            ipv4_address: addresses,
            ..EndpointIpamConfig::default()
        });
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_form_has_keys() {
        let found = parse("name=n,alias=a,alias=b,ip=1.2.3.4,driver-opt=X=y,gw-priority=-1").unwrap();
        assert_eq!(
            (found.name.as_str(), found.aliases.len(), found.gateway_priority),
            ("n", 2, -1)
        );
        assert_eq!(found.driver_options["x"], "y");
        assert_eq!(parse("bridge").unwrap().name, "bridge");
        for text in ["alias=a", "name=n,x=y", "name=n,mac-address=zz", "name="] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
