//! Changes to a container that are no transitions: name, limits, networks.
use std::sync::Arc;

use wharf_shim::protocol::Phase;

use super::create::limits::check_resources;
use super::create::names::check_name;
use super::create::validate::check_restart_policy;
use super::start;
use super::task::Task;
use crate::db::JournalId;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::annotations::{HEALTH_ON_FAILURE, check_annotations};
use crate::model::requests::UpdateContainer;
use crate::model::{
    EndpointRecord, EndpointSettings, Happening, NetworkMode, NetworkRecord, Resources, ids::random_hex_id,
};
use crate::operations::{self, OperationKind};
use crate::realtime;
use crate::spec::cgroup_resources;

/// Gives the container another name.
pub(super) async fn rename(task: &mut Task, wanted: &str) -> Result<()> {
    let name = wanted.strip_prefix('/').unwrap_or(wanted);
    if name.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    check_name(name)?;
    let old = task.record.name.clone();
    if name == old {
        return Err(Error::invalid(
            "Renaming a container with the same name as its current name",
        ));
    }
    let shared = Arc::clone(&task.shared);
    shared.containers.reserve_name(name, &task.record.id)?;
    let before = task.record.clone();
    name.clone_into(&mut task.record.name);
    task.record.story.push(Happening::Renamed { from: old.clone() });
    for endpoint in task.record.endpoints.values_mut() {
        for known in endpoint.dns_names.iter_mut().filter(|n| **n == old) {
            name.clone_into(known);
        }
    }
    if let Err(error) = task.commit_or_restore(before).await {
        shared.containers.release_name(name, &task.record.id);
        return Err(error);
    }
    operations::step("recorded");
    shared.containers.release_name(&old, &task.record.id);
    rename_in_networks(task).await;
    task.happened("rename", &[("oldName", format!("/{old}"))]);
    Ok(())
}

async fn rename_in_networks(task: &Task) {
    let live: Vec<_> = task
        .record
        .endpoints
        .values()
        .filter(|e| e.live.is_some() && !e.dns_names.is_empty())
        .map(|e| (e.network_id.to_string(), e.dns_names.clone()))
        .collect();
    let (net, id) = (Arc::clone(&task.shared.net), task.record.id.to_string());
    let done = super::blocking::blocking("renaming on the networks", move || {
        for (network, names) in live {
            net.rename(&network, &id, &names)?;
        }
        Ok(())
    });
    if let Err(error) = done.await {
        tracing::warn!(
            container = task.record.id.short(),
            "renamed, but not on its networks: {}",
            error.chain()
        );
    }
}

