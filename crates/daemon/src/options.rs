//! What a daemon is started with: built-in defaults, then the configuration file, then the
//! command line.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharf_engine::operations::OperationKind;
use wharf_engine::runtimes::Runtimes;
use wharf_engine::{HostView, PluginSettings, RegistrySettings, Reserve};

use crate::runtimes::RuntimeEntry;

/// What the command line says; absent values come from the file, then from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `--config FILE`; without it `/etc/wharf/config.toml` is read when it exists.
    pub config: Option<PathBuf>,
    /// `--root DIR`: data that outlives a boot.
    pub root: Option<PathBuf>,
    /// `--run DIR`: sockets, shims, namespaces.
    pub run: Option<PathBuf>,
    /// `--instance NAME`: how what this engine makes in the kernel is called.
    pub instance: Option<String>,
    /// `-H ADDRESS`, repeated: `unix:///PATH`, `tcp://HOST:PORT` or `fd://`.
    pub hosts: Vec<String>,
    /// `--insecure-registry HOST[:PORT]|CIDR`, repeated, added to the file's.
    pub insecure_registries: Vec<String>,
    /// `--shim FILE`: the static `wharf-shim`; by default looked for beside this program.
    pub shim: Option<PathBuf>,
    /// `--log-level LEVEL`: `error`, `warn`, `info` or `debug`, or a filter such as
    /// `info,wharf_engine=debug`.
    pub log_level: Option<String>,
}

/// Where the configuration file is looked for when none is named.
pub const DEFAULT_CONFIG: &str = "/etc/wharf/config.toml";
const DEFAULT_ROOT: &str = "/var/lib/wharf";
const DEFAULT_RUN: &str = "/run/wharf";
const DEFAULT_INSTANCE: &str = "wharf";
const DEFAULT_GROUP: &str = "docker";

/// The configuration file (TOML). All keys are optional, unknown ones are refused. SIGHUP has it read again: keys marked
/// with a star need a restart, which the log then says.
///
/// ```toml
/// root = "/var/lib/wharf"          #* images, containers, volumes
/// run = "/run/wharf"               #* sockets and what dies with the boot
/// instance = "wharf"               #* cgroup /wharf, bridge wharf0, nft table wharf
/// hosts = ["unix:///run/wharf/wharf.sock", "tcp://127.0.0.1:2375"] #*
/// socket-group = "docker"          #* who may use the socket beside root
/// insecure-registries = ["registry.lan:5000", "10.0.0.0/8"]
/// registry-mirrors = ["https://mirror.lan"]  # asked before Docker Hub
/// max-concurrent-downloads = 4     # layers of one image at once
/// max-concurrent-uploads = 5
/// max-download-attempts = 5
/// shim = "/usr/libexec/wharf/wharf-shim" #*
/// log-level = "info"
/// labels = ["rack=7"]              # shown by `info`
///
/// default-pids-limit = 4096        # for containers that ask for none; -1 is Docker's default, unlimited
/// default-log-bytes = 20971520     # per log file, for containers that ask for none; 0 is Docker's, unlimited
/// default-log-files = 3
/// event-history = 10000            #* events that `events --since` reaches back over
/// reserve-memory-bytes = 536870912 # what containers together leave to the host; 0 is Docker's, nothing
/// reserve-pids = 1000              # by default a tenth of the process ids, and a twentieth of the memory
/// reserve-cpus = 0.5               # none by default: all containers weigh as much as one process of the host
/// default-host-view = "host"       # "limits": /proc tells a container what it may use, not what its host has
/// log-driver = "json-file"         # for containers that choose none: fluentd, gelf, journald, local, none, syslog
/// journal-socket = "/run/systemd/journal/socket"
///
/// default-runtime = "wharf-runtime"
///
/// plugin-dirs = ["/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins"]
/// plugin-seconds = 60              # longest time that a volume plugin may take for one request
///
/// [operation-seconds]              # time limits of operations (`wharf ops` shows kinds), where they shall differ
/// remove = 120
///
/// [runtimes]                       # further runtimes, for `run --runtime NAME`: docs/runtimes.md
/// runc = "/usr/sbin/runc"
///
/// [log-opts]                       # for containers with that log driver, as `--log-opt`
/// max-size = "50m"
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConfigFile {
    root: Option<PathBuf>,
    run: Option<PathBuf>,
    instance: Option<String>,
    hosts: Vec<String>,
    socket_group: Option<String>,
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    max_concurrent_downloads: Option<NonZeroU32>,
    max_concurrent_uploads: Option<NonZeroU32>,
    max_download_attempts: Option<NonZeroU32>,
    shim: Option<PathBuf>,
    log_level: Option<String>,
    labels: Vec<String>,
    default_pids_limit: Option<i64>,
    default_log_bytes: Option<u64>,
    default_log_files: Option<u32>,
    event_history: Option<u64>,
    log_driver: Option<String>,
    log_opts: std::collections::BTreeMap<String, String>,
    journal_socket: Option<PathBuf>,
    default_runtime: Option<String>,
    plugin_dirs: Option<Vec<PathBuf>>,
    plugin_seconds: Option<std::num::NonZeroU32>,
    runtimes: BTreeMap<String, RuntimeEntry>,
    default_host_view: Option<HostView>,
    reserve_memory_bytes: Option<u64>,
    reserve_pids: Option<u64>,
    reserve_cpus: f64,
    operation_seconds: BTreeMap<OperationKind, NonZeroU32>,
}

