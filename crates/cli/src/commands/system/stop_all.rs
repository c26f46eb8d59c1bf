//! `wharf system stop-all`, which is ours: what a host does with its containers before it goes down.
//!
//! Dependents are stopped before what they depend on: containers that share another's namespaces, link to it, take its
//! volumes, or name it in Compose's `depends_on`. What does not depend on each other is stopped at the same time.

use std::collections::BTreeMap;

use wharf_api::client::{Client, escape};
use wharf_api::types::{ContainerInspect, ContainerSummary};

use crate::error::{CliError, Failures, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["system stop-all"],
    usage: "[OPTIONS]",
    about: "Stop all containers for a shutdown of the host, dependents first",
    flags: &[&[Flag::int(
        "timeout",
        "Seconds to wait before killing a container, instead of its own",
    )
    .short('t')]],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

/// A running container and what it depends on, by id or name.
#[derive(Debug, Default)]
struct Node {
    id: String,
    name: String,
    /// Its Compose project and service.
    service: Option<(String, String)>,
    needs: Vec<String>,
    needs_services: Vec<(String, String)>,
}

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let mut failures = Failures::default();
    for wave in waves(&running(&client).await?) {
        let stops = wave.iter().map(|node| stop(&client, node, parsed.text("timeout")));
        for (node, result) in wave.iter().zip(futures_util::future::join_all(stops).await) {
            match result {
                Ok(()) => outln!("{}", node.name),
                Err(error) => failures.add(&error), // the others are stopped all the same
            }
        }
    }
    failures.outcome()
}

async fn stop(client: &Client, node: &Node, timeout: &str) -> Result<(), CliError> {
    let call = client
        .post(format!("/containers/{}/stop", escape(&node.id)))
        .query("shutdown", "1")
        .query_if("t", timeout);
    call.finish().await.map_err(CliError::from)
}

async fn running(client: &Client) -> Result<Vec<Node>, CliError> {
    let listed: Vec<ContainerSummary> = client.get("/containers/json").fetch().await?;
    let mut nodes = Vec::with_capacity(listed.len());
    for container in &listed {
        let call = client.get(format!("/containers/{}/json", escape(&container.id)));
        if let Ok(inspected) = call.fetch::<ContainerInspect>().await {
            nodes.push(node_of(&inspected)); // one that ended meanwhile is stopped
        }
    }
    Ok(nodes)
}

fn node_of(container: &ContainerInspect) -> Node {
    let host = &container.host_config;
    let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
    let shared = modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"));
    let first = |text: &String| text.split(':').next().unwrap_or_default().to_owned();
    let links = host.links.iter().flatten().map(first);
    let volumes = host.volumes_from.iter().flatten().map(first);
    let label = |name: &str| {
        container
            .config
            .labels
            .iter()
            .flatten()
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v.clone())
    };
    let project = label(PROJECT);
    let depends_on = label(DEPENDS_ON).unwrap_or_default();
    let services = depends_on
        .split(',')
        .map(|entry| entry.split(':').next().unwrap_or_default());
    Node {
        id: container.id.clone(),
        name: container.name.trim_start_matches('/').to_owned(),
        service: project.clone().zip(label(SERVICE)),
        needs: shared
            .map(str::to_owned)
            .chain(links.map(|link| link.trim_start_matches('/').to_owned()))
            .chain(volumes)
            .collect(),
        needs_services: services
            .filter(|service| !service.is_empty())
            .filter_map(|service| Some((project.clone()?, service.to_owned())))
            .collect(),
    }
}

/// Groups to be stopped one after another: nobody in a group is needed by a later one.
fn waves(nodes: &[Node]) -> Vec<Vec<&Node>> {
    let needs: Vec<Vec<usize>> = nodes.iter().map(|node| needed_by(node, nodes)).collect();
    let mut left: BTreeMap<usize, &Node> = nodes.iter().enumerate().collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let needed = |index: usize| {
            left.keys()
                .any(|other| *other != index && needs[*other].contains(&index))
        };
        let mut free: Vec<usize> = left.keys().copied().filter(|index| !needed(*index)).collect();
        if free.is_empty() {
            free = left.keys().copied().collect(); // they need each other: no order is better than another
        }
        waves.push(free.iter().filter_map(|index| left.remove(index)).collect());
    }
    waves
}

/// The running containers that a container depends on.
fn needed_by(node: &Node, nodes: &[Node]) -> Vec<usize> {
    let is_needed = |other: &Node| {
        let by_name = node.needs.iter().any(|need| *need == other.name || *need == other.id);
        let by_service = other
            .service
            .as_ref()
            .is_some_and(|service| node.needs_services.contains(service));
        by_name || by_service
    };
    let found = nodes
        .iter()
        .enumerate()
        .filter(|(_, other)| other.id != node.id && is_needed(other));
    found.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, needs: &[&str]) -> Node {
        Node {
            id: format!("id-{name}"),
            name: name.to_owned(),
            needs: needs.iter().map(|n| (*n).to_owned()).collect(),
            ..Node::default()
        }
    }

    fn names(nodes: &[Node]) -> Vec<Vec<&str>> {
        waves(nodes)
            .iter()
            .map(|wave| wave.iter().map(|n| n.name.as_str()).collect())
            .collect()
    }

    #[test]
    fn dependents_go_first_and_the_rest_together() {
        let service = |name: &str, needs: &[&str]| Node {
            service: Some(("p".into(), name.into())),
            needs_services: needs.iter().map(|n| ("p".to_owned(), (*n).to_owned())).collect(),
            ..node(&format!("p-{name}-1"), &[])
        };
        let nodes = [
            node("db", &[]),
            node("web", &["id-db"]),
            node("proxy", &["web", "gone"]),
            service("cache", &[]),
            service("app", &["cache"]),
        ];
        assert_eq!(
            names(&nodes),
            [vec!["proxy", "p-app-1"], vec!["web", "p-cache-1"], vec!["db"]]
        );
        assert_eq!(names(&[node("a", &["b"]), node("b", &["a"])]), [["a", "b"]]);
        assert!(names(&[]).is_empty());
    }
}
