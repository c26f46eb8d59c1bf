//! Who makes containers: the built-in runtime, OCI runtimes and shims that the configuration names.
//!
//! A runtime of one's own is used through the same keeper: the container's streams, log and exit status stay with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wharf_shim::plan::RuntimePlan;

use crate::config::Config;
use crate::containers::delete_tree;
use crate::error::{Error, Result};

/// The built-in OCI runtime, as it is called in `info` and `--runtime`.
pub const BUILTIN_RUNTIME: &str = "wharf-runtime";

/// Names by which clients written for Docker ask for the default runtime: the built-in one,
/// unless the configuration has a program of that name.
const ALIASES: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// How long a runtime may take to forget a container.
const FORGET_DEADLINE: Duration = Duration::from_secs(10);

/// A runtime that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A program with runc's command line.
    Oci {
        /// The program; without a slash it is looked for in `$PATH`.
        path: PathBuf,
        /// Arguments before the verb.
        args: Vec<String>,
    },
    /// A shim of containerd's protocol.
    Shim {
        /// Its name as containerd spells it (`io.containerd.kata.v2`), or its path.
        runtime_type: String,
        /// What it is told: see [`RuntimePlan::Shim`].
        options: serde_json::Map<String, serde_json::Value>,
    },
}

/// The configured runtimes, and which one containers get that ask for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtimes {
    configured: BTreeMap<String, Runtime>,
    default: Option<String>,
}

impl Runtimes {
    /// The runtimes by name, and the default one's name.
    ///
    /// # Errors
    /// Invalid: a name that cannot be one, the built-in runtime's, or a default that is not configured.
    pub fn new(configured: BTreeMap<String, Runtime>, default: Option<String>) -> Result<Self> {
        for (name, runtime) in &configured {
            check_name(name)?;
            if let Runtime::Shim { runtime_type, .. } = runtime
                && shim_program(runtime_type).is_none()
            {
                return Err(Error::invalid(format!(
                    "runtime '{name}': invalid runtimeType {runtime_type:?}"
                )));
            }
        }
        let runtimes = Self { configured, default };
        let default = runtimes.default_name();
        if !runtimes.knows(default) {
            return Err(Error::invalid(format!(
                "specified default runtime '{default}' does not exist"
            )));
        }
        Ok(runtimes)
    }

    /// What a container gets that asks for none.
    pub fn default_name(&self) -> &str {
        self.default.as_deref().unwrap_or(BUILTIN_RUNTIME)
    }

    /// The configured ones by name, without the built-in one.
    pub fn configured(&self) -> &BTreeMap<String, Runtime> {
        &self.configured
    }

    /// COMPAT: a shim may be asked for by its name without being configured, but never by its path.
    fn knows(&self, name: &str) -> bool {
        self.configured.contains_key(name) || is_builtin(name) || is_shim_name(name)
    }

    /// Refuses a name that a container cannot ask for.
    ///
    /// # Errors
    /// Invalid, in Docker's words.
    pub fn check(&self, name: &str) -> Result<()> {
        if name.is_empty() || self.knows(name) {
            return Ok(());
        }
        Err(unknown(name))
    }

    /// What the keeper of a container with this runtime does.
    pub(crate) fn plan(&self, name: &str, config: &Config) -> Result<RuntimePlan> {
        let name = if name.is_empty() { self.default_name() } else { name };
        match self.configured.get(name) {
            // The aliases that are names of shims mean those where they are installed.
            None if is_shim_name(name) => match shim_plan(name, &serde_json::Map::new(), config) {
                Err(_) if is_builtin(name) => Ok(RuntimePlan::Builtin),
                planned => planned,
            },
            None if is_builtin(name) => Ok(RuntimePlan::Builtin),
            None => Err(unknown(name)),
            Some(Runtime::Shim { runtime_type, options }) => shim_plan(runtime_type, options, config),
            Some(Runtime::Oci { path, args }) => Ok(RuntimePlan::Foreign {
                path: path.clone(),
                args: args.clone(),
                root: states_of(&config.run, name),
            }),
        }
    }
}

/// A name as containerd gives to shims: words with dots between them, and no path.
fn is_shim_name(name: &str) -> bool {
    !name.contains('/') && shim_program(name).is_some()
}

/// The program of a shim: an absolute path is one; of a name the last two words make it.
fn shim_program(runtime_type: &str) -> Option<PathBuf> {
    if runtime_type.starts_with('/') {
        return Some(runtime_type.into());
    }
    let is_word = |word: &&str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let words: Vec<&str> = runtime_type.split('.').collect();
    let [_, .., name, version] = words.as_slice() else {
        return None;
    };
    words
        .iter()
        .all(is_word)
        .then(|| PathBuf::from(format!("containerd-shim-{name}-{version}")))
}

fn shim_plan(
    runtime_type: &str,
    options: &serde_json::Map<String, serde_json::Value>,
    config: &Config,
) -> Result<RuntimePlan> {
    let program = shim_program(runtime_type).ok_or_else(|| unknown(runtime_type))?;
    let binary = find_program(&program).ok_or_else(|| {
        let program = program.display();
        Error::invalid(format!(
            "runtime {runtime_type:?} binary not installed {program:?}: file does not exist"
        ))
    })?;
    Ok(RuntimePlan::Shim {
        binary,
        namespace: config.instance.clone(),
        options: options.clone(),
    })
}