/// Limits of containers that ask for none; `None` leaves the product's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DefaultLimits {
    pub(crate) pids: Option<i64>,
    pub(crate) log_bytes: Option<u64>,
    pub(crate) log_files: Option<u32>,
    pub(crate) event_history: Option<u64>,
    pub(crate) host_view: Option<HostView>,
}

/// Where the output of containers goes that choose nothing; `None` leaves the product's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) driver: Option<String>,
    pub(crate) options: std::collections::BTreeMap<String, String>,
    pub(crate) journal_socket: Option<PathBuf>,
}

/// Why a daemon cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("the configuration file {path} is not valid")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// No `wharf-shim` was found.
    #[error(
        "cannot find wharf-shim beside {program} or in /usr/libexec/wharf and /usr/local/libexec/wharf: name it with --shim"
    )]
    NoShim {
        /// This program.
        program: PathBuf,
    },
    /// An argument that is not known, or lacks its value.
    #[error("{reason}")]
    BadArgument {
        /// Which and why.
        reason: String,
    },
    /// Runtimes that cannot be what the configuration file says.
    #[error("the configuration file's runtimes are not valid: {reason}")]
    BadRuntimes {
        /// Which and why.
        reason: String,
    },
    /// A `-H` value of an unknown form.
    #[error("invalid address {address:?}: expected unix:///PATH, tcp://HOST:PORT or fd://")]
    BadHost {
        /// The value.
        address: String,
    },
}

/// Everything decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) instance: String,
    pub(crate) hosts: Vec<Host>,
    pub(crate) socket_group: String,
    pub(crate) registries: RegistrySettings,
    pub(crate) shim: PathBuf,
    pub(crate) log_level: String,
    pub(crate) labels: Vec<String>,
    pub(crate) limits: DefaultLimits,
    pub(crate) logging: LogSettings,
    pub(crate) runtimes: Runtimes,
    pub(crate) reserve: Reserve,
    pub(crate) operation_limits: BTreeMap<OperationKind, std::time::Duration>,
    pub(crate) plugins: PluginSettings,
}

impl Settings {
    /// Takes over what may change while a daemon runs; the rest stays what the daemon was started with.
    pub(crate) fn take_tunables(&mut self, from: Self) {
        let event_history = self.limits.event_history;
        *self = Self {
            root: std::mem::take(&mut self.root),
            run: std::mem::take(&mut self.run),
            instance: std::mem::take(&mut self.instance),
            hosts: std::mem::take(&mut self.hosts),
            socket_group: std::mem::take(&mut self.socket_group),
            shim: std::mem::take(&mut self.shim),
            ..from
        };
        self.limits.event_history = event_history;
    }
}

/// Where clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A unix socket at this path.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    /// The sockets that systemd passed.
    Activated,
}

/// What the daemon's command line takes.
pub const USAGE: &str = "\
Usage: wharf daemon [OPTIONS]

Run the engine in the foreground. SIGTERM ends it; containers go on. SIGHUP has it
read its configuration file again.

