//! `WORKDIR path`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{exactly_one, no_flags};

/// Sets and makes the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir {
    /// Absolute, or relative to the one before.
    pub path: String,
}

impl Workdir {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        exactly_one("WORKDIR", statement).map(|path| Self { path })
    }

    /// Expands.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        Ok(Self {
            path: expander.word(&self.path)?,
        })
    }
}