/// A program by its path, or by its name in the directories where programs are.
fn find_program(program: &Path) -> Option<PathBuf> {
    if program.is_absolute() {
        return program.is_file().then(|| program.to_path_buf());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/opt/kata/bin",
    ];
    let dirs = std::env::split_paths(&path).chain(usual.map(PathBuf::from));
    dirs.map(|dir| dir.join(program))
        .find(|path| path.is_absolute() && path.is_file())
}

/// Has an OCI runtime forget a container whose keeper could not tell it of the end, and removes what it kept of it.
/// Blocking; nothing to forget is the usual case and costs one look.
pub(crate) fn forget(config: &Config, name: &str, id: &str) {
    let root = states_of(&config.run, name);
    let state = root.join(id);
    if !state.exists() {
        return;
    }
    if let Some(Runtime::Oci { path, args }) = config.live.now().runtimes.configured.get(name) {
        let mut command = Command::new(path);
        command
            .args(args)
            .arg("--root")
            .arg(&root)
            .args(["delete", "--force", id]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = end_within(&mut command, FORGET_DEADLINE) {
            tracing::warn!("{} delete {id}: {error}", path.display());
        }
    }
    // What the runtime left is only a description: the container's processes and cgroup are gone.
    delete_tree(&state);
}

fn end_within(command: &mut Command, limit: Duration) -> std::io::Result<()> {
    let mut child = command.spawn()?;
    let end = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Where an OCI runtime keeps its states.
fn states_of(run: &Path, name: &str) -> PathBuf {
    states_dir(run).join(name)
}

/// Below it each configured runtime has a directory, and in that each of its containers.
pub(crate) fn states_dir(run: &Path) -> PathBuf {
    run.join("runtimes")
}

fn is_builtin(name: &str) -> bool {
    name == BUILTIN_RUNTIME || ALIASES.contains(&name)
}

fn unknown(name: &str) -> Error {
    Error::invalid(format!("unknown or invalid runtime name: {name}"))
        .with_hint("configure it with its path, or leave the runtime out")
}

/// A name is also one of a directory.
fn check_name(name: &str) -> Result<()> {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_good = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && name.bytes().all(is_fit);
    if !is_good || name.len() > 128 {
        return Err(Error::invalid(format!(
            "invalid runtime name {name:?}: letters, digits, '-', '_' and '.', a letter or digit first"
        )));
    }
    if name == BUILTIN_RUNTIME {
        return Err(Error::invalid(format!("runtime name '{name}' is reserved")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oci(path: &str) -> Runtime {
        Runtime::Oci {
            path: path.into(),
            args: vec!["--debug".into()],
        }
    }

    fn with(names: &[&str], default: Option<&str>) -> Result<Runtimes> {
        let configured = names.iter().map(|name| ((*name).to_owned(), oci("/r"))).collect();
        Runtimes::new(configured, default.map(str::to_owned))
    }

    #[test]
    fn names_are_checked_and_a_default_must_exist() {
        let check = |names: &[&str], default: Option<&str>, words: &str| {
            let error = with(names, default).expect_err(words);
            assert!(error.message().contains(words), "{}", error.message());
        };
        check(&["../x"], None, "invalid runtime name");
        check(&[""], None, "invalid runtime name");
        check(&[".."], None, "invalid runtime name");
        check(&["wharf-runtime"], None, "reserved");
        check(
            &["crun"],
            Some("kata"),
            "specified default runtime 'kata' does not exist",
        );
        assert_eq!(with(&["crun"], Some("crun")).expect("fine").default_name(), "crun");
        assert_eq!(with(&[], None).expect("fine").default_name(), BUILTIN_RUNTIME);
    }

    #[test]
    fn a_configured_name_wins_over_an_alias_of_the_built_in_one() {
        let config = Config::new("/root", "/run/x", "x", "/shim");
        let plan = |runtimes: &Runtimes, name: &str| runtimes.plan(name, &config).expect("a plan");
        let none = with(&[], None).expect("fine");
        for name in ["", "runc", BUILTIN_RUNTIME] {
            assert_eq!(plan(&none, name), RuntimePlan::Builtin, "{name}");
        }
        let configured = with(&["runc"], Some("runc")).expect("fine");
        for name in ["", "runc"] {
            let expected = RuntimePlan::Foreign {
                path: "/r".into(),
                args: vec!["--debug".into()],
                root: "/run/x/runtimes/runc".into(),
            };
            assert_eq!(plan(&configured, name), expected, "{name}");
        }
        for name in ["/usr/bin/containerd-shim-runc-v2", "a..b", "io/x.v1", ".v2"] {
            none.check(name).expect_err(name);
        }
        none.check("io.containerd.kata.v2").expect("a shim's name");
        let error = none
            .plan("io.containerd.nosuch.v7", &config)
            .expect_err("not installed");
        assert!(
            error.message().contains("containerd-shim-nosuch-v7"),
            "{}",
            error.message()
        );
        let error = none.check("nosuch").expect_err("unknown");
        assert_eq!(error.message(), "unknown or invalid runtime name: nosuch");
    }
}
