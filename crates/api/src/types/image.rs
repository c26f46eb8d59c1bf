//! Images: inspect, lists, history, removal.

use super::{ContainerConfig, DriverData, HealthConfig, StringMap, StringSet};

wire! {
    /// An OCI content descriptor.
    pub struct Descriptor {
        media_type: String = "mediaType",
        digest: String = "digest",
        size: i64 = "size",
        urls: Vec<String> = "urls" omitempty,
        annotations: StringMap = "annotations" omitempty,
        platform: Option<OciPlatform> = "platform" omitempty,
        artifact_type: String = "artifactType" omitempty,
    }

    /// An OCI platform.
    pub struct OciPlatform {
        architecture: String = "architecture",
        os: String = "os",
        os_version: String = "os.version" omitempty,
        os_features: Vec<String> = "os.features" omitempty,
        variant: String = "variant" omitempty,
    }

    /// `GET /images/{name}/json`.
    pub struct ImageInspect {
        id: String = "Id",
        repo_tags: Vec<String> = "RepoTags",
        repo_digests: Vec<String> = "RepoDigests",
        parent: String = "Parent",
        comment: String = "Comment",
        created: String = "Created" omitempty,
        /// Up to 1.44.
        container: Option<String> = "Container" omitempty,
        docker_version: String = "DockerVersion",
        author: String = "Author",
        config: Option<ImageConfig> = "Config",
        architecture: String = "Architecture",
        variant: String = "Variant" omitempty,
        os: String = "Os",
        os_version: String = "OsVersion" omitempty,
        size: i64 = "Size",
        /// Up to 1.43.
        virtual_size: Option<i64> = "VirtualSize" omitempty,
        graph_driver: Option<DriverData> = "GraphDriver" omitempty,
        root_fs: RootFs = "RootFS",
        metadata: ImageMetadata = "Metadata",
        /// From 1.48.
        descriptor: Option<Descriptor> = "Descriptor" omitempty,
        manifests: Vec<ManifestSummary> = "Manifests" omitempty,
    }

    /// What an image says about the containers made from it.
    pub struct ImageConfig {
        user: String = "User",
        exposed_ports: StringSet = "ExposedPorts" omitempty,
        env: Option<Vec<String>> = "Env",
        cmd: Option<Vec<String>> = "Cmd",
        healthcheck: Option<HealthConfig> = "Healthcheck" omitempty,
        args_escaped: bool = "ArgsEscaped" omitempty,
        volumes: Option<StringSet> = "Volumes",
        working_dir: String = "WorkingDir",
        entrypoint: Option<Vec<String>> = "Entrypoint",
        on_build: Option<Vec<String>> = "OnBuild",
        labels: Option<StringMap> = "Labels",
        stop_signal: String = "StopSignal" omitempty,
        shell: Vec<String> = "Shell" omitempty,
    }

    /// The layers of an image, by diff id.
    pub struct RootFs {
        kind: String = "Type" omitempty,
        layers: Vec<String> = "Layers" omitempty,
    }

    /// What the engine knows about an image beside its content.
    pub struct ImageMetadata {
        last_tag_time: String = "LastTagTime" omitempty,
    }

    /// One element of `GET /images/json`.
    pub struct ImageSummary {
        containers: i64 = "Containers",
        /// Seconds since the epoch.
        created: i64 = "Created",
        id: String = "Id",
        labels: Option<StringMap> = "Labels",
        parent_id: String = "ParentId",
        /// From 1.48.
        descriptor: Option<Descriptor> = "Descriptor" omitempty,
        manifests: Vec<ManifestSummary> = "Manifests" omitempty,
        repo_digests: Vec<String> = "RepoDigests",
        repo_tags: Vec<String> = "RepoTags",
        /// -1 unless asked for.
        shared_size: i64 = "SharedSize",
        size: i64 = "Size",
        /// Up to 1.43.
        virtual_size: Option<i64> = "VirtualSize" omitempty,
    }

    /// One manifest of a multi-platform image.
    pub struct ManifestSummary {
        id: String = "ID",
        descriptor: Descriptor = "Descriptor",
        available: bool = "Available",
        size: ManifestSize = "Size",
        /// `image`, `attestation` or `unknown`.
        kind: String = "Kind",
        image_data: Option<ManifestImageData> = "ImageData" omitempty,
        attestation_data: Option<ManifestAttestationData> = "AttestationData" omitempty,
    }

    /// The bytes of one manifest.
    pub struct ManifestSize {
        content: i64 = "Content",
        total: i64 = "Total",
    }

    /// A manifest of kind `image`.
    pub struct ManifestImageData {
        platform: OciPlatform = "Platform",
        containers: Option<Vec<String>> = "Containers",
        size: UnpackedSize = "Size",
    }

    /// The bytes of an unpacked image.
    pub struct UnpackedSize {
        unpacked: i64 = "Unpacked",
    }

    /// A manifest of kind `attestation`.
    pub struct ManifestAttestationData {
        attested: String = "For",
    }

    /// One element of `GET /images/{name}/history`.
    pub struct HistoryItem {
        comment: String = "Comment",
        created: i64 = "Created",
        created_by: String = "CreatedBy",
        id: String = "Id",
        size: i64 = "Size",
        tags: Option<Vec<String>> = "Tags",
    }

    /// One element of the answer of `DELETE /images/{name}`.
    pub struct ImageDeleteItem {
        deleted: String = "Deleted" omitempty,
        untagged: String = "Untagged" omitempty,
    }

    /// The answer of `POST /images/prune`.
    pub struct ImagesPruneResponse {
        images_deleted: Option<Vec<ImageDeleteItem>> = "ImagesDeleted",
        space_reclaimed: u64 = "SpaceReclaimed",
    }

    /// One element of `GET /images/search`.
    pub struct SearchResult {
        star_count: i64 = "star_count",
        is_official: bool = "is_official",
        name: String = "name",
        is_automated: bool = "is_automated",
        description: String = "description",
    }

    /// `GET /distribution/{name}/json`.
    pub struct DistributionInspect {
        descriptor: Descriptor = "Descriptor",
        platforms: Option<Vec<OciPlatform>> = "Platforms",
    }

    /// `POST /commit`: the configuration is optional.
    pub struct CommitRequest {
        config: ContainerConfig = flat,
    }
}
