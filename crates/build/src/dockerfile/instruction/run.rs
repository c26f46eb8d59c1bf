//! `RUN [--mount=..] [--network=..] [--security=..] command`.

use crate::BuildError;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::{CommandLine, Mount, at_least_one};
use crate::dockerfile::{Heredoc, Statement};

/// Runs a command and keeps what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// Here-documents that the command announces.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Option<String>,
}

impl Run {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let mut flags = Flags::new(&statement.flags);
        let mounts = flags.texts("mount")?;
        let network = flags.text("network")?;
        let security = flags.text("security")?;
        let devices = flags.texts("device")?;
        flags.finish()?;
        if let Some(network) = network.as_deref()
            && !matches!(network, "default" | "none" | "host")
        {
            return Err(BuildError::invalid(format!("invalid network mode: {network}")));
        }
        match security.as_deref() {
            None | Some("sandbox") => {}
            Some("insecure") => {
                return Err(BuildError::unsupported(
                    "RUN --security=insecure is not supported: this builder grants no such entitlement",
                ));
            }
            Some(other) => {
                return Err(BuildError::invalid(format!("security {other} is not valid")));
            }
        }
        if let Some(device) = devices.first() {
            return Err(BuildError::unsupported(format!(
                "RUN --device={device} is not supported by this builder"
            )));
        }
        let command = CommandLine::parse(statement)?;
        if command.is_empty() {
            return Err(at_least_one("RUN"));
        }
        Ok(Self {
            command,
            heredocs: statement.heredocs.clone(),
            mounts: mounts.iter().map(|m| Mount::parse(m)).collect::<Result<_, _>>()?,
            network,
        })
    }

    /// Expands the mounts; the command is the shell's to expand.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let mounts = self.mounts.iter().map(|mount| mount.expand(expander));
        Ok(Self {
            mounts: mounts.collect::<Result<_, _>>()?,
            ..self.clone()
        })
    }

    /// Program and arguments, and the script that has to be at [`Run::SCRIPT_DIR`] where the
    /// here-document begins with `#!`.
    pub fn argv(&self, shell: &[String]) -> (Vec<String>, Option<(String, String)>) {
        let CommandLine::Shell(line) = &self.command else {
            return (self.command.argv(shell), None);
        };
        let text = match self.heredocs.as_slice() {
            [] => line.clone(),
            [only] if line.starts_with("<<") && !line.contains(char::is_whitespace) => {
                let body = only.content();
                if body.starts_with("#!") {
                    let path = format!("{}/{}", Self::SCRIPT_DIR, only.name);
                    return (vec![path.clone()], Some((path, body)));
                }
                body
            }
            several => several.iter().fold(line.clone(), |text, heredoc| {
                format!("{text}\n{}{}", heredoc.body, heredoc.name)
            }),
        };
        (CommandLine::Shell(text).argv(shell), None)
    }

    /// Where scripts of here-documents appear while they run.
    pub const SCRIPT_DIR: &str = "/dev/pipes";
}
