//! `GET /system/df`.

use super::{BuildCache, ContainerSummary, ImageSummary, Volume};

wire! {
    /// What is on disk, by kind. A kind that was not asked for is `null`.
    pub struct DiskUsage {
        layers_size: Option<i64> = "LayersSize",
        images: Option<Vec<ImageSummary>> = "Images",
        containers: Option<Vec<ContainerSummary>> = "Containers",
        volumes: Option<Vec<Volume>> = "Volumes",
        build_cache: Option<Vec<BuildCache>> = "BuildCache",
        builder_size: Option<i64> = "BuilderSize" omitempty,
    }
}
