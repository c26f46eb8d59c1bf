//! Mounts as asked for ([`MountSpec`]) and as they are ([`MountPoint`]).
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A mount in the long form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountSpec {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe`, `cluster`, as the client wrote it.
    pub kind: String,
    /// Host path, volume or image name; empty for an anonymous volume or a tmpfs.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
    /// Ignored; echoed.
    pub consistency: String,
    /// Of binds.
    pub bind: Option<BindOptions>,
    /// Of volumes.
    pub volume: Option<VolumeOptions>,
    /// Of images.
    pub image: Option<ImageOptions>,
    /// Of tmpfs.
    pub tmpfs: Option<TmpfsOptions>,
}

/// Options of a bind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// `private`, `rprivate`, `shared`, ...; empty means `rprivate`.
    pub propagation: String,
    /// Do not take submounts along.
    pub non_recursive: bool,
    /// Make the source when it is missing.
    pub create_mountpoint: bool,
    /// Submounts stay writable.
    pub read_only_non_recursive: bool,
    /// Fail when submounts cannot be made read-only.
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// Do not fill it from the image.
    pub no_copy: bool,
    /// Labels when it is made.
    pub labels: Option<BTreeMap<String, String>>,
    /// Driver when it is made; empty means `local`.
    pub driver: String,
    /// Whether a driver configuration was given at all.
    pub has_driver_config: bool,
    /// Driver options when it is made.
    pub driver_options: Option<BTreeMap<String, String>>,
    /// A path inside the volume.
    pub subpath: String,
}

/// Options of an image mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageOptions {
    /// A path inside the image.
    pub subpath: String,
}

/// Options of a tmpfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Bytes; 0 means no bound.
    pub size_bytes: i64,
    /// Permission bits; 0 means 1777.
    pub mode: u32,
    /// Further options, each a flag or a key and a value.
    pub options: Option<Vec<Vec<String>>>,
}

/// The kind of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// An image's file system.
    Image,
}

impl MountKind {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }
}

/// A mount of a container, resolved at create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Its kind.
    pub kind: MountKind,
    /// Volume name; empty for others.
    #[serde(default)]
    pub name: String,
    /// Host path of the data; empty for tmpfs.
    #[serde(default)]
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Volume driver; empty for others.
    #[serde(default)]
    pub driver: String,
    /// Mode text of the short form, such as `z` or `ro`.
    #[serde(default)]
    pub mode: String,
    /// Writable.
    pub rw: bool,
    /// Of binds.
    #[serde(default)]
    pub propagation: String,
    /// The volume was made for this container alone and goes with it.
    #[serde(default)]
    pub anonymous: bool,
    /// Fill the volume from the image when it is empty.
    #[serde(default)]
    pub copy_up: bool,
    /// Path inside the volume or image.
    #[serde(default)]
    pub subpath: String,
    /// tmpfs options, mount(8) style.
    #[serde(default)]
    pub options: Vec<String>,
    /// Listed by `inspect` under `Mounts` (not so for `--tmpfs`).
    #[serde(default = "yes")]
    pub listed: bool,
    /// Bind without submounts.
    #[serde(default)]
    pub non_recursive: bool,
    /// Read-only binds: how far down the flag reaches.
    #[serde(default)]
    pub read_only_reach: ReadOnlyReach,
    /// Make the source directory when it is missing (short form).
    #[serde(default)]
    pub create_source: bool,
}

impl MountPoint {
    /// The plugin that has the volume, if it is one's.
    pub fn plugin(&self) -> Option<&str> {
        let of_plugin = self.kind == MountKind::Volume && !matches!(self.driver.as_str(), "" | "local");
        of_plugin.then_some(self.driver.as_str())
    }
}

/// How far down a read-only bind reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadOnlyReach {
    /// Submounts too, where the kernel can.
    #[default]
    BestEffort,
    /// Submounts stay writable.
    TopOnly,
    /// Submounts too, or fail.
    Force,
}

fn yes() -> bool {
    true
}
