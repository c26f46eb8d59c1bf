//! A volume as kept in the database.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Timestamp, VolumeName};

/// Everything known of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its name.
    pub name: VolumeName,
    /// `local`, or a plugin.
    pub driver: String,
    /// Host path of its data.
    pub mountpoint: String,
    /// When it was created.
    pub created: Timestamp,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// For the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Made without a name (pruned by default).
    pub anonymous: bool,
}
