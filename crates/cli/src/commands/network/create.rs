//! `wharf network create`.

use std::net::IpAddr;

use wharf_api::types::{ConfigReference, Ipam, IpamConfig, NetworkCreateRequest, NetworkCreateResponse};

use crate::create::to_map;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("attachable", "Let containers connect by hand"),
    Flag::list("aux-address", "Address that the driver uses itself (NAME=IP)")
        .shown_as("map")
        .default("map[]"),
    Flag::string("config-from", "Network to take the configuration from"),
    Flag::switch("config-only", "Make only a configuration"),
    Flag::string("driver", "Driver of the network")
        .short('d')
        .default("\"bridge\""),
    Flag::strings("gateway", "Gateway of a subnet"),
    Flag::switch("ingress", "Make the routing mesh of a swarm"),
    Flag::switch("internal", "No way out of the network"),
    Flag::strings("ip-range", "Part of a subnet that addresses are taken from"),
    Flag::string("ipam-driver", "Driver of the addresses").default("\"default\""),
    Flag::list("ipam-opt", "Option of the driver of the addresses")
        .shown_as("map")
        .default("map[]"),
    Flag::switch("ipv4", "Give IPv4 addresses").default("true"),
    Flag::switch("ipv6", "Give IPv6 addresses"),
    Flag::list("label", "Label of the network"),
    Flag::list("opt", "Option of the driver")
        .short('o')
        .shown_as("map")
        .default("map[]"),
    Flag::string("scope", "Scope of the network"),
    Flag::strings("subnet", "Subnet, address/prefix"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["network create"],
    usage: "[OPTIONS] NETWORK",
    about: "Make a network",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let body = request(parsed)?;
    let answer: NetworkCreateResponse = client.post("/networks/create").json(&body).fetch().await?;
    if !answer.warning.is_empty() {
        session.warn(&answer.warning);
    }
    outln!("{}", answer.id);
    Ok(0)
}

fn request(parsed: &Parsed) -> Result<NetworkCreateRequest, CliError> {
    let from = parsed.text("config-from");
    Ok(NetworkCreateRequest {
        name: parsed.arg(0).to_owned(),
        driver: parsed.last("driver").unwrap_or("bridge").to_owned(),
        scope: parsed.text("scope").to_owned(),
        enable_ipv4: parsed.is_given("ipv4").then(|| parsed.is_on("ipv4")),
        enable_ipv6: parsed.is_given("ipv6").then(|| parsed.is_on("ipv6")),
        ipam: Some(Ipam {
            driver: parsed.last("ipam-driver").unwrap_or("default").to_owned(),
            options: Some(to_map(&parsed.all("ipam-opt"))),
            config: Some(subnets(parsed)?),
        }),
        internal: parsed.is_on("internal"),
        attachable: parsed.is_on("attachable"),
        ingress: parsed.is_on("ingress"),
        config_only: parsed.is_on("config-only"),
        config_from: (!from.is_empty()).then(|| ConfigReference {
            network: from.to_owned(),
        }),
        options: Some(to_map(&parsed.all("opt"))),
        labels: Some(to_map(&parsed.all("label"))),
        ..NetworkCreateRequest::default()
    })
}

/// The subnets with the ranges, gateways and addresses that lie in them.
fn subnets(parsed: &Parsed) -> Result<Vec<IpamConfig>, CliError> {
    let (subnets, ranges, gateways) = (parsed.all("subnet"), parsed.all("ip-range"), parsed.all("gateway"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(CliError::message(
            "every ip-range or gateway must have a corresponding subnet",
        ));
    }
    let mut found: Vec<(Option<Subnet>, IpamConfig)> = Vec::new();
    for text in subnets {
        // COMPAT: an address that is none is the engine's to refuse.
        let subnet = Subnet::parse(&text).ok();
        let overlaps = |other: &Option<Subnet>| other.zip(subnet).is_some_and(|(a, b)| a.overlaps(&b));
        if found.iter().any(|(other, _)| overlaps(other)) {
            return Err(CliError::message(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        found.push((
            subnet,
            IpamConfig {
                subnet: text,
                ..IpamConfig::default()
            },
        ));
    }
    for range in ranges {
        let config = config_with(&mut found, Subnet::parse(&range)?.address)
            .ok_or_else(|| CliError::message(format!("no matching subnet for range {range}")))?;
        if !config.ip_range.is_empty() {
            return Err(CliError::message(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                config.ip_range, config.subnet
            )));
        }
        config.ip_range = range;
    }
    for gateway in gateways {
        let config = config_with(&mut found, address(&gateway)?)
            .ok_or_else(|| CliError::message(format!("no matching subnet for gateway {gateway}")))?;
        if !config.gateway.is_empty() {
            return Err(CliError::message(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                config.gateway, config.subnet
            )));
        }
        config.gateway = gateway;
    }
    for (name, text) in to_map(&parsed.all("aux-address")) {
        let config = config_with(&mut found, address(&text)?)
            .ok_or_else(|| CliError::message(format!("no matching subnet for aux-address {text}")))?;
        config.auxiliary_addresses.insert(name, text);
    }
    Ok(found.into_iter().map(|(_, config)| config).collect())
}

fn config_with(found: &mut [(Option<Subnet>, IpamConfig)], address: IpAddr) -> Option<&mut IpamConfig> {
    let holds = |subnet: &Option<Subnet>| subnet.is_some_and(|subnet| subnet.contains(address));
    found
        .iter_mut()
        .find(|(subnet, _)| holds(subnet))
        .map(|(_, config)| config)
}

fn address(text: &str) -> Result<IpAddr, CliError> {
    text.parse()
        .map_err(|_| CliError::message(format!("invalid address {text}")))
}

/// An address and the bits that are fixed.
#[derive(Clone, Copy, Debug)]
struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl Subnet {
    fn parse(text: &str) -> Result<Self, CliError> {
        let invalid = || CliError::message(format!("invalid CIDR address: {text}"));
        let (ip, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let ip: IpAddr = ip.parse().map_err(|_| invalid())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= most)
            .ok_or_else(invalid)?;
        Ok(Self { address: ip, prefix })
    }

    fn contains(&self, other: IpAddr) -> bool {
        let same =
            |a: u128, b: u128, width: u32| self.prefix == 0 || a >> (width - self.prefix) == b >> (width - self.prefix);
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_hold_their_own_addresses() {
        let subnet = Subnet::parse("10.1.0.0/16").unwrap();
        assert!(subnet.contains("10.1.2.3".parse().unwrap()));
        assert!(!subnet.contains("10.2.0.1".parse().unwrap()));
        assert!(subnet.overlaps(&Subnet::parse("10.0.0.0/8").unwrap()));
        assert!(!subnet.overlaps(&Subnet::parse("fd00::/8").unwrap()));
        for text in ["10.1.0.0", "10.1.0.0/33", "x/8"] {
            assert!(Subnet::parse(text).is_err(), "{text}");
        }
    }
}
