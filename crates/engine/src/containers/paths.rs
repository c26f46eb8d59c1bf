//! Where the files of a container are.
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::model::{ContainerId, ContainerRecord};

/// Places below root and run directory that belong to one container.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// `<root>/containers/<id>`.
    pub(crate) dir: PathBuf,
    /// `<run>/shims/<id>`.
    pub(crate) shim: PathBuf,
    /// `<run>/shm/<id>`, when its /dev/shm is shared.
    pub(crate) shm: PathBuf,
}

impl Places {
    pub(crate) fn of(config: &Config, id: &ContainerId) -> Self {
        Self {
            dir: containers_dir(config).join(id.as_str()),
            shim: config.run.join("shims").join(id.as_str()),
            shm: config.run.join("shm").join(id.as_str()),
        }
    }

    /// The overlay's writable directory.
    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// The overlay's work directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// The json-file log.
    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.dir.join("logs").join(format!("{id}-json.log"))
    }
}

/// `<root>/containers`.
pub(crate) fn containers_dir(config: &Config) -> PathBuf {
    config.root.join("containers")
}

/// The cgroup of a container, below the hierarchy's root.
pub(crate) fn cgroup_path(config: &Config, record: &ContainerRecord) -> String {
    let parent = match record.host.resources.cgroup_parent.trim_matches('/') {
        "" => config.instance.as_str(),
        asked => asked,
    };
    format!("/{parent}/{}", record.id)
}

/// The layers of a container's image, top first, as directories.
pub(crate) fn lower_dirs(root: &Path, record: &ContainerRecord) -> Vec<PathBuf> {
    let dirs = record.layers.iter().rev().map(|diff_id| {
        let hex = diff_id.split_once(':').map_or(diff_id.as_str(), |(_, hex)| hex);
        root.join("layers").join(hex).join("fs")
    });
    wharf_store::stack(dirs)
}
