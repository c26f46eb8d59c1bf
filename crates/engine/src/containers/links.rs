//! Links on the default bridge: names of other containers in a container's hosts file.
use std::net::IpAddr;
use std::sync::Arc;

use crate::Shared;
use crate::error::{Error, Result};
use crate::model::{ContainerRecord, NetworkMode};

/// `target:alias`, as asked or as kept (`/target:/parent/alias`), without the decoration;
/// without an alias the target's own name is it.
pub(crate) fn split(link: &str) -> (&str, &str) {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    let last = alias.rsplit('/').next().unwrap_or(alias);
    (target.trim_start_matches('/'), last)
}

/// Writes the links of the default bridge as inspect shows them.
pub(super) fn make_canonical(shared: &Shared, record: &mut ContainerRecord) {
    if !applies_to(record) {
        return;
    }
    for link in record.host.links.iter_mut().flatten() {
        if let Ok(target) = shared.containers.find(split(link).0) {
            *link = canonical(link, &target.record().name, &record.name);
        }
    }
}

/// The form in which inspect shows a link: `/target:/parent/alias`.
fn canonical(link: &str, target_name: &str, parent_name: &str) -> String {
    let (_, alias) = split(link);
    format!("/{target_name}:/{parent_name}/{alias}")
}

/// Whether the container's links are those of the default bridge; on other networks they are
/// names of the name service.
pub(crate) fn applies_to(record: &ContainerRecord) -> bool {
    record.host.network() == NetworkMode::Bridge
}

/// Lines of the hosts file: address and names of every linked container, all of which have to run.
pub(crate) fn hosts_lines(shared: &Shared, record: &ContainerRecord) -> Result<Vec<(IpAddr, String)>> {
    let mut lines = Vec::new();
    if !applies_to(record) {
        return Ok(lines);
    }
    for link in record.host.links.iter().flatten() {
        let (target, alias) = split(link);
        let other = shared.containers.find(target)?.record();
        if !other.state.is_running() {
            return Err(Error::conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                other.name, record.name
            )));
        }
        let mut names = format!("{alias} {}", other.config.hostname);
        if alias != other.name {
            names = format!("{names} {}", other.name);
        }
        for address in addresses(&other) {
            lines.push((address, names.clone()));
        }
    }
    Ok(lines)
}

fn addresses(record: &ContainerRecord) -> Vec<IpAddr> {
    let live = record.endpoints.get("bridge").and_then(|e| e.live.as_ref());
    live.map(|live| {
        live.ipv4
            .iter()
            .chain(live.ipv6.iter())
            .map(ipnet::IpNet::addr)
            .collect()
    })
    .unwrap_or_default()
}

/// Writes the hosts files of running containers with a link to this one, whose address is new.
pub(super) async fn tell_linked(shared: &Arc<Shared>, started: &ContainerRecord) {
    let links_here = |record: &ContainerRecord| {
        let mut links = record.host.links.iter().flatten();
        applies_to(record) && links.any(|link| split(link).0 == started.name)
    };
    let records = shared.containers.dependent().into_iter().map(|handle| handle.record());
    for record in records.filter(|record| record.state.is_running() && links_here(record)) {
        if let Err(error) = super::start::rewrite_hosts(shared, &record).await {
            tracing::warn!(container = record.id.short(), "hosts file: {}", error.chain());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_read_in_every_form() {
        for (text, wanted) in [
            ("db", ("db", "db")),
            ("db:store", ("db", "store")),
            ("/db:/web/store", ("db", "store")),
        ] {
            assert_eq!(split(text), wanted, "{text}");
        }
        assert_eq!(canonical("3ab:store", "db", "web"), "/db:/web/store");
    }
}
