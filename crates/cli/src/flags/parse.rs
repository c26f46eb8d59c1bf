//! From arguments to values.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::{Flag, Kind};

/// Why arguments are refused; the wording is that of Docker's CLI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    /// A long flag that the verb does not have.
    #[error("unknown flag: --{name}")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A letter that the verb does not have.
    #[error("unknown shorthand flag: {letter:?} in -{group}")]
    UnknownLetter {
        /// The letter.
        letter: char,
        /// The letters it was found in.
        group: String,
    },
    /// The value is missing.
    #[error("flag needs an argument: {flag}")]
    MissingValue {
        /// The flag as typed.
        flag: String,
    },
    /// The value is refused.
    #[error("invalid argument {value:?} for {flag:?} flag: {reason}")]
    InvalidValue {
        /// The value.
        value: String,
        /// The flag with its letter.
        flag: String,
        /// Why.
        reason: String,
    },
    /// `--=x` and the like.
    #[error("bad flag syntax: {argument}")]
    Malformed {
        /// The argument.
        argument: String,
    },
    /// `--help` was asked for: not an error of the user.
    #[error("help requested")]
    Help,
}

/// The arguments of one call, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    flags: Vec<&'static Flag>,
    values: Vec<(&'static str, String)>,
    /// The positional arguments.
    pub(crate) args: Vec<String>,
}

/// Takes arguments apart. With `options_first` everything after the first positional argument is
/// positional too, as the command of a container.
pub(crate) fn parse(
    flags: Vec<&'static Flag>,
    arguments: Vec<String>,
    options_first: bool,
) -> Result<Parsed, FlagError> {
    let mut parsed = Parsed {
        flags,
        ..Parsed::default()
    };
    let mut rest = arguments.into_iter().peekable();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            parsed.args.extend(rest);
            break;
        }
        if let Some(long) = argument.strip_prefix("--") {
            parsed.take_long(long, &argument, &mut rest)?;
        } else if argument.len() > 1 && argument.starts_with('-') {
            parsed.take_letters(&argument[1..], &mut rest)?;
        } else {
            parsed.args.push(argument);
            if options_first {
                parsed.args.extend(rest);
                break;
            }
        }
    }
    Ok(parsed)
}

impl Parsed {
    fn take_long(
        &mut self,
        long: &str,
        argument: &str,
        rest: &mut Peekable<IntoIter<String>>,
    ) -> Result<(), FlagError> {
        if long.starts_with(['-', '=']) {
            return Err(FlagError::Malformed {
                argument: argument.to_owned(),
            });
        }
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let Some(flag) = self.flags.iter().copied().find(|flag| flag.long == name) else {
            return Err(match name {
                "help" => FlagError::Help,
                _ => FlagError::Unknown { name: name.to_owned() },
            });
        };
        let value = match (inline, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => rest.next().ok_or_else(|| FlagError::MissingValue {
                flag: format!("--{name}"),
            })?,
        };
        self.store(flag, value)
    }

    fn take_letters(&mut self, group: &str, rest: &mut Peekable<IntoIter<String>>) -> Result<(), FlagError> {
        let mut remaining = group;
        while let Some(letter) = remaining.chars().next() {
            remaining = &remaining[letter.len_utf8()..];
            let Some(flag) = self.flags.iter().copied().find(|flag| flag.short == Some(letter)) else {
                return Err(match letter {
                    'h' => FlagError::Help,
                    _ => FlagError::UnknownLetter {
                        letter,
                        group: group.to_owned(),
                    },
                });
            };
            if let Some(value) = remaining.strip_prefix('=') {
                return self.store(flag, value.to_owned());
            }
            if flag.kind == Kind::Bool {
                self.store(flag, "true".to_owned())?;
                continue;
            }
            let value = if remaining.is_empty() {
                rest.next().ok_or_else(|| FlagError::MissingValue {
                    flag: format!("{letter:?} in -{group}"),
                })?
            } else {
                remaining.to_owned()
            };
            return self.store(flag, value);
        }
        Ok(())
    }

    fn store(&mut self, flag: &'static Flag, value: String) -> Result<(), FlagError> {
        let values = match flag.kind {
            Kind::Strings => value.split(',').map(str::to_owned).collect(),
            _ => vec![value],
        };
        for value in values {
            let kept = flag.read(&value).map_err(|reason| FlagError::InvalidValue {
                value: value.clone(),
                flag: flag.shown_name(),
                reason,
            })?;
            self.values.push((flag.long, kept));
        }
        Ok(())
    }

