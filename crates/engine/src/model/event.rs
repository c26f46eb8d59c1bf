//! What happened, as told to watchers.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each event of this engine root.
    #[serde(default)]
    pub seq: u64,
    /// What kind of object it happened to.
    pub kind: EventKind,
    /// What happened, in Docker's words (`start`, `exec_create: ls`).
    pub action: EventAction,
    /// Id of the object.
    pub actor: String,
    /// Facts (labels, `name`, `image`, `exitCode`...).
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}

/// Text of an action; see the API's list of actions.
pub type EventAction = String;

/// The kind of object an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Builder.
    Builder,
    /// Container.
    Container,
    /// The engine itself.
    Daemon,
    /// Image.
    Image,
    /// Network.
    Network,
    /// Volume.
    Volume,
}

impl EventKind {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Container => "container",
            Self::Daemon => "daemon",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}