/// Changes limits and policy; answers warnings.
pub(super) async fn update(task: &mut Task, request: UpdateContainer) -> Result<Vec<String>> {
    if !task.shared.containers.find(task.record.id.as_str()).is_ok_and(|_| true) {
        return Err(Error::not_found(format!("No such container: {}", task.record.id)));
    }
    if let Some(policy) = request.restart_policy.as_ref().filter(|p| !p.name.is_empty()) {
        check_restart_policy(policy, false)?;
        if task.record.host.auto_remove && policy.name != "no" {
            return Err(Error::invalid(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
    }
    check_annotations(Some(&request.annotations))?;
    if let Some(name) = request.annotations.keys().find(|name| *name != HEALTH_ON_FAILURE) {
        return Err(Error::invalid(format!(
            "annotation {name} cannot be updated; only {HEALTH_ON_FAILURE} can"
        )));
    }
    let mut merged = merge(&task.record.host.resources, &request.resources)?;
    let warnings = check_resources(&mut merged, &task.shared.host_limits).map_err(|e| {
        Error::new(
            e.kind(),
            format!("Cannot update container {}: {}", task.record.id, e.message()),
        )
    })?;
    let changed = Resources {
        memory_swap: if request.resources.memory != 0 {
            merged.memory_swap
        } else {
            request.resources.memory_swap
        },
        ..request.resources.clone()
    };
    let row = match changed != Resources::default() && task.shim.is_some() {
        true => Some(journal_update(task, &changed, &merged).await?),
        false => None,
    };
    let applied = apply_live(task, &changed).await;
    operations::step("applied");
    let done = match applied {
        Ok(()) => record_update(task, merged, request).await,
        failed => failed,
    };
    if let Some(row) = row {
        task.shared.db.call(move |db| db.journal_end(row)).await?;
    }
    done?;
    task.set_policy();
    task.happened("update", &[]);
    Ok(warnings)
}

/// A killed engine leaves limits in the kernel that the record does not have: the next one completes the update.
async fn journal_update(task: &Task, changed: &Resources, merged: &Resources) -> Result<JournalId> {
    let args = serde_json::json!({ "changed": changed, "merged": merged });
    let row = operations::journal(&task.shared, OperationKind::Update, task.record.id.as_str(), args).await;
    operations::step("journalled");
    row
}

/// Completes an update that a killed engine left: the limits are set again and written down.
pub(super) async fn complete_update(task: &mut Task, args: &serde_json::Value) -> Result<()> {
    let read = |key: &str| {
        let value = args.get(key).cloned().unwrap_or_default();
        serde_json::from_value::<Resources>(value).internal(|| "read the journal of an update".into())
    };
    let (changed, merged) = (read("changed")?, read("merged")?);
    apply_live(task, &changed).await?;
    record_update(task, merged, UpdateContainer::default()).await
}

async fn record_update(task: &mut Task, merged: Resources, request: UpdateContainer) -> Result<()> {
    let before = task.record.clone();
    task.record.host.resources = merged;
    if let Some(policy) = request.restart_policy.filter(|p| !p.name.is_empty()) {
        task.record.host.restart_policy = policy;
    }
    if !request.annotations.is_empty() {
        let annotations = task.record.host.annotations.get_or_insert_default();
        annotations.extend(request.annotations);
    }
    task.record.story.push(Happening::Updated);
    task.commit_or_restore(before).await
}

async fn apply_live(task: &Task, changed: &Resources) -> Result<()> {
    let Some(shim) = task.shim.as_ref().filter(|_| *changed != Resources::default()) else {
        return Ok(());
    };
    realtime::ensure(&task.shared, &task.record, changed)?;
    let Err(error) = shim.update(cgroup_resources(changed)).await else {
        return Ok(());
    };
    // The news of its end may be on the way: then the change is for the next start.
    if !shim.state().await.is_ok_and(|state| state.phase != Phase::Exited) {
        return Ok(());
    }
    let error = Error::from(error);
    let message = format!("Cannot update container {}: {}", task.record.id, error.message());
    Err(Error::new(error.kind(), message).with_source(error))
}

/// The limits after an update: those that are not given stay.
fn merge(now: &Resources, asked: &Resources) -> Result<Resources> {
    if asked.nano_cpus > 0 && (now.cpu_period > 0 || now.cpu_quota > 0) {
        return Err(Error::conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set",
        ));
    }
    if (asked.cpu_period > 0 || asked.cpu_quota > 0) && now.nano_cpus > 0 {
        return Err(Error::conflict(
            "Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set",
        ));
    }
    if asked.memory > 0 && asked.memory_swap == 0 && now.memory_swap > 0 && asked.memory > now.memory_swap {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    let number = |new: i64, old: i64| if new != 0 { new } else { old };
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    Ok(Resources {
        cpu_shares: number(asked.cpu_shares, now.cpu_shares),
        memory: number(asked.memory, now.memory),
        memory_swap: number(asked.memory_swap, now.memory_swap),
        memory_reservation: number(asked.memory_reservation, now.memory_reservation),
        nano_cpus: number(asked.nano_cpus, now.nano_cpus),
        cpu_period: number(asked.cpu_period, now.cpu_period),
        cpu_quota: number(asked.cpu_quota, now.cpu_quota),
        cpu_realtime_period: number(asked.cpu_realtime_period, now.cpu_realtime_period),
        cpu_realtime_runtime: number(asked.cpu_realtime_runtime, now.cpu_realtime_runtime),
        cpuset_cpus: text(&asked.cpuset_cpus, &now.cpuset_cpus),
        cpuset_mems: text(&asked.cpuset_mems, &now.cpuset_mems),
        blkio_weight: if asked.blkio_weight != 0 {
            asked.blkio_weight
        } else {
            now.blkio_weight
        },
        pids_limit: match asked.pids_limit {
            None | Some(0) => now.pids_limit,
            given => given,
        },
        ..now.clone()
    })
}

/// Connects the container to one more network, live when it runs.
pub(super) async fn connect(task: &mut Task, network: &NetworkRecord, settings: EndpointSettings) -> Result<()> {
    check_connectable(task, network)?;
    let mut endpoint = EndpointRecord {
        network_name: network.name.clone(),
        network_id: network.id.clone(),
        dns_names: super::create::endpoint_names(&task.record, network.predefined, &settings),
        settings,
        ..EndpointRecord::default()
    };
    if task.record.state.is_running() {
        let live = start::connect_one(&task.shared, &task.record, network, &endpoint).await?;
        endpoint.endpoint_id = live.id.clone();
        endpoint.live = Some(live);
    }
    operations::step("connected");
    if endpoint.endpoint_id.is_empty() && task.record.state.is_running() {
        endpoint.endpoint_id = random_hex_id();
    }
    task.record.endpoints.insert(network.name.clone(), endpoint);
    task.commit().await;
    operations::step("recorded");
    if task.record.state.is_running() {
        start::rewrite_hosts(&task.shared, &task.record).await?;
    }
    Ok(())
}

fn check_connectable(task: &Task, network: &NetworkRecord) -> Result<()> {
    match task.record.host.network() {
        NetworkMode::Host => {
            return Err(Error::invalid(
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        NetworkMode::Container(_) => {
            return Err(Error::invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ));
        }
        NetworkMode::None if task.record.state.is_running() => {
            return Err(Error::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        _ => {}
    }
    let known =
        task.record.endpoints.values().any(|e| {
            e.network_id == network.id || (e.network_id.as_str().is_empty() && e.network_name == network.name)
        });
    if known {
        return Err(Error::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            task.record.name, network.name
        )));
    }
    Ok(())
}

/// Takes the container off a network, live when it runs.
pub(super) async fn disconnect(task: &mut Task, network: &NetworkRecord) -> Result<()> {
    let name = task
        .record
        .endpoints
        .iter()
        .find(|(name, e)| e.network_id == network.id || **name == network.name)
        .map(|(name, _)| name.clone());
    let Some(name) = name else {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "container {} is not connected to network {}",
                task.record.id, network.name
            ),
        ));
    };
    if task.record.endpoints[&name].live.is_some() {
        start::disconnect_one(&task.shared, &task.record, network).await?;
    }
    operations::step("disconnected");
    task.record.endpoints.remove(&name);
    task.commit().await;
    operations::step("recorded");
    if task.record.state.is_running() {
        start::rewrite_hosts(&task.shared, &task.record).await?;
    }
    Ok(())
}
