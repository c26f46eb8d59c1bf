//! Images.

use serde_json::{Map, Value, json};
use wharf_api::ApiVersion;
use wharf_api::types as wire;
use wharf_engine::images::{self, ImageListed};
use wharf_engine::model::Timestamp;
use wharf_engine::store::{self, HistoryRow, Image, PlatformImage, Reference, Removed, RunConfig};

/// What stands where an image has no name. Lists before API 1.43 show it.
const NO_NAME: &str = "<none>:<none>";
const NO_DIGEST: &str = "<none>@<none>";

/// One row of `GET /images/json`, for a client of `version`.
pub(crate) fn summary_to_wire(listed: &ImageListed, version: ApiVersion) -> wire::ImageSummary {
    let image = &listed.image;
    let described = images::described_by(image);
    let mut repo_tags = familiar(&listed.tags);
    let mut repo_digests = familiar(&listed.digests);
    if !version.at_least(43) && repo_tags.is_empty() {
        repo_tags.push(NO_NAME.to_owned());
        if repo_digests.is_empty() {
            repo_digests.push(NO_DIGEST.to_owned());
        }
    }
    let size = bytes(image.size());
    wire::ImageSummary {
        containers: if version.at_least(51) {
            count(listed.containers)
        } else {
            -1
        },
        created: images::created_at(image).as_secs(),
        id: image.id.to_string(),
        labels: described.and_then(|content| content.config.config.labels.clone()),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        descriptor: version.at_least(48).then(|| descriptor_to_wire(&image.target)),
        manifests: Vec::new(),
        repo_digests,
        repo_tags,
        shared_size: listed.shared_size.map_or(-1, bytes),
        size,
        virtual_size: (!version.at_least(44)).then_some(size),
    }
}

/// The manifests of an image, for `manifests=1` (API 1.47 for lists, 1.48 for inspect).
pub(crate) fn manifests_to_wire(image: &Image) -> Vec<wire::ManifestSummary> {
    image
        .platforms
        .iter()
        .map(|content| manifest_to_wire(image, content))
        .collect()
}

fn manifest_to_wire(image: &Image, content: &PlatformImage) -> wire::ManifestSummary {
    let (packed, unpacked) = (bytes(content.content_size), bytes(image.unpacked_size));
    wire::ManifestSummary {
        id: content.manifest_descriptor.digest.to_string(),
        descriptor: descriptor_to_wire(&content.manifest_descriptor),
        available: true,
        size: wire::ManifestSize {
            content: packed,
            total: packed.saturating_add(unpacked),
        },
        kind: "image".to_owned(),
        image_data: Some(wire::ManifestImageData {
            platform: platform_to_wire(&content.platform),
            containers: None,
            size: wire::UnpackedSize { unpacked },
        }),
        attestation_data: None,
    }
}

/// A descriptor.
pub(crate) fn descriptor_to_wire(descriptor: &store::Descriptor) -> wire::Descriptor {
    wire::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: bytes(descriptor.size),
        urls: descriptor.urls.clone(),
        annotations: descriptor.annotations.clone(),
        platform: descriptor.platform.as_ref().map(platform_to_wire),
        artifact_type: descriptor.artifact_type.clone().unwrap_or_default(),
    }
}

/// A platform.
pub(crate) fn platform_to_wire(platform: &store::Platform) -> wire::OciPlatform {
    wire::OciPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone().unwrap_or_default(),
        os_features: Vec::new(),
        variant: platform.variant.clone().unwrap_or_default(),
    }
}

/// `GET /images/{name}/json`, for a client of `version`.
pub(crate) fn inspect_to_wire(image: &Image, content: &PlatformImage, version: ApiVersion) -> Value {
    let config = &content.config;
    let size = bytes(image.size());
    let tagged = image.tagged_at.map(|time| Timestamp::from(time).to_string());
    let inspect = wire::ImageInspect {
        id: image.id.to_string(),
        repo_tags: familiar(&image.tags),
        repo_digests: familiar(&image.repo_digests),
        parent: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        comment: comment_of(config),
        created: config.created.clone().unwrap_or_default(),
        container: None,
        docker_version: String::new(),
        author: config.author.clone().unwrap_or_default(),
        config: Some(config_to_wire(&config.config)),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size,
        virtual_size: (!version.at_least(44)).then_some(size),
        graph_driver: Some(wire::DriverData {
            data: None,
            name: "overlayfs".to_owned(),
        }),
        root_fs: wire::RootFs {
            kind: "layers".to_owned(),
            layers: content.layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
        },
        metadata: wire::ImageMetadata {
            last_tag_time: tagged.unwrap_or_else(|| wharf_engine::model::time::ZERO_TIME_TEXT.to_owned()),
        },
        descriptor: version.at_least(48).then(|| descriptor_to_wire(&image.target)),
        manifests: Vec::new(),
    };
    let mut value = serde_json::to_value(inspect).expect("invariant: wire types always encode");
    if let Value::Object(fields) = &mut value {
        add_legacy_fields(fields, version);
    }
    value
}

