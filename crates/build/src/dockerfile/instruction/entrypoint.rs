//! `ENTRYPOINT command`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::instruction::{CommandLine, go_quoted_list, no_flags};

/// Sets the arguments that a command line adds to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrypoint {
    /// The command; empty to remove it.
    pub command: CommandLine,
}

impl Entrypoint {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        Ok(Self {
            command: CommandLine::parse(statement)?,
        })
    }

    /// As the image's history shows it.
    pub fn describe(&self, shell: &[String]) -> String {
        format!("ENTRYPOINT {}", go_quoted_list(&self.command.argv(shell)))
    }
}
