//! `LABEL name=value ...` or `LABEL name value`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{at_least_one, blank_name};
use crate::dockerfile::words::split_pairs;

/// Sets labels of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// In order.
    pub pairs: Vec<(String, String)>,
    /// Whether the pairs are meant literally (they come from `--label`).
    pub literal: bool,
}

impl Label {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let pairs = split_pairs("LABEL", &statement.args, statement.escape)?;
        if pairs.is_empty() {
            return Err(at_least_one("LABEL"));
        }
        if pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err(blank_name("LABEL"));
        }
        Ok(Self { pairs, literal: false })
    }

    /// Expands names and values.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        if self.literal {
            return Ok(self.clone());
        }
        let expand = |(name, value): &(String, String)| Ok((expander.word(name)?, expander.word(value)?));
        let pairs = self.pairs.iter().map(expand).collect::<Result<_, BuildError>>()?;
        Ok(Self { pairs, literal: true })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        let mut text = String::from("LABEL");
        for (name, value) in &self.pairs {
            text.push_str(&format!(" {name}={value}"));
        }
        text
    }
}