Options:
      --config FILE              configuration file (default /etc/wharf/config.toml, if it exists)
      --root DIR                 images, containers, volumes (default /var/lib/wharf)
      --run DIR                  sockets and what dies with the boot (default /run/wharf)
      --instance NAME            name of what this engine makes in the kernel (default wharf)
  -H, --host ADDRESS             unix:///PATH, tcp://HOST:PORT or fd://; repeatable
                                 (default unix://<run>/wharf.sock)
      --insecure-registry NAME   host[:port] or CIDR spoken to without verified TLS; repeatable
      --shim FILE                the wharf-shim binary (default: beside this program)
  -l, --log-level LEVEL          error, warn, info or debug (default info)
  -D, --debug                    the same as --log-level debug
  -h, --help                     print this text
";

impl Options {
    /// Reads the arguments after `wharf daemon`. `None` means that [`USAGE`] was asked for.
    pub fn parse<I>(arguments: I) -> Result<Option<Self>, OptionsError>
    where
        I: IntoIterator,
        I::Item: Into<std::ffi::OsString>,
    {
        use lexopt::prelude::{Long, Short, ValueExt};
        let bad = |error: lexopt::Error| OptionsError::BadArgument {
            reason: error.to_string(),
        };
        let mut parser = lexopt::Parser::from_args(arguments.into_iter().map(Into::into));
        let mut options = Self::default();
        while let Some(argument) = parser.next().map_err(bad)? {
            let path = |parser: &mut lexopt::Parser| parser.value().map(PathBuf::from).map_err(bad);
            let text = |parser: &mut lexopt::Parser| parser.value().and_then(|v| v.string()).map_err(bad);
            match argument {
                Long("config") => options.config = Some(path(&mut parser)?),
                Long("root") => options.root = Some(path(&mut parser)?),
                Long("run") => options.run = Some(path(&mut parser)?),
                Long("shim") => options.shim = Some(path(&mut parser)?),
                Long("instance") => options.instance = Some(text(&mut parser)?),
                Short('H') | Long("host") => options.hosts.push(text(&mut parser)?),
                Long("insecure-registry") => options.insecure_registries.push(text(&mut parser)?),
                Short('l') | Long("log-level") => options.log_level = Some(text(&mut parser)?),
                Short('D') | Long("debug") => options.log_level = Some("debug".to_owned()),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(bad(other.unexpected())),
            }
        }
        Ok(Some(options))
    }

    /// Where the instance lives: root, run directory, name.
    pub(crate) fn places(self) -> Result<(PathBuf, PathBuf, String), OptionsError> {
        let file = self.read_file()?;
        Ok((
            self.root.or(file.root).unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT)),
            self.run.or(file.run).unwrap_or_else(|| PathBuf::from(DEFAULT_RUN)),
            self.instance
                .or(file.instance)
                .unwrap_or_else(|| DEFAULT_INSTANCE.to_owned()),
        ))
    }

    /// Combines the command line, the file and the defaults.
    pub fn settle(self) -> Result<Settings, OptionsError> {
        let file = self.read_file()?;
        self.over(file)
    }

    fn read_file(&self) -> Result<ConfigFile, OptionsError> {
        let path = self.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if self.config.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(ConfigFile::default());
            }
            Err(source) => return Err(OptionsError::Unreadable { path, source }),
        };
        toml::from_str(&text).map_err(|source| OptionsError::Malformed {
            path,
            source: Box::new(source),
        })
    }

    fn over(self, file: ConfigFile) -> Result<Settings, OptionsError> {
        let run = self.run.or(file.run).unwrap_or_else(|| PathBuf::from(DEFAULT_RUN));
        let hosts = if self.hosts.is_empty() { file.hosts } else { self.hosts };
        let mut parsed = hosts
            .iter()
            .map(|host| Host::parse(host))
            .collect::<Result<Vec<_>, _>>()?;
        if parsed.is_empty() {
            parsed.push(Host::Unix(run.join("wharf.sock")));
        }
        let registries = RegistrySettings {
            insecure: [file.insecure_registries, self.insecure_registries].concat(),
            mirrors: file.registry_mirrors,
            downloads: file.max_concurrent_downloads,
            uploads: file.max_concurrent_uploads,
            attempts: file.max_download_attempts,
        };
        let shim = match self.shim.or(file.shim) {
            Some(path) => path,
            None => find_shim()?,
        };
        Ok(Settings {
            root: self.root.or(file.root).unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT)),
            run,
            instance: self
                .instance
                .or(file.instance)
                .unwrap_or_else(|| DEFAULT_INSTANCE.to_owned()),
            hosts: parsed,
            socket_group: file.socket_group.unwrap_or_else(|| DEFAULT_GROUP.to_owned()),
            registries,
            shim,
            log_level: self.log_level.or(file.log_level).unwrap_or_else(|| "info".to_owned()),
            labels: file.labels,
            limits: DefaultLimits {
                pids: file.default_pids_limit,
                log_bytes: file.default_log_bytes,
                log_files: file.default_log_files,
                event_history: file.event_history,
                host_view: file.default_host_view,
            },
            reserve: Reserve {
                memory: file.reserve_memory_bytes,
                pids: file.reserve_pids,
                cpus: file.reserve_cpus,
            },
            logging: LogSettings {
                driver: file.log_driver,
                options: file.log_opts,
                journal_socket: file.journal_socket,
            },
            runtimes: crate::runtimes::settle(&file.runtimes, file.default_runtime)
                .map_err(|reason| OptionsError::BadRuntimes { reason })?,
            plugins: plugins(file.plugin_dirs, file.plugin_seconds),
            operation_limits: file
                .operation_seconds
                .into_iter()
                .map(|(kind, seconds)| (kind, std::time::Duration::from_secs(seconds.get().into())))
                .collect(),
        })
    }
}

