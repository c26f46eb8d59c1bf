//! Flags as Docker's users type them: `-it`, `-p80:80`, `-e=A=b`, `--rm=false`, flags after
//! positional arguments where a verb allows it. A verb declares its flags in a table; parsing,
//! help texts, completions and manual pages all read that table.

mod parse;
mod value;

pub(crate) use parse::{FlagError, Parsed, parse};
pub(crate) use value::{parse_bytes, parse_duration_ns, parse_go_bool};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On or off; `--flag` and `--flag=false`.
    Bool,
    /// A text.
    String,
    /// A signed number.
    Int,
    /// An unsigned number of 16 bits.
    Uint16,
    /// An unsigned number.
    Uint,
    /// A decimal number, of processors.
    Decimal,
    /// A number of bytes with an optional unit, `512m`.
    Bytes,
    /// As [`Bytes`](Self::Bytes), and -1 for without limit.
    SignedBytes,
    /// A duration, `1m30s`.
    Duration,
    /// May be repeated; `Flag::shown_as` says what each is.
    List,
    /// May be repeated, and each may hold several separated by commas.
    Strings,
}

/// Refuses a value with the reason, or returns it in the form that is kept.
pub(crate) type Check = fn(&str) -> Result<String, String>;

/// One flag of a verb.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// The name after `--`.
    pub(crate) long: &'static str,
    /// The letter after `-`.
    pub(crate) short: Option<char>,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What help texts call the value.
    pub(crate) shown_as: &'static str,
    /// The value without the flag, as help texts show it; empty is not shown.
    pub(crate) default: &'static str,
    /// One line for help texts.
    pub(crate) help: &'static str,
    /// Accepted and not shown.
    pub(crate) hidden: bool,
    /// Refuses or rewrites a value as it is read.
    pub(crate) check: Option<Check>,
}

impl Flag {
    const fn new(long: &'static str, kind: Kind, shown_as: &'static str, help: &'static str) -> Self {
        Self {
            long,
            short: None,
            kind,
            shown_as,
            default: "",
            help,
            hidden: false,
            check: None,
        }
    }

    /// A flag that is on or off.
    pub(crate) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Bool, "", help)
    }

    /// A flag with a text.
    pub(crate) const fn string(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::String, "string", help)
    }

    /// A flag with a signed number.
    pub(crate) const fn int(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Int, "int", help)
    }

    /// A flag with an unsigned number.
    pub(crate) const fn uint(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Uint, "uint", help)
    }

    /// A flag with an unsigned number of 16 bits.
    pub(crate) const fn uint16(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Uint16, "uint16", help)
    }

    /// A flag with a decimal number.
    pub(crate) const fn decimal(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Decimal, "decimal", help)
    }

    /// A flag with a number of bytes.
    pub(crate) const fn bytes(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Bytes, "bytes", help)
    }

    /// A flag with a number of bytes or -1.
    pub(crate) const fn signed_bytes(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::SignedBytes, "bytes", help)
    }

    /// A flag with a duration.
    pub(crate) const fn duration(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Duration, "duration", help)
    }

    /// A flag that may be repeated.
    pub(crate) const fn list(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::List, "list", help)
    }

    /// A flag that may be repeated or hold several values separated by commas.
    pub(crate) const fn strings(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Strings, "strings", help)
    }

    /// With a letter.
    #[must_use]
    pub(crate) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// With a default to show.
    #[must_use]
    pub(crate) const fn default(mut self, shown: &'static str) -> Self {
        self.default = shown;
        self
    }

    /// With another word for the value.
    #[must_use]
    pub(crate) const fn shown_as(mut self, word: &'static str) -> Self {
        self.shown_as = word;
        self
    }

    /// Not shown in help texts.
    #[must_use]
    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// With a check of each value.
    #[must_use]
    pub(crate) const fn checked(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// True when the flag may be given several times, keeping each value.
    #[must_use]
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self.kind, Kind::List | Kind::Strings)
    }

    /// The name as error texts show it, `-m, --memory`.
    #[must_use]
    pub(crate) fn shown_name(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}
