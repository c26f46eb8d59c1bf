//! `SHELL ["program", "argument"]`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::instruction::{at_least_one, no_flags};
use crate::dockerfile::words::parse_json_list;

/// Sets the shell of commands in shell form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// Program and arguments.
    pub argv: Vec<String>,
}

impl Shell {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        match parse_json_list(&statement.args)? {
            Some(argv) if argv.is_empty() => Err(at_least_one("SHELL")),
            Some(argv) => Ok(Self { argv }),
            None => Err(BuildError::invalid("SHELL requires the arguments to be in JSON form")),
        }
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("SHELL [{}]", self.argv.join(" "))
    }
}
