//! Volumes.

use wharf_api::types::{self as wire, StringMap};
use wharf_engine::volumes::{Volume, VolumeUsage};

/// A volume as listed and inspected. COMPAT: no labels and no options are `null`.
pub(crate) fn to_wire(volume: Volume) -> wire::Volume {
    let or_null = |map: StringMap| Some(map).filter(|map| !map.is_empty());
    wire::Volume {
        created_at: volume.created_at,
        driver: volume.driver,
        labels: or_null(volume.labels),
        mountpoint: volume.mountpoint.to_string_lossy().into_owned(),
        name: volume.name,
        options: or_null(volume.options),
        scope: volume.scope.as_str().to_owned(),
        status: volume.status,
        usage_data: None,
    }
}

/// A volume in a disk usage report.
pub(crate) fn usage_to_wire(usage: VolumeUsage) -> wire::Volume {
    let size = i64::try_from(usage.size).unwrap_or(i64::MAX);
    let ref_count = i64::try_from(usage.references).unwrap_or(i64::MAX);
    wire::Volume {
        usage_data: Some(wire::VolumeUsage { ref_count, size }),
        ..to_wire(usage.volume)
    }
}
