//! The 18 instructions, one file each: what they hold, how they are read, what expands in them.

mod add;
mod arg;
mod cmd;
mod command;
mod copy;
mod entrypoint;
mod env;
mod expose;
mod from;
mod healthcheck;
mod label;
mod maintainer;
mod mount;
mod onbuild;
mod run;
mod shell;
mod stopsignal;
mod user;
mod volume;
mod workdir;

pub use add::Add;
pub use arg::Arg;
pub use cmd::Cmd;
pub use command::CommandLine;
pub use copy::{Copy, Transfer};
pub use entrypoint::Entrypoint;
pub use env::Env;
pub use expose::Expose;
pub use from::From;
pub use healthcheck::Healthcheck;
pub use label::Label;
pub use maintainer::Maintainer;
pub use mount::{Mount, MountKind, Sharing};
pub use onbuild::Onbuild;
pub use run::Run;
pub use shell::Shell;
pub use stopsignal::Stopsignal;
pub use user::User;
pub use volume::Volume;
pub use workdir::Workdir;

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;

/// An instruction inside a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each variant is documented at its type
pub enum Instruction {
    Add(Add),
    Arg(Arg),
    Cmd(Cmd),
    Copy(Copy),
    Entrypoint(Entrypoint),
    Env(Env),
    Expose(Expose),
    Healthcheck(Healthcheck),
    Label(Label),
    Maintainer(Maintainer),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Shell),
    Stopsignal(Stopsignal),
    User(User),
    Volume(Volume),
    Workdir(Workdir),
}

impl Instruction {
    /// Reads any instruction but FROM.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        Ok(match statement.keyword.to_ascii_uppercase().as_str() {
            "ADD" => Instruction::Add(Add::parse(statement)?),
            "ARG" => Instruction::Arg(Arg::parse(statement)?),
            "CMD" => Instruction::Cmd(Cmd::parse(statement)?),
            "COPY" => Instruction::Copy(Copy::parse(statement)?),
            "ENTRYPOINT" => Instruction::Entrypoint(Entrypoint::parse(statement)?),
            "ENV" => Instruction::Env(Env::parse(statement)?),
            "EXPOSE" => Instruction::Expose(Expose::parse(statement)?),
            "HEALTHCHECK" => Instruction::Healthcheck(Healthcheck::parse(statement)?),
            "LABEL" => Instruction::Label(Label::parse(statement)?),
            "MAINTAINER" => Instruction::Maintainer(Maintainer::parse(statement)?),
            "ONBUILD" => Instruction::Onbuild(Onbuild::parse(statement)?),
            "RUN" => Instruction::Run(Run::parse(statement)?),
            "SHELL" => Instruction::Shell(Shell::parse(statement)?),
            "STOPSIGNAL" => Instruction::Stopsignal(Stopsignal::parse(statement)?),
            "USER" => Instruction::User(User::parse(statement)?),
            "VOLUME" => Instruction::Volume(Volume::parse(statement)?),
            "WORKDIR" => Instruction::Workdir(Workdir::parse(statement)?),
            _ => return Err(unknown(&statement.keyword)),
        })
    }

    /// The instruction with its variables replaced; RUN's command, CMD, ENTRYPOINT, SHELL,
    /// HEALTHCHECK, MAINTAINER and ONBUILD are not expanded.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        Ok(match self {
            Instruction::Add(i) => Instruction::Add(i.expand(expander)?),
            Instruction::Arg(i) => Instruction::Arg(i.expand(expander)?),
            Instruction::Copy(i) => Instruction::Copy(i.expand(expander)?),
            Instruction::Env(i) => Instruction::Env(i.expand(expander)?),
            Instruction::Expose(i) => Instruction::Expose(i.expand(expander)?),
            Instruction::Label(i) => Instruction::Label(i.expand(expander)?),
            Instruction::Run(i) => Instruction::Run(i.expand(expander)?),
            Instruction::Stopsignal(i) => Instruction::Stopsignal(i.expand(expander)?),
            Instruction::User(i) => Instruction::User(i.expand(expander)?),
            Instruction::Volume(i) => Instruction::Volume(i.expand(expander)?),
            Instruction::Workdir(i) => Instruction::Workdir(i.expand(expander)?),
            Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Healthcheck(_)
            | Instruction::Maintainer(_)
            | Instruction::Onbuild(_)
            | Instruction::Shell(_) => self.clone(),
        })
    }
}

/// Every keyword.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The error for a keyword that is none, with the nearest one where it looks like a slip.
fn unknown(keyword: &str) -> BuildError {
    let upper = keyword.to_ascii_uppercase();
    let nearest = KEYWORDS
        .iter()
        .map(|known| (edit_distance(&upper, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + usize::from(known.len() < 6));
    match nearest {
        Some((_, known)) => BuildError::invalid(format!("unknown instruction: {keyword} (did you mean {known}?)")),
        None => BuildError::invalid(format!("unknown instruction: {keyword}")),
    }
}

/// Number of single-character changes between two words.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The error for an instruction without arguments.
fn at_least_one(keyword: &str) -> BuildError {
    BuildError::invalid(format!("{keyword} requires at least one argument"))
}

/// The error for `=value` without a name.
fn blank_name(keyword: &str) -> BuildError {
    BuildError::invalid(format!("{keyword} names can not be blank"))
}

/// The whole text as one argument, which must be there.
fn exactly_one(keyword: &str, statement: &Statement) -> Result<String, BuildError> {
    if statement.args.is_empty() {
        return Err(BuildError::invalid(format!("{keyword} requires exactly one argument")));
    }
    Ok(statement.args.clone())
}

/// Refuses flags on an instruction that has none.
fn no_flags(statement: &Statement) -> Result<(), BuildError> {
    crate::dockerfile::flags::Flags::new(&statement.flags).finish()
}

/// A list as Go's `%q` prints it, which is what Docker writes into the history.
fn go_quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
