//! Lists of containers and the small answers of the container calls.

use std::collections::BTreeMap;

use super::{Descriptor, EndpointSettings, MountPoint, StringMap};

wire! {
    /// One element of `GET /containers/json`.
    pub struct ContainerSummary {
        id: String = "Id",
        /// Each with its leading slash.
        names: Vec<String> = "Names",
        image: String = "Image",
        image_id: String = "ImageID",
        image_manifest_descriptor: Option<Descriptor> = "ImageManifestDescriptor" omitempty,
        command: String = "Command",
        /// Seconds since the epoch.
        created: i64 = "Created",
        ports: Vec<Port> = "Ports",
        size_rw: Option<i64> = "SizeRw" omitempty,
        size_root_fs: Option<i64> = "SizeRootFs" omitempty,
        labels: Option<StringMap> = "Labels",
        state: String = "State",
        status: String = "Status",
        host_config: SummaryHostConfig = "HostConfig",
        network_settings: Option<SummaryNetworkSettings> = "NetworkSettings",
        mounts: Vec<MountPoint> = "Mounts",
    }

    /// The part of the host configuration that lists show.
    pub struct SummaryHostConfig {
        network_mode: String = "NetworkMode" omitempty,
        annotations: StringMap = "Annotations" omitempty,
    }

    /// The networks of a listed container.
    pub struct SummaryNetworkSettings {
        networks: Option<BTreeMap<String, Option<EndpointSettings>>> = "Networks",
    }

    /// An exposed or published port of a listed container.
    pub struct Port {
        ip: String = "IP" omitempty,
        private_port: u16 = "PrivatePort",
        public_port: u16 = "PublicPort" omitempty,
        kind: String = "Type",
    }

    /// `GET /containers/{id}/top`.
    pub struct ContainerTop {
        processes: Vec<Vec<String>> = "Processes",
        titles: Vec<String> = "Titles",
    }

    /// One element of `GET /containers/{id}/changes`.
    pub struct FilesystemChange {
        /// 0 modified, 1 added, 2 deleted.
        kind: i64 = "Kind",
        path: String = "Path",
    }

    /// The answer of `POST /containers/{id}/wait`.
    pub struct WaitResponse {
        status_code: i64 = "StatusCode",
        error: Option<WaitError> = "Error" omitempty,
    }

    /// Why a wait failed.
    pub struct WaitError {
        message: String = "Message",
    }

    /// The answer of `POST /containers/prune`.
    pub struct ContainersPruneResponse {
        containers_deleted: Option<Vec<String>> = "ContainersDeleted",
        space_reclaimed: u64 = "SpaceReclaimed",
    }

    /// The header `X-Docker-Container-Path-Stat`, before base64.
    pub struct PathStat {
        name: String = "name",
        size: i64 = "size",
        /// Go's `os.FileMode`, see [`go_mode`](super::go_mode).
        mode: u32 = "mode",
        mtime: String = "mtime",
        link_target: String = "linkTarget",
    }
}

/// Bits of Go's `os.FileMode`, which is how file modes travel in [`PathStat`].
pub mod go_mode {
    /// A directory.
    pub const DIR: u32 = 1 << 31;
    /// A symbolic link.
    pub const SYMLINK: u32 = 1 << 27;
    /// A device file.
    pub const DEVICE: u32 = 1 << 26;
    /// A named pipe.
    pub const NAMED_PIPE: u32 = 1 << 25;
    /// A socket.
    pub const SOCKET: u32 = 1 << 24;
    /// Set user id.
    pub const SETUID: u32 = 1 << 23;
    /// Set group id.
    pub const SETGID: u32 = 1 << 22;
    /// A character device (together with [`DEVICE`]).
    pub const CHAR_DEVICE: u32 = 1 << 21;
    /// Sticky.
    pub const STICKY: u32 = 1 << 20;

    /// Converts `st_mode` to Go's form.
    #[must_use]
    pub fn from_st_mode(st_mode: u32) -> u32 {
        let kind = match st_mode & 0o170_000 {
            0o040_000 => DIR,
            0o120_000 => SYMLINK,
            0o060_000 => DEVICE,
            0o020_000 => DEVICE | CHAR_DEVICE,
            0o010_000 => NAMED_PIPE,
            0o140_000 => SOCKET,
            _ => 0,
        };
        let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)]
            .iter()
            .filter(|(bit, _)| st_mode & bit != 0)
            .fold(0, |bits, (_, go)| bits | go);
        kind | special | (st_mode & 0o777)
    }

    /// True for the mode of a directory.
    #[must_use]
    pub fn is_dir(mode: u32) -> bool {
        mode & DIR != 0
    }

    /// True for the mode of a symbolic link.
    #[must_use]
    pub fn is_symlink(mode: u32) -> bool {
        mode & SYMLINK != 0
    }
}
