//! `--flag=value` of instructions, each known to exactly one reader.

use crate::BuildError;

/// The flags of one statement, taken out one by one; what is left at the end is unknown.
#[derive(Debug)]
pub struct Flags {
    left: Vec<(String, Option<String>)>,
}

impl Flags {
    /// Splits `--name=value` words.
    pub fn new(words: &[String]) -> Self {
        let split = |word: &String| match word.trim_start_matches("--").split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (word.trim_start_matches("--").to_string(), None),
        };
        Self {
            left: words.iter().map(split).collect(),
        }
    }

    /// A flag that may be given once and needs a value.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, BuildError> {
        let mut values = self.texts(name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(duplicate(name)),
        }
    }

    /// A flag that may be repeated and needs a value.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, BuildError> {
        self.take(name)
            .into_iter()
            .map(|value| value.ok_or_else(|| BuildError::invalid(format!("missing a value on flag: --{name}"))))
            .collect()
    }

    /// A flag that is on when given, unless its value says otherwise.
    pub fn switch(&mut self, name: &str) -> Result<Option<bool>, BuildError> {
        let mut values = self.take(name);
        if values.len() > 1 {
            return Err(duplicate(name));
        }
        match values.pop() {
            None => Ok(None),
            Some(value) => parse_switch(name, value.as_deref()).map(Some),
        }
    }

    /// Ends the reading: a flag that is left is an error.
    pub fn finish(self) -> Result<(), BuildError> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(BuildError::invalid(format!("unknown flag: --{name}"))),
        }
    }

    /// Removes every occurrence of `name` and returns the values.
    fn take(&mut self, name: &str) -> Vec<Option<String>> {
        let (taken, left) = std::mem::take(&mut self.left)
            .into_iter()
            .partition(|(flag, _)| flag == name);
        self.left = left;
        let taken: Vec<(String, Option<String>)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }
}

/// Go's words for a boolean flag's value.
fn parse_switch(name: &str, value: Option<&str>) -> Result<bool, BuildError> {
    match value {
        None | Some("" | "true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(BuildError::invalid(format!(
            "expecting boolean value for flag --{name}, not: {other}"
        ))),
    }
}

/// A flag that is there twice.
fn duplicate(name: &str) -> BuildError {
    BuildError::invalid(format!("duplicate flag specified: --{name}"))
}
