//! From what was asked (`binds`, `mounts`, `volumes`, `volumes_from`) to mount points: pure.
//!
//! Volumes come out without a source; whoever calls makes them and fills it in.
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Result};
use crate::model::mounts::ReadOnlyReach;
use crate::model::*;

/// A mount point and how its volume is made when it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedMount {
    /// The mount point.
    pub point: MountPoint,
    /// Labels of a new volume.
    pub labels: BTreeMap<String, String>,
    /// Driver options of a new volume.
    pub driver_options: BTreeMap<String, String>,
    /// A bind of the long form: its source must exist.
    pub source_must_exist: bool,
}

/// Plans all mounts. `inherited` are the mount points of `volumes_from`, with their modes applied.
pub(crate) fn plan_mounts(
    host: &HostConfig,
    config: &ContainerConfig,
    inherited: Vec<MountPoint>,
) -> Result<Vec<PlannedMount>> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut planned: Vec<PlannedMount> = Vec::new();
    for text in host.binds.iter().flatten() {
        planned.push(plan_bind(text, &host.volume_driver)?);
    }
    for spec in host.mounts.iter().flatten() {
        planned.push(plan_mount(spec)?);
    }
    for mount in &planned {
        if !taken.insert(clean(&mount.point.destination)) {
            return Err(Error::invalid(format!(
                "Duplicate mount point: {}",
                mount.point.destination
            )));
        }
    }
    for path in host.tmpfs.iter().flat_map(|m| m.keys()) {
        check_destination(path).map_err(|e| Error::invalid(format!("invalid tmpfs mount: {e}")))?;
        if !taken.insert(clean(path)) {
            return Err(Error::invalid(format!("Duplicate mount point: {path}")));
        }
    }
    let inherited = inherited.into_iter().filter(|p| taken.insert(clean(&p.destination)));
    planned.extend(inherited.collect::<Vec<_>>().into_iter().map(plain));
    for path in config.volumes.iter().flat_map(|m| m.keys()) {
        check_destination(path).map_err(|e| Error::invalid(format!("invalid volume: {e}")))?;
        if taken.insert(clean(path)) {
            planned.push(plain(anonymous_volume(path, &host.volume_driver)));
        }
    }
    Ok(planned)
}

/// Reads an entry of `volumes_from`: the container and whether it is read-only.
pub(crate) fn parse_volumes_from(text: &str) -> Result<(String, bool)> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    match (name, mode) {
        ("", _) => Err(Error::invalid(format!("invalid volumes-from specification: {text:?}"))),
        (name, "" | "rw" | "z" | "Z") => Ok((name.to_owned(), false)),
        (name, "ro") => Ok((name.to_owned(), true)),
        _ => Err(Error::invalid(format!("invalid mode in volumes-from: {mode}"))),
    }
}

fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    format!("/{}", parts.join("/"))
}

fn plain(point: MountPoint) -> PlannedMount {
    PlannedMount {
        point,
        labels: BTreeMap::new(),
        driver_options: BTreeMap::new(),
        source_must_exist: false,
    }
}

fn blank(kind: MountKind, destination: &str) -> MountPoint {
    MountPoint {
        kind,
        name: String::new(),
        source: String::new(),
        destination: clean(destination),
        driver: String::new(),
        mode: String::new(),
        rw: true,
        propagation: String::new(),
        anonymous: false,
        copy_up: false,
        subpath: String::new(),
        options: Vec::new(),
        listed: true,
        non_recursive: false,
        read_only_reach: ReadOnlyReach::default(),
        create_source: false,
    }
}

fn anonymous_volume(destination: &str, driver: &str) -> MountPoint {
    MountPoint {
        name: ids::random_hex_id(),
        driver: or_local(driver),
        anonymous: true,
        copy_up: true,
        ..blank(MountKind::Volume, destination)
    }
}

fn or_local(driver: &str) -> String {
    if driver.is_empty() {
        "local".to_owned()
    } else {
        driver.to_owned()
    }
}

