//! `USER user[:group]`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{exactly_one, no_flags};

/// Sets who the commands run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Names or numbers.
    pub user: String,
}

impl User {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        exactly_one("USER", statement).map(|user| Self { user })
    }

    /// Expands.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        Ok(Self {
            user: expander.word(&self.user)?,
        })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("USER {}", self.user)
    }
}
