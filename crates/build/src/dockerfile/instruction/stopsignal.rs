//! `STOPSIGNAL signal`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{exactly_one, no_flags};

/// Sets the signal that ends the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopsignal {
    /// A name or number.
    pub signal: String,
}

impl Stopsignal {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        exactly_one("STOPSIGNAL", statement).map(|signal| Self { signal })
    }

    /// Expands; the result must be a signal.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let signal = expander.word(&self.signal)?;
        if !is_signal(&signal) {
            return Err(BuildError::invalid(format!("invalid signal: {signal}")));
        }
        Ok(Self { signal })
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("STOPSIGNAL {}", self.signal)
    }
}

/// Whether this names a signal: `SIGINT`, `INT`, `2`, `RTMIN+3`.
fn is_signal(text: &str) -> bool {
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: Option<&str>| {
        rest.and_then(|n| n.parse::<u32>().ok())
            .is_some_and(|n| (1..=15).contains(&n))
    };
    NAMES.contains(&name) || offset(name.strip_prefix("RTMIN+")) || offset(name.strip_prefix("RTMAX-"))
}
