//! Variable expansion in words, as a POSIX shell does it minus commands and arithmetic.
//!
//! Follows the Dockerfile reference, "Environment replacement": `$v`, `${v}`, the modifiers
//! `:- - :+ + :? ?`, prefix and suffix removal `# ## % %%`, replacement `/ //`; quotes are
//! removed; the escape character is the Dockerfile's.

use std::iter::Peekable;
use std::str::Chars;

use crate::BuildError;
use crate::dockerfile::glob;

/// Where values come from.
pub trait Variables {
    /// The value of `name`, `None` when unset.
    fn value(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn value(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Expands words with one escape character and one set of values.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    escape: char,
    variables: &'a dyn Variables,
}

impl<'a> Expander<'a> {
    /// An expander over `variables`.
    pub fn new(escape: char, variables: &'a dyn Variables) -> Self {
        Self { escape, variables }
    }

    /// Expands `text` to one word; blanks in it and in values stay.
    pub fn word(&self, text: &str) -> Result<String, BuildError> {
        Ok(self.expand(text)?.joined())
    }

    /// Expands `text` to words: blanks outside quotes, also those from values, separate.
    pub fn words(&self, text: &str) -> Result<Vec<String>, BuildError> {
        Ok(self.expand(text)?.words())
    }

    /// Expands the body of a here-document: quotes are ordinary characters there.
    pub fn heredoc(&self, body: &str) -> Result<String, BuildError> {
        let mut scan = Scan::new(*self, body);
        scan.quotes_are_literal = true;
        let mut out = Pieces::default();
        scan.until(None, &mut out)?;
        Ok(out.joined())
    }

    fn expand(&self, text: &str) -> Result<Pieces, BuildError> {
        let mut out = Pieces::default();
        Scan::new(*self, text)
            .until(None, &mut out)
            .map_err(|error| BuildError::invalid(format!("failed to process \"{text}\": {error}")))?;
        Ok(out)
    }
}

/// Expanded text, each character marked as separating (an unquoted blank) or not.
#[derive(Default)]
struct Pieces {
    chars: Vec<(char, bool)>,
    quoted_empty: bool,
}

impl Pieces {
    fn push_quoted(&mut self, text: &str) {
        self.chars.extend(text.chars().map(|c| (c, false)));
    }

    fn push_bare(&mut self, text: &str) {
        self.chars.extend(text.chars().map(|c| (c, c.is_whitespace())));
    }

    fn joined(&self) -> String {
        self.chars.iter().map(|(c, _)| c).collect()
    }

    fn words(&self) -> Vec<String> {
        let words: Vec<String> = self
            .chars
            .split(|(_, separates)| *separates)
            .filter(|word| !word.is_empty())
            .map(|word| word.iter().map(|(c, _)| c).collect())
            .collect();
        if words.is_empty() && self.quoted_empty {
            return vec![String::new()];
        }
        words
    }
}

/// The scanner over one text.
struct Scan<'a> {
    expander: Expander<'a>,
    chars: Peekable<Chars<'a>>,
    quotes_are_literal: bool,
}

impl<'a> Scan<'a> {
    fn new(expander: Expander<'a>, text: &'a str) -> Self {
        Self {
            expander,
            chars: text.chars().peekable(),
            quotes_are_literal: false,
        }
    }

    /// Expands up to `stop`, which is consumed, or up to the end where there is none.
    fn until(&mut self, stop: Option<char>, out: &mut Pieces) -> Result<(), BuildError> {
        let escape = self.expander.escape;
        while let Some(ch) = self.chars.next() {
            if Some(ch) == stop {
                return Ok(());
            }
            match ch {
                '\'' if !self.quotes_are_literal => self.single_quoted(out)?,
                '"' if !self.quotes_are_literal => self.double_quoted(out)?,
                '$' => {
                    let value = self.dollar()?;
                    out.push_bare(&value);
                }
                _ if ch == escape => self.escaped(out),
                _ => out.push_bare(ch.encode_utf8(&mut [0; 4])),
            }
        }
        match stop {
            None => Ok(()),
            Some(stop) => Err(BuildError::invalid(format!(
                "unexpected end of statement while looking for matching {stop}"
            ))),
        }
    }

    /// After an escape outside quotes: the next character means itself. In a here-document only
    /// `$` and the escape itself can be escaped.
    fn escaped(&mut self, out: &mut Pieces) {
        let escape = self.expander.escape;
        let special = |c: &char| *c == '$' || *c == escape;
        if self.quotes_are_literal && !self.chars.peek().is_some_and(special) {
            out.push_quoted(escape.encode_utf8(&mut [0; 4]));
            return;
        }
        if let Some(next) = self.chars.next() {
            out.push_quoted(next.encode_utf8(&mut [0; 4]));
        }
    }

    /// After `'`: everything up to the next one is literal.
    fn single_quoted(&mut self, out: &mut Pieces) -> Result<(), BuildError> {
        out.quoted_empty = true;
        for ch in self.chars.by_ref() {
            if ch == '\'' {
                return Ok(());
            }
            out.push_quoted(ch.encode_utf8(&mut [0; 4]));
        }
        Err(BuildError::invalid(
            "unexpected end of statement while looking for matching single-quote",
        ))
    }

