//! `CMD command`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::instruction::{CommandLine, go_quoted_list, no_flags};

/// Sets the arguments that a command line replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmd {
    /// The command; empty to remove it.
    pub command: CommandLine,
}

impl Cmd {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        Ok(Self {
            command: CommandLine::parse(statement)?,
        })
    }

    /// As the image's history shows it.
    pub fn describe(&self, shell: &[String]) -> String {
        format!("CMD {}", go_quoted_list(&self.command.argv(shell)))
    }
}
