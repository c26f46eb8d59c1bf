//! What a command is: its names, its flags, and what it does. Each file under `commands` declares
//! one [`Verb`]; `verbs` lists them all.

use std::future::Future;
use std::pin::Pin;

use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;

/// What a verb's function returns.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// How many positional arguments a verb takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Args {
    /// None.
    None,
    /// Exactly so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// Between the two, both included.
    Between(usize, usize),
    /// Any number.
    Any,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Verb {
    /// The full name first (`container ls`), then its aliases (`ps`).
    pub(crate) names: &'static [&'static str],
    /// What follows the name in the usage line.
    pub(crate) usage: &'static str,
    /// One sentence.
    pub(crate) about: &'static str,
    /// Its flags, in groups that verbs share.
    pub(crate) flags: &'static [&'static [Flag]],
    /// How many positional arguments it takes.
    pub(crate) args: Args,
    /// True when everything after the first positional argument belongs to it.
    pub(crate) options_first: bool,
    /// What it does.
    pub(crate) run: for<'a> fn(&'a Session, &'a Parsed) -> Running<'a>,
}

impl Verb {
    /// The usage line without the word `Usage`.
    #[must_use]
    pub(crate) fn usage_line(&self, program: &str, name: &str) -> String {
        let line = format!("{program} {name} {}", self.usage);
        line.trim_end().to_owned()
    }

    /// All its flags.
    #[must_use]
    pub(crate) fn all_flags(&self) -> Vec<&'static Flag> {
        self.flags.iter().flat_map(|group| group.iter()).collect()
    }

    /// Checks the number of positional arguments.
    pub(crate) fn check_args(&self, program: &str, name: &str, count: usize) -> Result<(), CliError> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let complaint = match self.args {
            Args::None if count > 0 => "accepts no arguments".to_owned(),
            Args::Exactly(n) if count != n => format!("requires {n} {}", plural(n)),
            Args::AtLeast(n) if count < n => format!("requires at least {n} {}", plural(n)),
            Args::AtMost(n) if count > n => format!("requires at most {n} {}", plural(n)),
            Args::Between(low, high) if !(low..=high).contains(&count) => {
                format!("requires at least {low} and at most {high} {}", plural(high))
            }
            _ => return Ok(()),
        };
        Err(CliError::message(format!(
            "{program}: '{program} {name}' {complaint}\n\nUsage:  {}\n\nSee '{program} {name} --help' for more information",
            self.usage_line(program, name)
        )))
    }
}
