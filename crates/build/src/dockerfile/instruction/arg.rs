//! `ARG name[=default] ...`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{at_least_one, blank_name};
use crate::dockerfile::words::split_words;

/// Declares build arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Names with their defaults, in order.
    pub declared: Vec<(String, Option<String>)>,
}

impl Arg {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let words = split_words(&statement.args, statement.escape);
        if words.is_empty() {
            return Err(at_least_one("ARG"));
        }
        let declare = |word: &String| match word.split_once('=') {
            Some(("", _)) => Err(blank_name("ARG")),
            Some((name, value)) => Ok((name.to_string(), Some(value.to_string()))),
            None => Ok((word.clone(), None)),
        };
        Ok(Self {
            declared: words.iter().map(declare).collect::<Result<_, _>>()?,
        })
    }

    /// Expands names and defaults.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let expand = |(name, default): &(String, Option<String>)| {
            let default = default.as_ref().map(|d| expander.word(d)).transpose()?;
            Ok((expander.word(name)?, default))
        };
        Ok(Self {
            declared: self.declared.iter().map(expand).collect::<Result<_, BuildError>>()?,
        })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        let mut text = String::from("ARG");
        for (name, default) in &self.declared {
            text.push_str(&format!(" {name}"));
            if let Some(default) = default {
                text.push_str(&format!("={default}"));
            }
        }
        text
    }
}
