//! `ENV name=value ...` or `ENV name value`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{at_least_one, blank_name};
use crate::dockerfile::words::split_pairs;

/// Sets environment variables of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// In order.
    pub pairs: Vec<(String, String)>,
}

impl Env {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let pairs = split_pairs("ENV", &statement.args, statement.escape)?;
        if pairs.is_empty() {
            return Err(at_least_one("ENV"));
        }
        if pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err(blank_name("ENV"));
        }
        Ok(Self { pairs })
    }

    /// Expands names and values, all with the values from before.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let expand = |(name, value): &(String, String)| Ok((expander.word(name)?, expander.word(value)?));
        let pairs = self.pairs.iter().map(expand).collect::<Result<_, BuildError>>()?;
        Ok(Self { pairs })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        let mut text = String::from("ENV");
        for (name, value) in &self.pairs {
            text.push_str(&format!(" {name}={value}"));
        }
        text
    }
}
