//! `MAINTAINER name`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::instruction::{exactly_one, no_flags};

/// Sets the author of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    /// Free text.
    pub name: String,
}

impl Maintainer {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        exactly_one("MAINTAINER", statement).map(|name| Self { name })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("MAINTAINER {}", self.name)
    }
}