    /// The last value given.
    #[must_use]
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        debug_assert!(self.flags.iter().any(|flag| flag.long == name), "no flag --{name}");
        self.values
            .iter()
            .rev()
            .find(|(long, _)| *long == name)
            .map(|(_, value)| value.as_str())
    }

    /// True when the flag was given.
    #[must_use]
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.last(name).is_some()
    }

    /// The text of a flag, empty without it.
    #[must_use]
    pub(crate) fn text(&self, name: &str) -> &str {
        self.last(name).unwrap_or_default()
    }

    /// True when a switch is on.
    #[must_use]
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.last(name) == Some("true")
    }

    /// True unless a switch was turned off.
    #[must_use]
    pub(crate) fn is_not_off(&self, name: &str) -> bool {
        self.last(name) != Some("false")
    }

    /// The number of a flag, 0 without it. Sizes are bytes, durations nanoseconds, processors
    /// thousand-millionths.
    #[must_use]
    pub(crate) fn number(&self, name: &str) -> i64 {
        self.number_given(name).unwrap_or(0)
    }

    /// The number of a flag that was given.
    #[must_use]
    pub(crate) fn number_given(&self, name: &str) -> Option<i64> {
        self.last(name)
            .map(|text| text.parse().unwrap_or_else(|_| parse_checked(text)))
    }

    /// True when the verb has a flag `--help` and it was given.
    #[must_use]
    pub(crate) fn is_help(&self) -> bool {
        self.values
            .iter()
            .any(|(long, value)| *long == "help" && value == "true")
    }

    /// Every value of a flag, in order.
    #[must_use]
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        debug_assert!(self.flags.iter().any(|flag| flag.long == name), "no flag --{name}");
        self.values
            .iter()
            .filter(|(long, _)| *long == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// The positional argument at `index`, empty when there are fewer.
    #[must_use]
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }
}

/// A number in one of Go's other bases; it was checked when it was read.
fn parse_checked(text: &str) -> i64 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.trim_start_matches('+')),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0b") => (&lower[2..], 2),
        Some("0o") => (&lower[2..], 8),
        _ => (lower.as_str(), 8),
    };
    sign * i64::from_str_radix(digits, radix).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 5] = [
        Flag::switch("interactive", "").short('i'),
        Flag::switch("tty", "").short('t'),
        Flag::list("publish", "").short('p'),
        Flag::signed_bytes("memory", "").short('m'),
        Flag::strings("alias", ""),
    ];

    fn read(line: &str, options_first: bool) -> Result<Parsed, FlagError> {
        static FLAGS: [Flag; 5] = self::FLAGS;
        let arguments = line.split_whitespace().map(str::to_owned).collect();
        parse(FLAGS.iter().collect(), arguments, options_first)
    }

    #[test]
    fn letters_may_be_joined_and_hold_values() {
        let parsed = read("-it -p80:80 -p 1:1 -p=2:2 --publish=3:3 img -x", true).unwrap();
        assert!(parsed.is_on("interactive") && parsed.is_on("tty"));
        assert_eq!(parsed.all("publish"), ["80:80", "1:1", "2:2", "3:3"]);
        assert_eq!(parsed.args, ["img", "-x"]);
    }

    #[test]
    fn flags_may_follow_arguments_unless_options_come_first() {
        let parsed = read("a -i b -- -t", false).unwrap();
        assert!(parsed.is_on("interactive") && !parsed.is_on("tty"));
        assert_eq!(parsed.args, ["a", "b", "-t"]);
    }

    #[test]
    fn lists_may_be_separated_by_commas_where_docker_allows_it() {
        let parsed = read("--alias a,b --alias c --publish 1,2", false).unwrap();
        assert_eq!(parsed.all("alias"), ["a", "b", "c"]);
        assert_eq!(parsed.all("publish"), ["1,2"]);
    }

    #[test]
    fn refusals_have_dockers_words() {
        let check = |line: &str, expected: &str| {
            assert_eq!(read(line, false).unwrap_err().to_string(), expected, "{line}");
        };
        check("--nosuch", "unknown flag: --nosuch");
        check("-ix", "unknown shorthand flag: 'x' in -ix");
        check("--memory", "flag needs an argument: --memory");
        check("-im", "flag needs an argument: 'm' in -im");
        check(
            "-m abc",
            "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'",
        );
        check("--=a", "bad flag syntax: --=a");
        assert_eq!(read("--help", false).unwrap_err(), FlagError::Help);
    }

    #[test]
    fn numbers_are_kept_in_their_unit() {
        let parsed = read("-m 512m --tty=false", false).unwrap();
        assert_eq!(parsed.number("memory"), 512 << 20);
        assert!(!parsed.is_on("tty") && !parsed.is_not_off("tty"));
    }
}