impl Host {
    /// Reads a `-H` value.
    pub fn parse(address: &str) -> Result<Self, OptionsError> {
        let bad = || OptionsError::BadHost {
            address: address.to_owned(),
        };
        match address.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp", host)) if host.contains(':') => Ok(Self::Tcp(host.trim_end_matches('/').to_owned())),
            Some(("fd", _)) => Ok(Self::Activated),
            None if address.starts_with('/') => Ok(Self::Unix(PathBuf::from(address))),
            _ => Err(bad()),
        }
    }
}

fn plugins(dirs: Option<Vec<PathBuf>>, seconds: Option<std::num::NonZeroU32>) -> PluginSettings {
    let known = PluginSettings::default();
    PluginSettings {
        dirs: dirs.unwrap_or(known.dirs),
        deadline: seconds.map_or(known.deadline, |s| std::time::Duration::from_secs(s.get().into())),
    }
}

/// Looks beside this program, then where packages put it.
fn find_shim() -> Result<PathBuf, OptionsError> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("wharf"));
    let beside = program.parent().map(Path::to_path_buf);
    let folders = beside
        .into_iter()
        .chain(["/usr/libexec/wharf", "/usr/local/libexec/wharf"].map(PathBuf::from));
    let found = folders
        .map(|folder| folder.join("wharf-shim"))
        .find(|path| path.is_file());
    found.ok_or(OptionsError::NoShim { program })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        toml::from_str(text).expect("valid file")
    }

    fn shim() -> Options {
        Options {
            shim: Some("/s".into()),
            ..Options::default()
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = file(
            "root = '/f/root'\nrun = '/f/run'\ndefault-pids-limit = -1\ninsecure-registries = ['a:1']\n[runtimes]\nrunc = '/r'",
        );
        let line = Options {
            root: Some("/c".into()),
            insecure_registries: vec!["b:2".into()],
            ..shim()
        };
        let settings = line.over(file).expect("settled");
        assert_eq!(settings.root, Path::new("/c"));
        assert_eq!(settings.run, Path::new("/f/run"));
        assert_eq!(settings.instance, "wharf");
        assert_eq!(settings.hosts, [Host::Unix("/f/run/wharf.sock".into())]);
        assert_eq!(settings.registries.insecure, ["a:1", "b:2"]);
        assert_eq!(settings.runtimes.configured().len(), 1);
        assert_eq!(settings.limits.pids, Some(-1));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<ConfigFile>("rooot = '/x'").expect_err("refused");
        assert!(error.to_string().contains("rooot"), "{error}");
    }

    #[test]
    fn addresses_have_three_forms() {
        let check = |text: &str, expected: Option<Host>| assert_eq!(Host::parse(text).ok(), expected, "{text}");
        check("unix:///run/x.sock", Some(Host::Unix("/run/x.sock".into())));
        check("/run/x.sock", Some(Host::Unix("/run/x.sock".into())));
        check("tcp://127.0.0.1:2375", Some(Host::Tcp("127.0.0.1:2375".into())));
        check("tcp://127.0.0.1:2375/", Some(Host::Tcp("127.0.0.1:2375".into())));
        check("fd://", Some(Host::Activated));
        for bad in ["unix://relative", "http://x:1", "tcp://noport", "x", ""] {
            check(bad, None);
        }
    }

    #[test]
    fn the_command_line_is_read() {
        let parse = |line: &str| Options::parse(line.split_whitespace());
        let options =
            parse("--root /r --run=/n --instance x -H unix:///s -Htcp://h:1 --insecure-registry 10.0.0.0/8 -D");
        let options = options.expect("sound").expect("options");
        assert_eq!(options.hosts, ["unix:///s", "tcp://h:1"]);
        assert_eq!((options.root, options.run), (Some("/r".into()), Some("/n".into())));
        assert_eq!(
            (options.instance.as_deref(), options.log_level.as_deref()),
            (Some("x"), Some("debug"))
        );
        assert_eq!(parse("--help").expect("sound"), None);
        for bad in ["--rooot /x", "--root", "stray"] {
            assert!(matches!(parse(bad), Err(OptionsError::BadArgument { .. })), "{bad}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let options = Options {
            config: Some("/nonexistent/wharf.toml".into()),
            ..shim()
        };
        assert!(matches!(options.settle(), Err(OptionsError::Unreadable { .. })));
    }
}
