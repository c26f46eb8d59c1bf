//! The generated files of a container: hostname, hosts, resolv.conf.
//!
//! They are written in place, never renamed, because they are bind-mounted one by one.
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use wharf_net::hosts::{HostsFile, hostname_file, hosts_file};
use wharf_net::resolv::{ResolvConf, ResolvMode, ResolvRequest, read_host_file, resolv_conf};

use super::network::Networks;
use crate::Shared;
use crate::containers::blocking::blocking;
use crate::containers::links;
use crate::containers::paths::Places;
use crate::error::{Context, Result};
use crate::model::{ContainerRecord, NetworkMode};

/// Writes hostname, resolv.conf and a first hosts file; answers what the name service needs.
pub(super) fn write_first(
    dir: &Path,
    record: &ContainerRecord,
    networks: &Networks,
    gateways: Vec<IpAddr>,
    linked: Vec<(IpAddr, String)>,
) -> Result<ResolvConf> {
    let resolv = plan_resolv(record, networks)?;
    write(&dir.join("hostname"), &hostname_file(&record.config.hostname))?;
    write(&dir.join("resolv.conf"), &resolv.content)?;
    write(&dir.join("hosts"), &plan_hosts(record, Vec::new(), gateways, linked)?)?;
    Ok(resolv)
}

fn plan_resolv(record: &ContainerRecord, networks: &Networks) -> Result<ResolvConf> {
    let mode = match record.host.network() {
        NetworkMode::Host => ResolvMode::Host,
        _ if networks.values().any(|n| !n.predefined) => ResolvMode::NameService,
        _ => ResolvMode::Copy,
    };
    let request = ResolvRequest {
        servers: record.host.dns.clone().unwrap_or_default(),
        search: record.host.dns_search.clone().unwrap_or_default(),
        options: record.host.dns_options.clone().unwrap_or_default(),
        host_file: read_host_file(),
        has_ipv6: networks.values().any(|n| n.ipv6),
    };
    Ok(resolv_conf(mode, &request)?)
}

fn plan_hosts(
    record: &ContainerRecord,
    addresses: Vec<IpAddr>,
    host_gateway: Vec<IpAddr>,
    linked: Vec<(IpAddr, String)>,
) -> Result<String> {
    let on_host = record.host.network() == NetworkMode::Host;
    Ok(hosts_file(&HostsFile {
        host_file: on_host.then(|| std::fs::read_to_string("/etc/hosts").unwrap_or_default()),
        hostname: record.config.hostname.clone(),
        domainname: record.config.domainname.clone(),
        addresses,
        extra_hosts: record.host.extra_hosts.clone().unwrap_or_default(),
        host_gateway,
        linked,
    })?)
}

/// Writes the hosts file for the addresses the container has now.
pub(crate) async fn rewrite_hosts(shared: &Arc<Shared>, record: &ContainerRecord) -> Result<()> {
    if matches!(record.host.network(), NetworkMode::Container(_)) {
        return Ok(()); // it uses the other container's file
    }
    let addresses: Vec<IpAddr> = record
        .endpoints
        .values()
        .filter_map(|e| e.live.as_ref())
        .flat_map(|live| live.ipv4.iter().chain(live.ipv6.iter()))
        .map(ipnet::IpNet::addr)
        .collect();
    let path = Places::of(&shared.config, &record.id).dir.join("hosts");
    let linked = links::hosts_lines(shared, record).unwrap_or_default(); // a linked one may have ended since
    let (record, net) = (record.clone(), Arc::clone(&shared.net));
    blocking("writing the hosts file", move || {
        write(&path, &plan_hosts(&record, addresses, net.host_gateway(), linked)?)
    })
    .await
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).internal(|| format!("write {}", path.display()))
}
