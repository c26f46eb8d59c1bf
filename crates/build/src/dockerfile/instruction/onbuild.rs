//! `ONBUILD instruction`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::instruction::{Instruction, at_least_one, no_flags};

/// Keeps an instruction for builds on top of this image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction as written, its here-documents included.
    pub trigger: String,
}

impl Onbuild {
    /// Reads the statement; the trigger must be an instruction that may be one.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        if statement.args.is_empty() {
            return Err(at_least_one("ONBUILD"));
        }
        let mut inner = Statement::parse(&statement.args, statement.line, statement.escape);
        inner.heredocs = statement.heredocs.clone();
        match inner.keyword.to_ascii_uppercase().as_str() {
            "ONBUILD" => {
                return Err(BuildError::invalid(
                    "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
                ));
            }
            keyword @ ("MAINTAINER" | "FROM") => {
                return Err(BuildError::invalid(format!(
                    "{keyword} isn't allowed as an ONBUILD trigger"
                )));
            }
            _ => {}
        }
        Instruction::parse(&inner)?;
        let bodies = statement.heredocs.iter();
        let trigger = bodies.fold(statement.args.clone(), |text, heredoc| {
            format!("{text}\n{}{}", heredoc.body, heredoc.name)
        });
        Ok(Self { trigger })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("ONBUILD {}", self.trigger)
    }
}
