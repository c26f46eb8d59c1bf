//! Debian's docker-registry on a free loopback port, for one test.

use anyhow::{Context, Result};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running registry; ends with the value.
pub struct Registry {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Registry {
    /// Starts an empty registry.
    ///
    /// # Panics
    /// When docker-registry is not installed or does not listen in time.
    #[track_caller]
    pub fn start() -> Self {
        Self::try_start().expect("docker-registry starts (Debian package docker-registry)")
    }

    fn try_start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let config = dir.path().join("config.yml");
        let data = dir.path().join("data");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: {address}}}\n",
                data.display()
            ),
        )?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start docker-registry")?;
        let registry = Self { child, address, dir };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.address).is_err() {
            anyhow::ensure!(
                Instant::now() < end,
                "docker-registry does not listen on {}",
                registry.address
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the registry keeps its blobs: a test may damage them.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
