//! The two ways to write a command: a JSON list, or a line for the shell.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::words::parse_json_list;

/// A command of RUN, CMD, ENTRYPOINT or HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// One line for the stage's shell.
    Shell(String),
    /// Program and arguments.
    Exec(Vec<String>),
}

impl CommandLine {
    /// Reads the arguments of `statement`.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        Self::parse_text(&statement.args)
    }

    /// Reads `text`.
    pub fn parse_text(text: &str) -> Result<Self, BuildError> {
        Ok(match parse_json_list(text)? {
            Some(list) => CommandLine::Exec(list),
            None => CommandLine::Shell(text.trim().into()),
        })
    }

    /// Whether nothing is there to run.
    pub fn is_empty(&self) -> bool {
        match self {
            CommandLine::Shell(line) => line.is_empty(),
            CommandLine::Exec(list) => list.is_empty(),
        }
    }

    /// Program and arguments; the shell form becomes an argument of `shell`.
    pub fn argv(&self, shell: &[String]) -> Vec<String> {
        match self {
            CommandLine::Exec(list) => list.clone(),
            CommandLine::Shell(line) => {
                let mut argv = shell.to_vec();
                argv.push(line.clone());
                argv
            }
        }
    }
}
