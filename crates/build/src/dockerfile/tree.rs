//! Statements to stages.

use crate::BuildError;
use crate::dockerfile::instruction::{Arg, From, Instruction};
use crate::dockerfile::{Directives, Statement, parse_statements};

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// What the directives at the top say.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Global>,
    /// In order, at least one.
    pub stages: Vec<Stage>,
    /// Mistakes that are accepted, for the user.
    pub warnings: Vec<String>,
}

/// An `ARG` before the first `FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Line of the Dockerfile.
    pub line: usize,
    /// As written.
    pub original: String,
    /// The instruction.
    pub arg: Arg,
}

/// A stage: `FROM` and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Line of its `FROM`.
    pub line: usize,
    /// Its `FROM` as written.
    pub original: String,
    /// What it is built on.
    pub from: From,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Line of the Dockerfile.
    pub line: usize,
    /// As written, continuation lines joined.
    pub original: String,
    /// What it means.
    pub instruction: Instruction,
}

impl Step {
    /// Reads one statement of a stage.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let instruction = Instruction::parse(statement).map_err(|error| error.on_line(statement.line))?;
        Ok(Self {
            line: statement.line,
            original: statement.original.clone(),
            instruction,
        })
    }

    /// Reads the text of an `ONBUILD` trigger.
    pub fn parse_trigger(text: &str) -> Result<Self, BuildError> {
        let statements = parse_statements(text)?.statements;
        match statements.as_slice() {
            [statement] => Step::parse(statement),
            _ => Err(BuildError::invalid(format!(
                "the ONBUILD trigger \"{text}\" is not one instruction"
            ))),
        }
    }
}

/// Reads a Dockerfile. Errors carry the line at fault.
pub fn parse(text: &str) -> Result<Dockerfile, BuildError> {
    let statements = parse_statements(text)?;
    if statements.statements.is_empty() {
        return Err(BuildError::invalid("file with no instructions"));
    }
    let mut dockerfile = Dockerfile {
        directives: statements.directives,
        global_args: Vec::new(),
        stages: Vec::new(),
        warnings: statements.warnings,
    };
    for statement in &statements.statements {
        place(statement, &mut dockerfile).map_err(|error| error.on_line(statement.line))?;
    }
    if dockerfile.stages.is_empty() {
        return Err(BuildError::invalid("dockerfile contains no stages to build"));
    }
    Ok(dockerfile)
}

/// Puts one statement where it belongs.
fn place(statement: &Statement, dockerfile: &mut Dockerfile) -> Result<(), BuildError> {
    if statement.keyword.eq_ignore_ascii_case("FROM") {
        dockerfile.stages.push(Stage {
            line: statement.line,
            original: statement.original.clone(),
            from: From::parse(statement)?,
            steps: Vec::new(),
        });
        return Ok(());
    }
    let step = Step::parse(statement)?;
    if let Some(stage) = dockerfile.stages.last_mut() {
        stage.steps.push(step);
        return Ok(());
    }
    let Instruction::Arg(arg) = step.instruction else {
        return Err(BuildError::invalid("no build stage in current context"));
    };
    dockerfile.global_args.push(Global {
        line: step.line,
        original: step.original,
        arg,
    });
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
