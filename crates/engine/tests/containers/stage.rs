//! A private engine in the test's own process, on private directories and an own instance name.
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Runtime;
use wharf_engine::images::ImportImage;
use wharf_engine::model::requests::*;
use wharf_engine::model::{ContainerConfig, HostConfig};
use wharf_engine::{Config, Engine};
use wharf_testkit::{Leftovers, image, sandbox};

/// Directories and name of an engine; removes all it owns when dropped.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    instance: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let instance = format!("e{:x}x{count:x}", std::process::id());
        let dir = tempfile::Builder::new()
            .prefix("wharf-engine-")
            .tempdir()
            .expect("temp dir");
        Self { dir, instance }
    }

    /// Takes over directories that another process made.
    pub(crate) fn config_at(dir: &Path, instance: &str) -> Config {
        let shim = sandbox::shim_binary();
        assert!(
            shim.exists(),
            "build wharf-shim first, or name it in WHARF_SHIM: {}",
            shim.display()
        );
        Config::new(dir.join("root"), dir.join("run"), instance, shim)
    }

    pub(crate) fn config(&self) -> Config {
        Self::config_at(self.dir.path(), &self.instance)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Runs `work` with an engine that has `busybox`, then ends the engine as a crash would:
    /// its tasks are dropped wherever they are.
    pub(crate) fn with_engine<F: Future>(&self, work: impl FnOnce(Engine) -> F) -> F::Output {
        let runtime = Runtime::new().expect("runtime");
        runtime.block_on(async {
            let engine = Engine::start(self.config()).await.expect("the engine starts");
            import_busybox(&engine).await;
            work(engine).await
        })
    }

    /// What is in the containers' directories and the kernel although no container exists.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        for dir in [
            self.root().join("containers"),
            self.run().join("shims"),
            self.run().join("netns"),
        ] {
            let names: Vec<_> = std::fs::read_dir(&dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name())
                .collect();
            assert!(names.is_empty(), "left in {}: {names:?}", dir.display());
        }
        let cgroups = cgroups_of_containers(&self.instance);
        assert!(cgroups.is_empty(), "cgroups left: {cgroups:?}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let done = wharf_engine::reset(&self.root(), &self.run(), &self.instance);
        let left = Leftovers::find(&self.instance, self.dir.path());
        if !std::thread::panicking() {
            done.expect("reset removes everything");
            assert!(left.is_empty(), "left after reset: {left:?}");
        }
    }
}

fn cgroups_of_containers(instance: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        for entry in std::fs::read_dir(controller.path().join(instance))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().len() == 64 {
                found.push(entry.path());
            }
        }
    }
    found
}

pub(crate) async fn import_busybox(engine: &Engine) {
    if engine.images().find("busybox").await.is_ok() {
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let tar = dir.path().join("busybox.tar");
    image::busybox_rootfs_tar(&tar).expect("busybox-static is installed");
    let request = ImportImage {
        repo: "busybox".into(),
        tag: "latest".into(),
        message: String::new(),
        changes: vec!["ENV PATH=/bin".into(), "CMD [\"sh\"]".into()],
        platform: None,
    };
    let source = std::fs::File::open(&tar).expect("open");
    engine.images().import(request, Box::new(source)).await.expect("import");
}

/// A request for `sh -c script` without a network.
pub(crate) fn script(name: &str, script: &str) -> CreateContainer {
    CreateContainer {
        name: name.into(),
        config: ContainerConfig {
            image: "busybox".into(),
            cmd: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
            ..ContainerConfig::default()
        },
        host: HostConfig {
            network_mode: "none".into(),
            ..HostConfig::default()
        },
        ..CreateContainer::default()
    }
}

/// Everything a container has logged so far on stdout.
pub(crate) async fn logged(engine: &Engine, name: &str) -> String {
    let query = LogsQuery {
        stdout: true,
        ..LogsQuery::default()
    };
    let mut lines = engine.containers().logs(name, query).await.expect("logs");
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.extend(line.expect("readable").bytes);
    }
    String::from_utf8(all).expect("text")
}