    /// After `"`: variables expand; the escape works before `"`, `$` and itself only.
    fn double_quoted(&mut self, out: &mut Pieces) -> Result<(), BuildError> {
        out.quoted_empty = true;
        let escape = self.expander.escape;
        while let Some(ch) = self.chars.next() {
            match ch {
                '"' => return Ok(()),
                '$' => {
                    let value = self.dollar()?;
                    out.push_quoted(&value);
                }
                _ if ch == escape => {
                    let next = self.chars.next().ok_or_else(unmatched_double_quote)?;
                    if !(next == '"' || next == '$' || next == escape) {
                        out.push_quoted(ch.encode_utf8(&mut [0; 4]));
                    }
                    out.push_quoted(next.encode_utf8(&mut [0; 4]));
                }
                _ => out.push_quoted(ch.encode_utf8(&mut [0; 4])),
            }
        }
        Err(unmatched_double_quote())
    }

    /// After `$`: the value of what follows, or `$` itself where nothing fits.
    fn dollar(&mut self) -> Result<String, BuildError> {
        if self.chars.peek() == Some(&'{') {
            self.chars.next();
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".into());
        }
        Ok(self.expander.variables.value(&name).unwrap_or_default())
    }

    /// A variable's name: a word, a number, or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let Some(&first) = self.chars.peek() else {
            return name;
        };
        let belongs: fn(char) -> bool = match first {
            '0'..='9' => |c| c.is_ascii_digit(),
            'a'..='z' | 'A'..='Z' | '_' => |c| c.is_ascii_alphanumeric() || c == '_',
            '@' | '*' | '#' | '?' | '-' | '$' | '!' => {
                self.chars.next();
                return first.into();
            }
            _ => return name,
        };
        while let Some(ch) = self.chars.next_if(|c| belongs(*c)) {
            name.push(ch);
        }
        name
    }

    /// After `${`.
    fn braced(&mut self) -> Result<String, BuildError> {
        match self.chars.peek() {
            None => return Err(missing_brace()),
            Some('{' | '}' | ':') => {
                return Err(BuildError::invalid("syntax error: bad substitution"));
            }
            _ => {}
        }
        let name = self.name();
        let value = self.expander.variables.value(&name);
        match self.chars.next() {
            None => Err(missing_brace()),
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let modifier = self.chars.next().ok_or_else(missing_brace)?;
                let filled = value.filter(|v| !v.is_empty());
                self.conditional(&name, modifier, filled, "empty")
            }
            Some(modifier @ ('-' | '+' | '?')) => self.conditional(&name, modifier, value, "unset"),
            Some(side @ ('#' | '%')) => self.trim_match(side, value.unwrap_or_default()),
            Some('/') => self.replace(value.unwrap_or_default()),
            Some(other) => Err(unsupported_modifier(&other.to_string())),
        }
    }

    /// `-`, `+` and `?`; `value` is `None` where the condition counts it as missing.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        value: Option<String>,
        lack: &str,
    ) -> Result<String, BuildError> {
        if !matches!(modifier, '-' | '+' | '?') {
            return Err(unsupported_modifier(&format!(":{modifier}")));
        }
        let word = self.inner('}')?;
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(BuildError::invalid(format!("{name}: is not allowed to be {lack}"))),
            (_, None) => Err(BuildError::invalid(format!("{name}: {word}"))),
        }
    }

    /// `#`, `##`, `%` and `%%`: removes the shortest or longest match at one end.
    fn trim_match(&mut self, side: char, value: String) -> Result<String, BuildError> {
        let longest = self.chars.next_if_eq(&side).is_some();
        let pattern = self.inner('}')?;
        let cuts = value.char_indices().map(|(at, _)| at).chain([value.len()]);
        let mut cuts: Vec<usize> = cuts.collect();
        if longest == (side == '#') {
            cuts.reverse();
        }
        let found = cuts.into_iter().find(|&at| match side {
            '#' => glob::matches_text(&pattern, &value[..at]),
            _ => glob::matches_text(&pattern, &value[at..]),
        });
        Ok(match (found, side) {
            (None, _) => value,
            (Some(at), '#') => value[at..].into(),
            (Some(at), _) => value[..at].into(),
        })
    }

    /// `/pattern/text` and `//pattern/text`: replaces the first or every longest match.
    fn replace(&mut self, value: String) -> Result<String, BuildError> {
        let everywhere = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.inner('/')?;
        let text = self.inner('}')?;
        let mut out = String::new();
        let mut at = 0;
        while at < value.len() {
            if let Some(end) = longest_match(&pattern, &value, at) {
                out.push_str(&text);
                at = end;
                if !everywhere {
                    break;
                }
                continue;
            }
            let ch = value[at..].chars().next().expect("invariant: at is inside");
            out.push(ch);
            at += ch.len_utf8();
        }
        out.push_str(&value[at..]);
        Ok(out)
    }

    /// The nested word of a modifier, expanded, up to `stop`.
    fn inner(&mut self, stop: char) -> Result<String, BuildError> {
        let mut out = Pieces::default();
        self.until(Some(stop), &mut out)?;
        Ok(out.joined())
    }
}

