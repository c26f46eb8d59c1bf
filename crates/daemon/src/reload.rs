//! SIGHUP: the configuration file is read again, checked as a whole, and put in force as far as it can be.

use tokio::signal::unix::Signal;
use wharf_engine::Engine;

use crate::causes::with_causes;
use crate::options::{Options, Settings};
use crate::own_log::{self, OwnLog};
use crate::run::{notify, tunables};

/// What reads the configuration again.
pub(crate) struct Reloader {
    options: Options,
    settings: Settings,
    engine: Engine,
    log: OwnLog,
}

/// Keys whose values are others than before.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// In force from now on.
    now: Vec<&'static str>,
    /// In force after a restart.
    later: Vec<&'static str>,
}

impl Reloader {
    /// For a daemon that was started with `options`, which came to `settings`.
    pub(crate) fn new(options: Options, settings: Settings, engine: Engine, log: OwnLog) -> Self {
        Self {
            options,
            settings,
            engine,
            log,
        }
    }

    /// Reloads at each signal, one after the other.
    pub(crate) async fn run(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            notify(b"RELOADING=1");
            match self.reload().await {
                Ok(changes) => changes.tell(),
                Err(reason) => tracing::error!("the configuration is as before: {reason}"),
            }
            notify(b"READY=1");
        }
    }

    /// Everything is checked before anything changes.
    async fn reload(&mut self) -> Result<Changes, String> {
        let options = self.options.clone();
        let read = tokio::task::spawn_blocking(move || options.settle());
        let read = read.await.map_err(|error| error.to_string())?;
        let settings = read.map_err(|error| with_causes(&error))?;
        let filter = own_log::parse(&settings.log_level)?;
        let reloaded = self.engine.reload(tunables(&settings)).await;
        reloaded.map_err(|error| error.chain())?;
        let changes = Changes::between(&self.settings, &settings);
        if changes.now.contains(&"log-level") {
            self.log.set(filter);
        }
        self.settings.take_tunables(settings);
        Ok(changes)
    }
}

impl Changes {
    fn between(old: &Settings, new: &Settings) -> Self {
        let (had, has) = (tunables(old), tunables(new));
        let now = [
            ("default-host-view", had.default_host_view != has.default_host_view),
            ("default-log-bytes", had.logging.file_bytes != has.logging.file_bytes),
            ("default-log-files", had.logging.files != has.logging.files),
            ("default-pids-limit", had.default_pids_limit != has.default_pids_limit),
            (
                "default-runtime",
                had.runtimes.default_name() != has.runtimes.default_name(),
            ),
            (
                "insecure-registries",
                had.registries.insecure != has.registries.insecure,
            ),
            ("journal-socket", had.logging.journal != has.logging.journal),
            ("labels", had.labels != has.labels),
            ("log-driver", had.logging.driver != has.logging.driver),
            ("log-level", old.log_level != new.log_level),
            ("log-opts", had.logging.options != has.logging.options),
            (
                "max-concurrent-downloads",
                had.registries.downloads != has.registries.downloads,
            ),
            (
                "max-concurrent-uploads",
                had.registries.uploads != has.registries.uploads,
            ),
            (
                "max-download-attempts",
                had.registries.attempts != has.registries.attempts,
            ),
            ("operation-seconds", had.operation_limits != has.operation_limits),
            ("plugin-dirs", had.plugins.dirs != has.plugins.dirs),
            ("plugin-seconds", had.plugins.deadline != has.plugins.deadline),
            ("registry-mirrors", had.registries.mirrors != has.registries.mirrors),
            ("reserve", had.reserve != has.reserve),
            ("runtimes", had.runtimes.configured() != has.runtimes.configured()),
        ];
        let later = [
            ("root", old.root != new.root),
            ("run", old.run != new.run),
            ("instance", old.instance != new.instance),
            ("hosts", old.hosts != new.hosts),
            ("socket-group", old.socket_group != new.socket_group),
            ("shim", old.shim != new.shim),
            ("event-history", old.limits.event_history != new.limits.event_history),
        ];
        Self {
            now: changed(&now),
            later: changed(&later),
        }
    }

    fn tell(&self) {
        match self.now.is_empty() {
            true => tracing::info!("configuration reloaded: nothing changed"),
            false => tracing::info!("configuration reloaded: {} changed", self.now.join(", ")),
        }
        if !self.later.is_empty() {
            tracing::warn!("changes that need a restart of the engine: {}", self.later.join(", "));
        }
    }
}

fn changed(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    let changed = keys.iter().filter(|(_, is_changed)| *is_changed);
    changed.map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, format!("shim = '/s'\n{text}")).expect("a file");
        let options = Options {
            config: Some(file),
            ..Options::default()
        };
        options.settle().expect("settled")
    }

    #[test]
    fn every_key_of_the_file_is_told_when_it_changes() {
        let old = settings("");
        let check = |text: &str, now: &[&str], later: &[&str]| {
            let changes = Changes::between(&old, &settings(text));
            assert_eq!(
                (changes.now.as_slice(), changes.later.as_slice()),
                (now, later),
                "{text}"
            );
        };
        check("", &[], &[]);
        for key in ["root", "run", "instance", "socket-group"] {
            let hosts = if key == "run" {
                &["run", "hosts"][..]
            } else {
                &[key][..]
            };
            check(&format!("{key} = '/x'"), &[], hosts);
        }
        check("hosts = ['tcp://127.0.0.1:1']", &[], &["hosts"]);
        check("event-history = 7", &[], &["event-history"]);
        for key in ["insecure-registries", "registry-mirrors", "labels"] {
            check(&format!("{key} = ['https://x']"), &[key], &[]);
        }
        for key in [
            "max-concurrent-downloads",
            "max-concurrent-uploads",
            "max-download-attempts",
            "default-pids-limit",
            "default-log-bytes",
            "default-log-files",
        ] {
            check(&format!("{key} = 77"), &[key], &[]);
        }
        for key in ["reserve-memory-bytes", "reserve-pids"] {
            check(&format!("{key} = 77"), &["reserve"], &[]);
        }
        check("reserve-cpus = 0.5", &["reserve"], &[]);
        check("log-level = 'debug'", &["log-level"], &[]);
        check("log-driver = 'local'", &["log-driver"], &[]);
        check("journal-socket = '/x'", &["journal-socket"], &[]);
        check("default-host-view = 'limits'", &["default-host-view"], &[]);
        check("[log-opts]\nmax-size = '1m'", &["log-opts"], &[]);
        check("[operation-seconds]\nstop = 7", &["operation-seconds"], &[]);
        check("plugin-dirs = ['/p']", &["plugin-dirs"], &[]);
        check("plugin-seconds = 7", &["plugin-seconds"], &[]);
        check("[runtimes]\nr = '/r'", &["runtimes"], &[]);
        check(
            "default-runtime = 'r'\n[runtimes]\nr = '/r'",
            &["default-runtime", "runtimes"],
            &[],
        );
    }

    #[test]
    fn a_key_that_needs_a_restart_is_told_again_until_then() {
        let mut settings_now = settings("");
        let wanted = || settings("instance = 'x'\nlabels = ['a=b']");
        settings_now.take_tunables(wanted());
        let changes = Changes::between(&settings_now, &wanted());
        assert_eq!((changes.now, changes.later), (vec![], vec!["instance"]));
    }
}