fn check_destination(path: &str) -> Result<()> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    if path.split('/').any(|p| p == "..") {
        return Err(Error::invalid(format!(
            "invalid mount path: '{path}' must not contain '..'"
        )));
    }
    if clean(path) == "/" {
        return Err(Error::invalid("invalid specification: destination can't be '/'"));
    }
    Ok(())
}

/// `source:target[:mode]`.
fn plan_bind(text: &str, driver: &str) -> Result<PlannedMount> {
    let invalid = |e: Error| {
        Error::new(
            e.kind(),
            format!("invalid volume specification: '{text}': {}", e.message()),
        )
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] if !source.is_empty() && !target.is_empty() => (Some(*source), *target, ""),
        [source, target, mode] if !source.is_empty() && !target.is_empty() => (Some(*source), *target, *mode),
        _ => return Err(Error::invalid(format!("invalid volume specification: '{text}'"))),
    };
    let is_bind = source.is_some_and(|s| s.starts_with('/'));
    let kind_word = if is_bind { "bind" } else { "volume" };
    check_destination(target)
        .map_err(|e| {
            Error::invalid(format!(
                "invalid mount config for type \"{kind_word}\": {}",
                e.message()
            ))
        })
        .map_err(invalid)?;
    let mut point = match source {
        None => anonymous_volume(target, driver),
        Some(path) if is_bind => MountPoint {
            source: clean(path),
            propagation: "rprivate".to_owned(),
            create_source: true,
            ..blank(MountKind::Bind, target)
        },
        Some(name) => MountPoint {
            name: name.to_owned(),
            driver: driver.to_owned(), // none: whichever has a volume of this name
            copy_up: true,
            ..blank(MountKind::Volume, target)
        },
    };
    apply_mode(&mut point, mode).map_err(invalid)?;
    Ok(plain(point))
}

fn apply_mode(point: &mut MountPoint, mode: &str) -> Result<()> {
    if mode.is_empty() {
        return Ok(());
    }
    mode.clone_into(&mut point.mode);
    let wrong = || Error::invalid(format!("invalid mode: {mode}"));
    let mut seen = BTreeSet::new();
    for word in mode.split(',') {
        let family = match word {
            "rw" | "ro" => {
                point.rw = word == "rw";
                "access"
            }
            "z" | "Z" => "label",
            "nocopy" if point.kind == MountKind::Volume => {
                point.copy_up = false;
                "copy"
            }
            "consistent" | "cached" | "delegated" => "consistency",
            _ if is_propagation(word) && point.kind == MountKind::Bind => {
                word.clone_into(&mut point.propagation);
                "propagation"
            }
            _ => return Err(wrong()),
        };
        if !seen.insert(family) {
            return Err(wrong());
        }
    }
    Ok(())
}

fn is_propagation(word: &str) -> bool {
    matches!(word, "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave")
}

/// The long form.
fn plan_mount(spec: &MountSpec) -> Result<PlannedMount> {
    let kind = spec.kind.as_str();
    plan_by_kind(spec).map_err(|e| {
        if e.kind() != ErrorKind::InvalidArgument {
            return e;
        }
        Error::invalid(format!("invalid mount config for type \"{kind}\": {}", e.message()))
    })
}

fn plan_by_kind(spec: &MountSpec) -> Result<PlannedMount> {
    if spec.target.is_empty() {
        return Err(Error::invalid("field Target must not be empty"));
    }
    check_destination(&spec.target)?;
    refuse_foreign_options(spec)?;
    match spec.kind.as_str() {
        "bind" => plan_long_bind(spec),
        "volume" => plan_long_volume(spec),
        "tmpfs" => plan_long_tmpfs(spec),
        "image" => plan_long_image(spec),
        "npipe" | "cluster" => Err(Error::invalid(format!(
            "mounts of type {} are not supported on this system",
            spec.kind
        ))),
        other => Err(Error::invalid(format!("mount type unknown: {other:?}"))),
    }
}

fn refuse_foreign_options(spec: &MountSpec) -> Result<()> {
    for (field, given, kind) in [
        ("BindOptions", spec.bind.is_some(), "bind"),
        ("VolumeOptions", spec.volume.is_some(), "volume"),
        ("TmpfsOptions", spec.tmpfs.is_some(), "tmpfs"),
        ("ImageOptions", spec.image.is_some(), "image"),
    ] {
        if given && spec.kind != kind {
            return Err(Error::invalid(format!("field {field} must not be specified")));
        }
    }
    Ok(())
}