/// The end of the longest non-empty match of `pattern` that begins at `start`.
fn longest_match(pattern: &str, value: &str, start: usize) -> Option<usize> {
    let ends = value[start..].char_indices().map(|(at, c)| start + at + c.len_utf8());
    let mut ends: Vec<usize> = ends.collect();
    ends.reverse();
    ends.into_iter()
        .find(|&end| glob::matches_text(pattern, &value[start..end]))
}

fn missing_brace() -> BuildError {
    BuildError::invalid("syntax error: missing '}'")
}

fn unmatched_double_quote() -> BuildError {
    BuildError::invalid("unexpected end of statement while looking for matching double-quote")
}

fn unsupported_modifier(modifier: &str) -> BuildError {
    BuildError::invalid(format!("unsupported modifier ({modifier}) in substitution"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        let value = match name {
            "A" => "one",
            "B" => "two words",
            "EMPTY" => "",
            "PATHS" => "/usr/lib/x.tar.gz",
            "1" => "first",
            "@" => "all",
            _ => return None,
        };
        Some(value.into())
    }

    #[test]
    fn every_form_expands() {
        let expander = Expander::new('\\', &value);
        let table = [
            ("plain", "plain"),
            ("", ""),
            ("$A", "one"),
            ("${A}", "one"),
            ("x$A.y", "xone.y"),
            ("$Ax", ""),
            ("$", "$"),
            ("a$", "a$"),
            ("$.x", "$.x"),
            ("$1x", "firstx"),
            ("$@", "all"),
            ("$NONE", ""),
            ("'$A'", "$A"),
            ("\"$A\"", "one"),
            (r"\$A", "$A"),
            (r#""\$A""#, "$A"),
            (r#""a\b""#, r"a\b"),
            (r#""a\"b""#, "a\"b"),
            (r"a\ b", "a b"),
            (r"end\", "end"),
            ("${NONE:-dflt}", "dflt"),
            ("${NONE-dflt}", "dflt"),
            ("${EMPTY:-dflt}", "dflt"),
            ("${EMPTY-dflt}", ""),
            ("${A:-dflt}", "one"),
            ("${A:+alt}", "alt"),
            ("${EMPTY:+alt}", ""),
            ("${EMPTY+alt}", "alt"),
            ("${NONE+alt}", ""),
            ("${NONE:-${A}-$B}", "one-two words"),
            ("${NONE:-'$A'}", "$A"),
            ("${A:?msg}", "one"),
            ("${EMPTY?msg}", ""),
            ("${PATHS#*/}", "usr/lib/x.tar.gz"),
            ("${PATHS##*/}", "x.tar.gz"),
            ("${PATHS%.*}", "/usr/lib/x.tar"),
            ("${PATHS%%.*}", "/usr/lib/x"),
            ("${PATHS#none}", "/usr/lib/x.tar.gz"),
            ("${PATHS/\\//_}", "_usr/lib/x.tar.gz"),
            ("${PATHS//\\//_}", "_usr_lib_x.tar.gz"),
            ("${A/o?/X}", "Xe"),
            ("${B/w*s/}", "t"),
            ("${A/zz/X}", "one"),
        ];
        for (text, want) in table {
            assert_eq!(expander.word(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let expander = Expander::new('\\', &value);
        let table = [
            ("${A", "missing '}'"),
            ("${", "missing '}'"),
            ("${}", "bad substitution"),
            ("${:x}", "bad substitution"),
            ("${A:", "missing '}'"),
            ("${A:=x}", "unsupported modifier (:=) in substitution"),
            ("${A=x}", "unsupported modifier (=) in substitution"),
            ("${A:-x", "looking for matching }"),
            ("'x", "matching single-quote"),
            ("\"x", "matching double-quote"),
            ("${NONE:?}", "NONE: is not allowed to be empty"),
            ("${NONE?}", "NONE: is not allowed to be unset"),
            ("${NONE:?give me}", "NONE: give me"),
        ];
        for (text, want) in table {
            let error = expander.word(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn words_split_at_bare_blanks_only() {
        let expander = Expander::new('\\', &value);
        let check = |text: &str, want: &[&str]| {
            assert_eq!(expander.words(text).unwrap(), want, "{text}");
        };
        check("$B x", &["two", "words", "x"]);
        check("\"$B\" x", &["two words", "x"]);
        check("''", &[""]);
        check("$NONE", &[]);
        check(r"a\ b c", &["a b", "c"]);
    }

    #[test]
    fn a_backtick_can_be_the_escape() {
        let expander = Expander::new('`', &value);
        assert_eq!(expander.word(r"c:\x\$A`$A").unwrap(), r"c:\x\one$A");
    }

    #[test]
    fn a_heredoc_keeps_its_quotes() {
        let expander = Expander::new('\\', &value);
        let text = expander.heredoc("it's \"$A\" \\$A \\n\n").unwrap();
        assert_eq!(text, "it's \"one\" $A \\n\n");
    }
}
