//! Named volumes.

use super::StringMap;

wire! {
    /// One volume.
    pub struct Volume {
        created_at: String = "CreatedAt" omitempty,
        driver: String = "Driver",
        labels: Option<StringMap> = "Labels",
        mountpoint: String = "Mountpoint",
        name: String = "Name",
        options: Option<StringMap> = "Options",
        scope: String = "Scope",
        status: Option<serde_json::Map<String, serde_json::Value>> = "Status" omitempty,
        usage_data: Option<VolumeUsage> = "UsageData" omitempty,
    }

    /// What a volume holds and who uses it; -1 where it is not known.
    pub struct VolumeUsage {
        ref_count: i64 = "RefCount",
        size: i64 = "Size",
    }

    /// `GET /volumes`.
    pub struct VolumeList {
        volumes: Option<Vec<Volume>> = "Volumes",
        warnings: Option<Vec<String>> = "Warnings",
    }

    /// `POST /volumes/create`.
    pub struct VolumeCreateRequest {
        driver: String = "Driver" omitempty,
        driver_opts: StringMap = "DriverOpts" omitempty,
        labels: StringMap = "Labels" omitempty,
        /// Empty asks for a new random name.
        name: String = "Name" omitempty,
    }

    /// The answer of `POST /volumes/prune`.
    pub struct VolumesPruneResponse {
        volumes_deleted: Option<Vec<String>> = "VolumesDeleted",
        space_reclaimed: u64 = "SpaceReclaimed",
    }
}
