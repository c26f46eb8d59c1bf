//! `VOLUME path ...` or `VOLUME ["path", ...]`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{at_least_one, no_flags};
use crate::dockerfile::words::{parse_json_list, split_words};

/// Declares anonymous volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Paths in the container.
    pub paths: Vec<String>,
}

impl Volume {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        let paths = match parse_json_list(&statement.args)? {
            Some(list) => list,
            None => split_words(&statement.args, statement.escape),
        };
        if paths.is_empty() {
            return Err(at_least_one("VOLUME"));
        }
        if paths.iter().any(|path| path.trim().is_empty()) {
            return Err(BuildError::invalid("VOLUME specified can not be an empty string"));
        }
        Ok(Self { paths })
    }

    /// Expands.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let paths = self.paths.iter().map(|path| expander.word(path));
        Ok(Self {
            paths: paths.collect::<Result<_, _>>()?,
        })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("VOLUME [{}]", self.paths.join(" "))
    }
}
