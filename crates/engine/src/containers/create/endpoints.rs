//! What was asked of a new container's endpoints, checked against the networks that are known.
//! COMPAT: an unknown network passes here and fails at start.
use std::net::IpAddr;

use wharf_net::MacAddress;

use crate::Shared;
use crate::error::{Error, Result};
use crate::model::{ContainerRecord, EndpointSettings, NetworkRecord};

/// Refuses addresses that are none, and fixed ones that no subnet of the network holds.
pub(super) fn check(shared: &Shared, record: &ContainerRecord) -> Result<()> {
    for (name, endpoint) in &record.endpoints {
        let network = shared.networks.resolve(name).ok();
        check_settings(&endpoint.settings, network.as_deref())?;
    }
    Ok(())
}

fn check_settings(settings: &EndpointSettings, network: Option<&NetworkRecord>) -> Result<()> {
    if !settings.mac_address.is_empty() {
        settings.mac_address.parse::<MacAddress>()?;
    }
    let Some(ipam) = &settings.ipam else { return Ok(()) };
    let fixed = [("IPv4", &ipam.ipv4_address, true), ("IPv6", &ipam.ipv6_address, false)];
    for (family, text, is_ipv4) in fixed.into_iter().filter(|(_, text, _)| !text.is_empty()) {
        let address = text
            .parse::<IpAddr>()
            .ok()
            .filter(|address| address.is_ipv4() == is_ipv4);
        let address = address.ok_or_else(|| Error::invalid(format!("invalid {family} address: {text}")))?;
        if let Some(plan) = network.and_then(|network| network.plan.as_ref())
            && !plan.pools.iter().any(|pool| pool.subnet.contains(&address))
        {
            return Err(Error::invalid(format!(
                "no configured subnet contains IP address {address}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EndpointIpam;

    fn check(ipv4: &str, ipv6: &str, mac: &str, fine: bool) {
        let ipam = EndpointIpam {
            ipv4_address: ipv4.into(),
            ipv6_address: ipv6.into(),
            link_local_ips: None,
        };
        let settings = EndpointSettings {
            ipam: Some(ipam),
            mac_address: mac.into(),
            ..EndpointSettings::default()
        };
        assert_eq!(check_settings(&settings, None).is_ok(), fine, "{ipv4} {ipv6} {mac}");
    }

    #[test]
    fn addresses_must_be_of_their_family() {
        check("10.0.0.1", "fd00::1", "02:42:0a:f3:5b:4d", true);
        check("", "", "", true);
        check("banana", "", "", false);
        check("fd00::1", "", "", false);
        check("", "10.0.0.1", "", false);
        check("", "", "zz", false);
    }
}