/// COMPAT: what images told of the container they were committed from, until it was dropped
/// version by version (oracle api/version_switches_in_reads).
fn add_legacy_fields(fields: &mut Map<String, Value>, version: ApiVersion) {
    if !version.at_least(45) {
        fields.insert("Container".to_owned(), json!(""));
        fields.insert("ContainerConfig".to_owned(), Value::Null);
    }
    if version.at_least(50) {
        return;
    }
    if let Some(Value::Object(config)) = fields.get_mut("Config") {
        for key in [
            "AttachStderr",
            "AttachStdin",
            "AttachStdout",
            "OpenStdin",
            "StdinOnce",
            "Tty",
        ] {
            config.insert(key.to_owned(), json!(false));
        }
        for key in ["Domainname", "Hostname", "Image"] {
            config.insert(key.to_owned(), json!(""));
        }
    }
}

/// The document's own comment, else that of its last step.
fn comment_of(config: &store::ImageConfig) -> String {
    let last = config.history.last().and_then(|step| step.comment.clone());
    config.comment.clone().or(last).unwrap_or_default()
}

fn config_to_wire(config: &RunConfig) -> wire::ImageConfig {
    let set = |map: &std::collections::BTreeMap<String, Value>| {
        map.keys()
            .map(|key| (key.clone(), wire::Empty {}))
            .collect::<wire::StringSet>()
    };
    let healthcheck = config
        .healthcheck
        .clone()
        .and_then(|value| serde_json::from_value(value).ok());
    wire::ImageConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.as_ref().map(set).unwrap_or_default(),
        env: config.env.clone(),
        cmd: config.cmd.clone(),
        healthcheck,
        args_escaped: config.args_escaped.unwrap_or(false),
        volumes: config.volumes.as_ref().map(set),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        shell: config.shell.clone().unwrap_or_default(),
    }
}

/// One row of the history. COMPAT: only the newest step is known by an id.
pub(crate) fn history_to_wire(row: &HistoryRow) -> wire::HistoryItem {
    let created = row
        .created
        .as_deref()
        .and_then(|text| wharf_engine::filters::moment(text, Timestamp::now()));
    wire::HistoryItem {
        comment: row.comment.clone(),
        created: created.map_or(0, Timestamp::as_secs),
        created_by: row.created_by.clone(),
        id: row
            .id
            .as_ref()
            .map_or_else(|| "<missing>".to_owned(), ToString::to_string),
        size: bytes(row.size),
        tags: Some(familiar(&row.tags)).filter(|tags| !tags.is_empty()),
    }
}

/// One line of a removal.
pub(crate) fn removed_to_wire(removed: &Removed) -> wire::ImageDeleteItem {
    match removed {
        Removed::Untagged(name) => wire::ImageDeleteItem {
            untagged: name.familiar(),
            ..wire::ImageDeleteItem::default()
        },
        Removed::Deleted(digest) => wire::ImageDeleteItem {
            deleted: digest.to_string(),
            ..wire::ImageDeleteItem::default()
        },
    }
}

fn familiar(names: &[Reference]) -> Vec<String> {
    names.iter().map(Reference::familiar).collect()
}

fn bytes(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy(version: u16) -> [bool; 4] {
        let mut value = json!({"Config": {"Cmd": ["sh"]}});
        let fields = value.as_object_mut().expect("an object");
        add_legacy_fields(fields, ApiVersion::new(1, version));
        let has = |key: &str| fields.contains_key(key);
        [
            has("Container"),
            has("ContainerConfig"),
            fields["Config"].get("Hostname").is_some(),
            fields["Config"].get("Tty").is_some(),
        ]
    }

    #[test]
    fn what_images_told_of_their_container_went_version_by_version() {
        assert_eq!(legacy(24), [true; 4]);
        assert_eq!(legacy(44), [true; 4]);
        assert_eq!(legacy(45), [false, false, true, true]);
        assert_eq!(legacy(49), [false, false, true, true]);
        assert_eq!(legacy(50), [false; 4]);
    }

    #[test]
    fn history_shows_an_id_only_for_the_newest_step() {
        let row = HistoryRow {
            id: None,
            created: Some("2020-01-01T00:00:05Z".into()),
            created_by: "RUN x".into(),
            comment: String::new(),
            size: 5,
            tags: Vec::new(),
        };
        let item = history_to_wire(&row);
        assert_eq!(
            (item.id.as_str(), item.created, item.tags),
            ("<missing>", 1_577_836_805, None)
        );
    }
}
