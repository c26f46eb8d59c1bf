//! `FROM [--platform=P] image [AS name]`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::words::split_words;

/// Begins a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Image, earlier stage or `scratch`, not yet expanded.
    pub base: String,
    /// Name of the stage, in lower case.
    pub name: Option<String>,
    /// Wanted platform, not yet expanded.
    pub platform: Option<String>,
}

impl From {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let mut flags = Flags::new(&statement.flags);
        let platform = flags.text("platform")?;
        flags.finish()?;
        let words = split_words(&statement.args, statement.escape);
        let name = match words.as_slice() {
            [_] => None,
            [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => Some(parse_stage_name(name)?),
            _ => {
                return Err(BuildError::invalid("FROM requires either one or three arguments"));
            }
        };
        Ok(Self {
            base: words[0].clone(),
            name,
            platform,
        })
    }
}

/// A stage's name: a letter, then letters, digits, `-`, `_` and `.`.
fn parse_stage_name(name: &str) -> Result<String, BuildError> {
    let lower = name.to_lowercase();
    let fits = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if !fits {
        return Err(BuildError::invalid(format!(
            "invalid name for build stage: \"{name}\", name can't start with a number or contain symbols"
        )));
    }
    Ok(lower)
}
