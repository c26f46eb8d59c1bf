//! The kinds of operations: how long each may take, and what of it must survive the engine.
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an operation does. The kebab-case name is what users see and what the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Making a container's record, directory and anonymous volumes.
    Create,
    /// Starting it.
    Start,
    /// Stopping it: a signal, a time to wait, SIGKILL.
    Stop,
    /// Sending it a signal.
    Kill,
    /// Stopping and starting it.
    Restart,
    /// Freezing it.
    Pause,
    /// Thawing it.
    Unpause,
    /// Giving it another name.
    Rename,
    /// Changing its limits.
    Update,
    /// Removing it.
    Remove,
    /// Running a further process in it.
    Exec,
    /// Making an image of it.
    Commit,
    /// Making a network.
    NetworkCreate,
    /// Putting a container on it.
    NetworkConnect,
    /// Taking a container off it.
    NetworkDisconnect,
    /// Removing it.
    NetworkRemove,
    /// Making a volume.
    VolumeCreate,
    /// Removing it.
    VolumeRemove,
    /// Telling its plugin that a container does not use it any more.
    VolumeUnmount,
    /// Fetching an image.
    ImagePull,
    /// Taking images from an archive.
    ImageLoad,
    /// Making an image of an archive.
    ImageImport,
    /// Naming an image.
    ImageTag,
    /// Removing one, or a name of it.
    ImageRemove,
    /// Building one.
    Build,
    /// Unpacking an archive into a container.
    CopyIn,
    /// Removing what nothing needs any more: content of images, or the build cache.
    Prune,
}

/// Where an operation is known while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A row in the database, which the next engine completes or undoes.
    Row,
    /// Memory: whatever instruction the engine is killed at, nothing of it is half done, or what is
    /// says so itself. The reason is told.
    Memory(&'static str),
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

impl OperationKind {
    /// All kinds.
    pub const ALL: [Self; 27] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Kill,
        Self::Restart,
        Self::Pause,
        Self::Unpause,
        Self::Rename,
        Self::Update,
        Self::Remove,
        Self::Exec,
        Self::Commit,
        Self::NetworkCreate,
        Self::NetworkConnect,
        Self::NetworkDisconnect,
        Self::NetworkRemove,
        Self::VolumeCreate,
        Self::VolumeRemove,
        Self::VolumeUnmount,
        Self::ImagePull,
        Self::ImageLoad,
        Self::ImageImport,
        Self::ImageTag,
        Self::ImageRemove,
        Self::Build,
        Self::CopyIn,
        Self::Prune,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Rename => "rename",
            Self::Update => "update",
            Self::Remove => "remove",
            Self::Exec => "exec",
            Self::Commit => "commit",
            Self::NetworkCreate => "network-create",
            Self::NetworkConnect => "network-connect",
            Self::NetworkDisconnect => "network-disconnect",
            Self::NetworkRemove => "network-remove",
            Self::VolumeCreate => "volume-create",
            Self::VolumeRemove => "volume-remove",
            Self::VolumeUnmount => "volume-unmount",
            Self::ImagePull => "image-pull",
            Self::ImageLoad => "image-load",
            Self::ImageImport => "image-import",
            Self::ImageTag => "image-tag",
            Self::ImageRemove => "image-remove",
            Self::Build => "build",
            Self::CopyIn => "copy-in",
            Self::Prune => "prune",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The longest time one may take, unless the configuration says otherwise. A stop has the
    /// container's own time on top. Transfers of images take what the network and the archive
    /// take: their deadline is far away, and they have time limits on standing still instead.
    pub fn time_limit(self) -> Duration {
        match self {
            Self::Create => 5 * MINUTE,
            Self::Start | Self::Restart | Self::Remove => 2 * MINUTE,
            Self::Stop | Self::Kill | Self::Pause | Self::Unpause | Self::Rename | Self::Update | Self::Exec => MINUTE,
            Self::NetworkCreate | Self::NetworkConnect | Self::NetworkDisconnect | Self::NetworkRemove => MINUTE,
            Self::VolumeCreate | Self::VolumeRemove | Self::VolumeUnmount => 2 * MINUTE,
            Self::ImageTag => MINUTE,
            Self::ImageRemove => 10 * MINUTE,
            Self::Commit | Self::Prune => HOUR,
            Self::ImagePull | Self::ImageLoad | Self::ImageImport | Self::Build | Self::CopyIn => 24 * HOUR,
        }
    }

    /// What of it must survive the engine. The row costs a transaction, so it is written only where
    /// the next engine could not tell from records, shims and kernel alone what is to be done.
    pub fn durability(self) -> Durability {
        match self {
            Self::Create | Self::Start | Self::Stop | Self::Restart | Self::Update | Self::Remove | Self::Commit => {
                Durability::Row
            }
            Self::Kill => {
                Durability::Memory("the signal was sent or it was not; what follows is written before it is sent")
            }
            Self::Pause | Self::Unpause => Durability::Memory("the kernel tells whether the container is frozen"),
            Self::Rename => Durability::Memory("one transaction; name service is made of the records at the start"),
            Self::Exec => Durability::Memory("the shim keeps the process and tells the next engine of it"),
            Self::NetworkCreate => Durability::Memory("the record is first; the next start brings it into being"),
            Self::NetworkRemove => Durability::Memory("the record is last; the next start brings the network back"),
            Self::NetworkConnect | Self::NetworkDisconnect => {
                Durability::Memory("the next start makes the kernel have the endpoints that the records have")
            }
            Self::VolumeCreate | Self::VolumeRemove => Durability::Memory(
                "a volume appears and goes by one rename; the rest is removed when volumes are opened",
            ),
            Self::VolumeUnmount => Durability::Memory("the row of the mount stays until the plugin has answered"),
            Self::ImagePull | Self::ImageLoad | Self::ImageImport | Self::Build => {
                Durability::Memory("a lease in the store says what is unfinished; the record of the image comes last")
            }
            Self::CopyIn => {
                Durability::Memory("files of the container's own; its client was not told that all are there")
            }
            Self::Prune => Durability::Memory("what is removed has no name any more; the next one removes the rest"),
            Self::ImageTag | Self::ImageRemove => {
                Durability::Memory("one transaction; content without a name is collected")
            }
        }
    }
}

impl std::fmt::Display for OperationKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_users_see_is_the_one_in_the_journal() {
        for kind in OperationKind::ALL {
            let stored = serde_json::to_value(kind).expect("a name");
            assert_eq!(stored, kind.as_str());
            assert_eq!(OperationKind::parse(kind.as_str()), Some(kind));
        }
    }
}
