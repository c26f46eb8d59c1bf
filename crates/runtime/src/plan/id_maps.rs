//! Idmapped mounts whose mappings are left to the container
//! (config.md#posix-platform-mounts, config-linux.md#linux-mount-options).

use super::mounts::{Kind, MountPlan};
use crate::RuntimeError;
use crate::spec::{Linux, NamespaceKind};

/// Fills in the container's own mappings where a mount names none.
pub(crate) fn complete_id_maps(mounts: &mut [MountPlan], linux: &Linux) -> Result<(), RuntimeError> {
    let joined = linux
        .namespaces
        .iter()
        .find(|namespace| namespace.kind == NamespaceKind::User)
        .and_then(|namespace| namespace.path.clone())
        .filter(|path| !path.as_os_str().is_empty());
    for (index, mount) in mounts.iter_mut().enumerate() {
        let Some(map) = &mut mount.id_map else { continue };
        let invalid = |field: &str, why: &str| {
            let field = format!("mounts[{index}].{field}");
            let text = format!("{field}: {}: {why}", mount.destination.display());
            RuntimeError::invalid(field, text)
        };
        if !matches!(mount.kind, Kind::Bind { .. }) {
            return Err(invalid("options", "ids can be mapped on bind mounts only"));
        }
        if !map.uids.is_empty() {
            continue;
        }
        if let Some(path) = &joined {
            map.namespace = Some(path.clone());
        } else if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
            return Err(invalid(
                "options",
                "idmap needs uidMappings and gidMappings, of the mount or of the container",
            ));
        } else {
            map.uids.clone_from(&linux.uid_mappings);
            map.gids.clone_from(&linux.gid_mappings);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mounts::plan_mounts;
    use crate::spec::{IdMapping, Mount};
    use std::path::Path;

    fn plan(mount: Mount, linux: &Linux) -> Result<MountPlan, String> {
        let mut mounts = plan_mounts(Path::new("/"), &[mount]).map_err(|error| error.message())?;
        complete_id_maps(&mut mounts, linux).map_err(|error| error.message())?;
        Ok(mounts.remove(0))
    }

    fn mount(kind: &str, options: &[&str]) -> Mount {
        Mount {
            destination: "/d".into(),
            kind: Some(kind.to_owned()),
            source: Some("/s".into()),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn a_mount_without_mappings_takes_those_of_the_container() {
        let map = vec![IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 10,
        }];
        let linux = Linux {
            uid_mappings: map.clone(),
            gid_mappings: map.clone(),
            ..Linux::default()
        };
        let planned = plan(mount("bind", &["rbind", "ridmap"]), &linux).expect("valid");
        let ids = planned.id_map.expect("a map");
        assert_eq!((ids.uids, ids.gids, ids.recursive), (map.clone(), map, true));
    }

    #[test]
    fn without_any_mappings_and_on_file_systems_it_is_an_error() {
        let none = Linux::default();
        let error = plan(mount("bind", &["bind", "idmap"]), &none).map(drop);
        let why = "idmap needs uidMappings and gidMappings, of the mount or of the container";
        assert_eq!(error, Err(format!("mounts[0].options: /d: {why}")));
        let error = plan(mount("tmpfs", &["idmap"]), &none).map(drop);
        let why = "ids can be mapped on bind mounts only";
        assert_eq!(error, Err(format!("mounts[0].options: /d: {why}")));
    }
}
