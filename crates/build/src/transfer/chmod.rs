//! The value of `--chmod`: octal, or symbolic as chmod(1) takes it.

use crate::BuildError;

/// A change of mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// Exactly these bits.
    Exact(u32),
    /// Clauses, applied in order.
    Symbolic(Vec<Clause>),
}

/// `[ugoa][+-=][rwxXst]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    who: u32,
    operator: char,
    permissions: String,
}

impl Chmod {
    /// Reads `755` or `u=rwX,go-w`.
    pub(crate) fn parse(text: &str) -> Result<Self, BuildError> {
        let invalid = || {
            BuildError::invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Chmod::Exact).ok_or_else(invalid);
        }
        let clauses: Option<Vec<Clause>> = text.split(',').map(parse_clause).collect();
        clauses.map(Chmod::Symbolic).ok_or_else(invalid)
    }

    /// The new permission bits of something that has `mode`.
    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Chmod::Exact(mode) => *mode,
            Chmod::Symbolic(clauses) => clauses
                .iter()
                .fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        for permission in self.permissions.chars() {
            bits |= match permission {
                'r' => 0o444 & self.who,
                'w' => 0o222 & self.who,
                'x' => 0o111 & self.who,
                'X' if is_dir || mode & 0o111 != 0 => 0o111 & self.who,
                's' => 0o6000 & self.who,
                't' => 0o1000,
                _ => 0,
            };
        }
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !(self.who & 0o777)) | bits,
        }
    }
}

/// Bits of user, group and others, with the set-id bits that belong to them.
fn parse_clause(text: &str) -> Option<Clause> {
    let at = text.find(['+', '-', '='])?;
    let mut who = 0;
    for ch in text[..at].chars() {
        who |= match ch {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o0007,
            'a' => 0o6777,
            _ => return None,
        };
    }
    let operator = text[at..].chars().next()?;
    let permissions = &text[at + 1..];
    let known = permissions.chars().all(|c| "rwxXst".contains(c));
    known.then(|| Clause {
        who: if who == 0 { 0o6777 } else { who },
        operator,
        permissions: permissions.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_does() {
        let table = [
            ("755", 0o600, false, 0o755),
            ("0", 0o600, false, 0),
            ("7777", 0o600, false, 0o7777),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("a=r", 0o755, false, 0o444),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+X", 0o744, false, 0o755),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o755, true, 0o1755),
        ];
        for (text, mode, is_dir, want) in table {
            let got = Chmod::parse(text).unwrap().apply(mode, is_dir);
            assert_eq!(got, want, "{text} on {mode:o}: {got:o}");
        }
        for text in ["", "8", "77777", "u", "z+x", "u+q", "rwx"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