fn plan_long_bind(spec: &MountSpec) -> Result<PlannedMount> {
    if spec.source.is_empty() {
        return Err(Error::invalid("field Source must not be empty"));
    }
    if !spec.source.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{}' mount path must be absolute",
            spec.source
        )));
    }
    let options = spec.bind.clone().unwrap_or_default();
    let propagation = match options.propagation.as_str() {
        "" => "rprivate".to_owned(),
        word if is_propagation(word) => word.to_owned(),
        word => return Err(Error::invalid(format!("invalid propagation mode: {word}"))),
    };
    let reach = match (options.read_only_non_recursive, options.read_only_force_recursive) {
        (true, true) => {
            return Err(Error::invalid(
                "mount source must not be both ReadOnlyNonRecursive and ReadOnlyForceRecursive",
            ));
        }
        (true, false) => ReadOnlyReach::TopOnly,
        (false, true) => ReadOnlyReach::Force,
        (false, false) => ReadOnlyReach::BestEffort,
    };
    if !spec.read_only && reach != ReadOnlyReach::BestEffort {
        return Err(Error::invalid("mount must be set \"readonly\" for this option"));
    }
    let point = MountPoint {
        source: clean(&spec.source),
        rw: !spec.read_only,
        propagation,
        non_recursive: options.non_recursive,
        read_only_reach: reach,
        create_source: options.create_mountpoint,
        ..blank(MountKind::Bind, &spec.target)
    };
    Ok(PlannedMount {
        source_must_exist: !options.create_mountpoint,
        ..plain(point)
    })
}

fn plan_long_volume(spec: &MountSpec) -> Result<PlannedMount> {
    let options = spec.volume.clone().unwrap_or_default();
    check_subpath(&options.subpath)?;
    if !options.subpath.is_empty() && spec.source.is_empty() {
        return Err(Error::invalid("must not set Subpath when using anonymous volumes"));
    }
    let base = if spec.source.is_empty() {
        anonymous_volume(&spec.target, &options.driver)
    } else {
        MountPoint {
            name: spec.source.clone(),
            driver: options.driver.clone(),
            ..blank(MountKind::Volume, &spec.target)
        }
    };
    let point = MountPoint {
        rw: !spec.read_only,
        copy_up: !options.no_copy,
        subpath: options.subpath,
        mode: "z".to_owned(),
        ..base
    };
    Ok(PlannedMount {
        labels: options.labels.unwrap_or_default(),
        driver_options: options.driver_options.unwrap_or_default(),
        ..plain(point)
    })
}

fn check_subpath(subpath: &str) -> Result<()> {
    if subpath.starts_with('/') || subpath.split('/').any(|p| p == "..") {
        return Err(Error::invalid(format!(
            "invalid subpath {subpath:?}: subpath must be a relative path within the volume"
        )));
    }
    Ok(())
}

fn plan_long_tmpfs(spec: &MountSpec) -> Result<PlannedMount> {
    if !spec.source.is_empty() {
        return Err(Error::invalid("field Source must not be specified"));
    }
    let wanted = spec.tmpfs.clone().unwrap_or_default();
    if wanted.size_bytes < 0 {
        return Err(Error::invalid(format!("invalid size of tmpfs: {}", wanted.size_bytes)));
    }
    let mut options: Vec<String> = Vec::new();
    if wanted.size_bytes > 0 {
        options.push(format!("size={}", wanted.size_bytes));
    }
    if wanted.mode != 0 {
        options.push(format!("mode={:o}", wanted.mode));
    }
    for words in wanted.options.iter().flatten() {
        match words.as_slice() {
            [flag] => options.push(flag.clone()),
            [key, value] => options.push(format!("{key}={value}")),
            _ => return Err(Error::invalid("invalid option array length")),
        }
    }
    let point = MountPoint {
        rw: !spec.read_only,
        options,
        ..blank(MountKind::Tmpfs, &spec.target)
    };
    Ok(plain(point))
}

