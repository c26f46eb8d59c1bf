//! Options before the command.

use super::{argument, text};
use crate::{CgroupChoice, RuntimeError};
use lexopt::Arg::{Long, Short, Value};
use std::path::PathBuf;
use wharf_cgroup::systemd::Instance;

/// Options that hold for all commands.
#[derive(Debug, Clone)]
pub(super) struct Global {
    /// Directory of the states.
    pub(super) root: PathBuf,
    /// It was named, and not just the default.
    pub(super) is_root_given: bool,
    /// Where errors are logged beside stderr.
    pub(super) log: Option<PathBuf>,
    /// More is logged than errors and warnings.
    pub(super) debug: bool,
    /// Log lines are JSON objects.
    pub(super) json_log: bool,
    /// Cgroups are asked of systemd.
    pub(super) systemd_cgroup: bool,
    /// No cgroup is made.
    pub(super) no_cgroup: bool,
    /// The program CRIU; searched for by its name if not given.
    pub(super) criu: Option<PathBuf>,
    /// Whether missing privileges over cgroups are borne; none finds out.
    pub(super) rootless: Option<bool>,
}

impl Default for Global {
    fn default() -> Self {
        let root = crate::privileges::runtime_dir().join("wharf-runtime");
        Self {
            root,
            is_root_given: false,
            log: None,
            debug: false,
            json_log: false,
            systemd_cgroup: false,
            no_cgroup: false,
            criu: None,
            rootless: None,
        }
    }
}

const HELP: &str = "\
wharf-runtime: an OCI runtime

Usage: wharf-runtime [OPTIONS] COMMAND [ARGS]

Commands:
  create    create a container; its program waits for start
  start     start the program of a created container
  run       create and start
  state     print the state of a container
  kill      send a signal to a container
  delete    remove a stopped container
  exec      run a further program in a container
  list      list containers
  ps        list the processes of a container
  pause     freeze a container
  resume    thaw a container
  update    change the limits of a container
  events    print measurements and out-of-memory notices
  checkpoint  save a container's processes with CRIU
  restore   bring back a saved container
  spec      write a default config.json
  features  print what this runtime can do

Options:
  --root DIR                 directory of the states
  --log FILE                 log errors there too
  --log-format text|json     format of the log
  --debug                    log more than errors and warnings
  --systemd-cgroup           let systemd make the cgroups (cgroupsPath is slice:prefix:name)
  --cgroup-manager NAME      cgroupfs, systemd or disabled
  --rootless auto|true|false whether to go on without a cgroup that may not be made
  --criu PATH                the program that checkpoint and restore use
  --version, --help
";

impl Global {
    /// Where compiled system call filters are kept: below the root, under a name that no container can have.
    pub(super) fn filter_cache(&self) -> PathBuf {
        self.root.join("@seccomp")
    }

    /// Reads up to the command; none when help or version was asked for.
    pub(super) fn parse(&mut self, parser: &mut lexopt::Parser) -> Result<Option<String>, RuntimeError> {
        while let Some(arg) = parser.next().map_err(argument)? {
            match arg {
                Long("root") => {
                    self.root = parser.value().map_err(argument)?.into();
                    self.is_root_given = true;
                }
                Long("log") => self.log = Some(parser.value().map_err(argument)?.into()),
                Long("log-format") => self.json_log = self.parse_format(parser)?,
                Long("systemd-cgroup") => self.systemd_cgroup = true,
                Long("cgroup-manager") => self.parse_manager(parser)?,
                Long("debug") => self.debug = true,
                Long("criu") => self.criu = Some(parser.value().map_err(argument)?.into()),
                Long("rootless") => self.rootless = self.parse_rootless(parser)?,
                Long("config") => drop(parser.value().map_err(argument)?),
                Long("version") | Short('v') => {
                    print_version();
                    return Ok(None);
                }
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                Value(command) => return text(command).map(Some),
                other => return Err(argument(other.unexpected())),
            }
        }
        print!("{HELP}");
        Ok(None)
    }

    fn parse_format(&self, parser: &mut lexopt::Parser) -> Result<bool, RuntimeError> {
        match text(parser.value().map_err(argument)?)?.as_str() {
            "json" => Ok(true),
            "text" => Ok(false),
            other => Err(super::usage(format!("unknown log format {other:?}"))),
        }
    }

    fn parse_rootless(&self, parser: &mut lexopt::Parser) -> Result<Option<bool>, RuntimeError> {
        match text(parser.value().map_err(argument)?)?.as_str() {
            "auto" => Ok(None),
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            other => Err(super::usage(format!(
                "--rootless: {other:?} is not auto, true or false"
            ))),
        }
    }

    /// Whether we are to do without the host's privileges: as asked, or as it is.
    pub(super) fn is_rootless(&self) -> bool {
        self.rootless.unwrap_or_else(crate::privileges::is_rootless)
    }

    /// Who makes the cgroups.
    pub(super) fn cgroup_choice(&self) -> CgroupChoice {
        let is_optional = self.is_rootless();
        let instance = if is_optional { Instance::User } else { Instance::System };
        CgroupChoice {
            systemd: (self.systemd_cgroup && !self.no_cgroup).then_some(instance),
            is_optional,
        }
    }

    fn parse_manager(&mut self, parser: &mut lexopt::Parser) -> Result<(), RuntimeError> {
        match text(parser.value().map_err(argument)?)?.as_str() {
            "cgroupfs" => {}
            "disabled" => self.no_cgroup = true,
            "systemd" => self.systemd_cgroup = true,
            other => return Err(super::usage(format!("unknown cgroup manager {other:?}"))),
        }
        Ok(())
    }
}

fn print_version() {
    println!("wharf-runtime version {}", env!("CARGO_PKG_VERSION"));
    println!("spec: {}", crate::spec::VERSION);
}
