//! Events of containers, with Docker's attributes.
use std::collections::BTreeMap;

use crate::events::EventBus;
use crate::model::{ContainerRecord, EndpointRecord, EventKind, MountPoint, NetworkRecord};

/// Publishes `action` of a container: its labels, image and name, and what is given.
pub(crate) fn publish(bus: &EventBus, record: &ContainerRecord, action: &str, more: &[(&str, String)]) {
    let mut attributes: BTreeMap<String, String> = record.config.labels.clone();
    attributes.insert("image".into(), record.config.image.clone());
    attributes.insert("name".into(), record.name.clone());
    attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
    bus.publish(EventKind::Container, action, record.id.as_str(), attributes);
}

/// Publishes `connect` or `disconnect` of a network.
pub(crate) fn publish_network(bus: &EventBus, record: &ContainerRecord, network: &NetworkRecord, action: &str) {
    let attributes = BTreeMap::from([
        ("container".to_owned(), record.id.to_string()),
        ("name".to_owned(), network.name.clone()),
        ("type".to_owned(), network.driver.clone()),
    ]);
    bus.publish(EventKind::Network, action, network.id.as_str(), attributes);
}

/// As [`publish_network`], for a network whose record may be gone.
pub(crate) fn publish_disconnect(bus: &EventBus, record: &ContainerRecord, endpoint: &EndpointRecord, driver: &str) {
    let attributes = BTreeMap::from([
        ("container".to_owned(), record.id.to_string()),
        ("name".to_owned(), endpoint.network_name.clone()),
        ("type".to_owned(), driver.to_owned()),
    ]);
    bus.publish(
        EventKind::Network,
        "disconnect",
        endpoint.network_id.as_str(),
        attributes,
    );
}

/// Publishes `mount` or `unmount` of a volume.
pub(crate) fn publish_volume(bus: &EventBus, record: &ContainerRecord, mount: &MountPoint, action: &str) {
    let mut attributes = BTreeMap::from([
        ("container".to_owned(), record.id.to_string()),
        ("driver".to_owned(), mount.driver.clone()),
    ]);
    if action == "mount" {
        attributes.insert("destination".into(), mount.destination.clone());
        attributes.insert("propagation".into(), mount.propagation.clone());
        attributes.insert("read/write".into(), mount.rw.to_string());
    }
    bus.publish(EventKind::Volume, action, mount.name.clone(), attributes);
}