fn plan_long_image(spec: &MountSpec) -> Result<PlannedMount> {
    if spec.source.is_empty() {
        return Err(Error::invalid("field Source must not be empty"));
    }
    let subpath = spec.image.clone().unwrap_or_default().subpath;
    check_subpath(&subpath)?;
    let point = MountPoint {
        name: spec.source.clone(),
        rw: false,
        subpath,
        ..blank(MountKind::Image, &spec.target)
    };
    Ok(plain(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(binds: &[&str]) -> Result<Vec<PlannedMount>> {
        let host = HostConfig {
            binds: Some(binds.iter().map(|b| (*b).to_owned()).collect()),
            ..Default::default()
        };
        plan_mounts(&host, &ContainerConfig::default(), vec![])
    }

    #[test]
    fn short_forms_are_told_apart() {
        let all = plan(&["/src:/b", "name:/v:ro", "/anon"]).expect("valid");
        let kinds: Vec<_> = all
            .iter()
            .map(|m| (m.point.kind, m.point.rw, m.point.anonymous))
            .collect();
        assert_eq!(
            kinds,
            [
                (MountKind::Bind, true, false),
                (MountKind::Volume, false, false),
                (MountKind::Volume, true, true)
            ]
        );
    }

    #[test]
    fn bad_binds_are_refused_in_dockers_words() {
        let check = |bind: &str, words: &str| {
            let err = plan(&[bind]).expect_err(bind);
            assert!(err.message().contains(words), "{err}");
        };
        check(
            "/b:/",
            "invalid volume specification: '/b:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        );
        check("/b:relative", "mount path must be absolute");
        check("/b:/m:bogus", "invalid mode: bogus");
        check("/b:/m:ro,rw", "invalid mode");
        check("a:/b:ro:x", "invalid volume specification");
        check(":/x", "invalid volume specification");
        assert!(
            plan(&["/d:/x", "/e:/x/"])
                .expect_err("twice")
                .message()
                .contains("Duplicate mount point")
        );
    }

    #[test]
    fn long_forms_are_checked_field_by_field() {
        let check = |spec: MountSpec, words: &str| {
            let host = HostConfig {
                mounts: Some(vec![spec]),
                ..Default::default()
            };
            let err = plan_mounts(&host, &ContainerConfig::default(), vec![]).expect_err(words);
            assert!(err.message().contains(words), "{err}");
        };
        let m = |kind: &str, source: &str, target: &str| MountSpec {
            kind: kind.into(),
            source: source.into(),
            target: target.into(),
            ..Default::default()
        };
        check(m("volume", "v", ""), "field Target must not be empty");
        check(m("volume", "v", "rel"), "must be absolute");
        check(m("nonsense", "", "/x"), "mount type unknown");
        check(m("", "", "/x"), "mount type unknown");
        check(m("bind", "", "/x"), "field Source must not be empty");
        check(m("bind", "rel", "/x"), "must be absolute");
        check(m("tmpfs", "a", "/x"), "Source must not be specified");
        check(m("tmpfs", "", "/"), "destination can't be '/'");
        let foreign = MountSpec {
            volume: Some(VolumeOptions::default()),
            ..m("bind", "/d", "/x")
        };
        check(foreign, "VolumeOptions must not be specified");
        let up = VolumeOptions {
            subpath: "../up".into(),
            ..Default::default()
        };
        check(
            MountSpec {
                volume: Some(up),
                ..m("volume", "v", "/x")
            },
            "relative path within",
        );
    }

    #[test]
    fn image_volumes_give_way_to_what_the_user_mounts() {
        let host = HostConfig {
            binds: Some(vec!["/d:/data".into()]),
            ..Default::default()
        };
        let volumes = BTreeMap::from([
            ("/data/".to_owned(), config::Empty {}),
            ("/other".to_owned(), config::Empty {}),
        ]);
        let config = ContainerConfig {
            volumes: Some(volumes),
            ..Default::default()
        };
        let all = plan_mounts(&host, &config, vec![]).expect("valid");
        let places: Vec<_> = all.iter().map(|m| m.point.destination.as_str()).collect();
        assert_eq!(places, ["/data", "/other"]);
    }
}
