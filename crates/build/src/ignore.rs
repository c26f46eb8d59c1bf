//! `.dockerignore`: which files of a context are left out. Also the patterns of `--exclude`.
//!
//! Patterns are those of Go's `filepath.Match`, and `**` for any number of directories. A pattern
//! that matches a directory covers everything below it; `!` takes back; the last match decides.

use crate::BuildError;

/// An ordered list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    tokens: Vec<Token>,
    takes_back: bool,
}

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `**` at the end or before other characters: anything, across directories.
    Deep,
    /// `**/`: nothing, or whole directories; always followed by [`Token::InsideGap`].
    Gap,
    /// Inside the directories of a gap; a `/` may end it.
    InsideGap,
    /// `*`: anything inside one name.
    Run,
    /// `?`
    One,
    /// `[a-z]`
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// This character.
    Literal(char),
}

impl Patterns {
    /// Reads the text of a `.dockerignore` file.
    pub fn parse_file(text: &str) -> Result<Self, BuildError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self::parse(lines)
    }

    /// Reads patterns, one each.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BuildError> {
        let mut rules = Vec::new();
        for pattern in patterns {
            rules.extend(Rule::parse(pattern)?);
        }
        Ok(Self { rules })
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path`, relative and separated by `/`, is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            // A rule that would change nothing need not be tried.
            if rule.takes_back == excluded && rule.covers(path) {
                excluded = !rule.takes_back;
            }
        }
        excluded
    }

    /// Whether something below a left-out directory may be taken back, so that a walk has to look
    /// into it.
    pub fn takes_anything_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.takes_back)
    }
}

impl Rule {
    /// One line; `None` where it says nothing.
    fn parse(line: &str) -> Result<Option<Self>, BuildError> {
        let line = line.trim();
        let (takes_back, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if pattern.is_empty() {
            return match takes_back {
                true => Err(BuildError::invalid("illegal exclusion pattern: \"!\"")),
                false => Ok(None),
            };
        }
        let clean = clean_path(pattern);
        if clean.is_empty() {
            return Ok(None);
        }
        let tokens =
            tokenize(&clean).ok_or_else(|| BuildError::invalid(format!("syntax error in pattern: {pattern}")))?;
        Ok(Some(Self { tokens, takes_back }))
    }

    /// Whether the pattern matches the path or a directory above it.
    fn covers(&self, path: &str) -> bool {
        let cuts = path.match_indices('/').map(|(at, _)| at);
        cuts.chain([path.len()]).any(|end| matches(&self.tokens, &path[..end]))
    }
}

/// A path without leading slash, empty and `.` names, `..` resolved. Empty for the root itself.
pub fn clean_path(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if path.starts_with('/') => {}
            name => names.push(name),
        }
    }
    names.join("/")
}

/// `None` for a pattern that is not well formed.
fn tokenize(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(ch) = chars.next() {
        let token = match ch {
            '*' if chars.next_if_eq(&'*').is_some() => {
                while chars.next_if_eq(&'*').is_some() {}
                match chars.next_if_eq(&'/') {
                    Some(_) => {
                        tokens.push(Token::Gap);
                        Token::InsideGap
                    }
                    None => Token::Deep,
                }
            }
            '*' => Token::Run,
            '?' => Token::One,
            '[' => class(&mut chars)?,
            '\\' => Token::Literal(chars.next()?),
            other => Token::Literal(other),
        };
        tokens.push(token);
    }
    Some(tokens)
}

/// After `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut low = chars.next()?;
        if low == ']' && !ranges.is_empty() {
            return Some(Token::Class { negated, ranges });
        }
        if low == '\\' {
            low = chars.next()?;
        }
        let mut high = low;
        if chars.next_if_eq(&'-').is_some() {
            high = chars.next()?;
            if high == '\\' {
                high = chars.next()?;
            }
        }
        ranges.push((low, high));
    }
}

/// Whether the tokens match the whole text: follows all ways at once, so that no pattern is slow.
fn matches(tokens: &[Token], text: &str) -> bool {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    skip_empty(tokens, &mut at);
    for ch in text.chars() {
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate().filter(|(index, _)| at[*index]) {
            match token {
                Token::Deep => next[index] = true,
                Token::Run => next[index] |= ch != '/',
                Token::Gap => {}
                Token::InsideGap => {
                    next[index] = true;
                    next[index + 1] |= ch == '/';
                }
                single => next[index + 1] |= one_fits(single, ch),
            }
        }
        skip_empty(tokens, &mut next);
        at = next;
    }
    at[tokens.len()]
}

/// Goes over tokens that may match nothing.
fn skip_empty(tokens: &[Token], at: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if !at[index] {
            continue;
        }
        match token {
            Token::Deep | Token::Run => at[index + 1] = true,
            Token::Gap => {
                at[index + 1] = true;
                at[index + 2] = true;
            }
            _ => {}
        }
    }
}

/// Whether a token that stands for one character takes `ch`.
fn one_fits(token: &Token, ch: char) -> bool {
    match token {
        Token::One => ch != '/',
        Token::Literal(literal) => *literal == ch,
        Token::Class { negated, ranges } => ranges.iter().any(|(low, high)| *low <= ch && ch <= *high) != *negated,
        Token::Deep | Token::Gap | Token::InsideGap | Token::Run => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_match_decides() {
        let table: &[(&str, &str, bool)] = &[
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("./a/", "a", true),
            ("a/../b", "b", true),
            ("*", "a/b", true),
            ("*.md", "x.md", true),
            ("*.md", "d/x.md", false),
            ("**/*.md", "x.md", true),
            ("**/*.md", "d/e/x.md", true),
            ("**/*.md", "xxmd", false),
            ("d/**", "d/x", true),
            ("d/**", "d", false),
            ("d/**/x", "d/x", true),
            ("d/**/x", "d/a/b/x", true),
            ("d/**/x", "d/a/bx", false),
            ("**", "anything/at/all", true),
            ("**/node", "a/node/b", true),
            ("**foo", "a/barfoo", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "b.md", true),
            ("!README.md\n*.md", "README.md", true),
            ("node/*\n!node/deep", "node/deep/z", false),
            ("node/*\n!node/deep", "node/other", true),
            ("node\n!node/deep\nnode/deep/z", "node/deep/z", true),
            ("# a", "# a", false),
            (" # a", "# a", true),
            ("\n  \n", "a", false),
            ("\u{feff}a", "a", true),
            ("A", "a", false),
        ];
        for (text, path, want) in table {
            let patterns = Patterns::parse_file(text).unwrap();
            assert_eq!(patterns.excludes(path), *want, "{text:?} {path}");
        }
    }

    #[test]
    fn bad_patterns_are_named() {
        for (text, words) in [
            ("!", "illegal exclusion pattern"),
            ("[a", "syntax error in pattern: [a"),
        ] {
            let error = Patterns::parse_file(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_not_slow() {
        let pattern = "**/a*a*".repeat(40) + "b";
        let patterns = Patterns::parse([pattern.as_str()]).unwrap();
        assert!(!patterns.excludes(&"a".repeat(2000)));
    }
}
