//! `.dockerignore`: patterns of paths that stay out of the context, the last matching one wins.

use std::path::Path;

/// The patterns of one context.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    tokens: Vec<Token>,
    /// `!pattern`: what matches stays in.
    exception: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A letter.
    Literal(char),
    /// `?`: any letter but `/`.
    Any,
    /// `*`: any number of letters but `/`.
    Star,
    /// `**/`: any number of directories, none too.
    Directories,
    /// `**` at the end: anything.
    Everything,
    /// `[a-z]`, `[^a]`.
    Class { ranges: Vec<(char, char)>, negated: bool },
}

impl Ignore {
    /// The patterns of the file `DOCKERFILE.dockerignore` or `.dockerignore` in `root`. The file
    /// itself and the Dockerfile are always sent.
    pub(crate) fn of_directory(root: &Path, dockerfile: &str) -> Result<Self, String> {
        let own = root.join(format!("{dockerfile}.dockerignore"));
        let path = if own.exists() { own } else { root.join(".dockerignore") };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("error reading {}: {error}", path.display())),
        };
        let mut ignore = Self::parse(&text)?;
        for kept in [".dockerignore", dockerfile] {
            if ignore.excludes(kept) {
                ignore.patterns.push(Pattern {
                    tokens: literal(kept),
                    exception: true,
                });
            }
        }
        Ok(ignore)
    }

    /// Reads patterns, one a line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut patterns = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (exception, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                if exception {
                    return Err("illegal exclusion pattern: \"!\"".to_owned());
                }
                continue;
            }
            let cleaned = clean(pattern);
            patterns.push(Pattern {
                tokens: tokens(&cleaned)?,
                exception,
            });
        }
        Ok(Self { patterns })
    }

    /// True when the path, or a directory above it, is excluded.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for pattern in &self.patterns {
            // What an earlier pattern already decided need not be decided again.
            if pattern.exception == excluded && pattern.matches_path_or_parent(path) {
                excluded = !pattern.exception;
            }
        }
        excluded
    }

    /// True when something below an excluded directory may still be sent.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }
}

impl Pattern {
    fn matches_path_or_parent(&self, path: &str) -> bool {
        let mut end = path.len();
        loop {
            let candidate: Vec<char> = path[..end].chars().collect();
            if matches(&self.tokens, &candidate) {
                return true;
            }
            match path[..end].rfind('/') {
                Some(slash) => end = slash,
                None => return false,
            }
        }
    }
}

/// The path without `.`, doubled slashes and a slash at either end; `..` as far as it can go.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn literal(text: &str) -> Vec<Token> {
    text.chars().map(Token::Literal).collect()
}

fn tokens(pattern: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        found.push(match letter {
            '*' if letters.peek() == Some(&'*') => {
                letters.next();
                letters.next_if_eq(&'/');
                if letters.peek().is_none() {
                    Token::Everything
                } else {
                    Token::Directories
                }
            }
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Literal(letters.next().ok_or("syntax error in pattern")?),
            '[' => class(&mut letters).ok_or("syntax error in pattern")?,
            other => Token::Literal(other),
        });
    }
    Ok(found)
}

fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = letters.next_if(|letter| *letter == '^').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut first = letters.next()?;
        if first == ']' {
            return (!ranges.is_empty()).then_some(Token::Class { ranges, negated });
        }
        if first == '\\' {
            first = letters.next()?;
        }
        let last = match letters.next_if_eq(&'-') {
            Some(_) => letters.next()?,
            None => first,
        };
        ranges.push((first, last));
    }
}

/// Whether the tokens match the whole text: every position that can be reached, token by token.
fn matches(tokens: &[Token], text: &[char]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in tokens {
        reached = step(token, text, &reached);
        if !reached.contains(&true) {
            return false;
        }
    }
    reached[text.len()]
}

fn step(token: &Token, text: &[char], reached: &[bool]) -> Vec<bool> {
    let mut next = vec![false; reached.len()];
    for start in (0..reached.len()).filter(|index| reached[*index]) {
        match token {
            Token::Star => {
                next[start] = true;
                let run = text[start..].iter().take_while(|letter| **letter != '/').count();
                next[start..=start + run].fill(true);
            }
            Token::Everything => next[start..].fill(true),
            Token::Directories => {
                next[start] = true;
                for index in start..text.len() {
                    next[index + 1] |= text[index] == '/';
                }
            }
            _ => {
                if let Some(letter) = text.get(start) {
                    next[start + 1] |= token.takes(*letter);
                }
            }
        }
    }
    next
}

impl Token {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Literal(other) => *other == letter,
            Self::Any => letter != '/',
            Self::Class { ranges, negated } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != *negated
            }
            Self::Star | Self::Directories | Self::Everything => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_dockers_do() {
        let check = |patterns: &str, path: &str, expected: bool| {
            let ignore = Ignore::parse(patterns).unwrap();
            assert_eq!(ignore.excludes(path), expected, "{patterns:?} {path}");
        };
        check("*.md", "a.md", true);
        check("*.md", "x/a.md", false);
        check("**/*.md", "x/y/a.md", true);
        check("**/*.md", "a.md", true);
        check("**", "a/b", true);
        check("a/**/z", "a/z", true);
        check("a/**/z", "a/b/c/z", true);
        check("node", "node/deep/file", true);
        check("/node/", "node/x", true);
        check("n?de", "node", true);
        check("[a-c]x", "bx", true);
        check("[^a-c]x", "bx", false);
        check("a\\*b", "a*b", true);
        check("# a\na", "# a", false);
        check("*.md\n!README.md", "README.md", false);
        check("*.md\n!README.md\n*.md", "README.md", true);
        check("node/*\n!node/deep", "node/deep/z", false);
        check("./a/../b", "b", true);
    }

    #[test]
    fn broken_patterns_are_refused() {
        assert!(Ignore::parse("!").is_err());
        assert!(Ignore::parse("a[").is_err());
        assert!(Ignore::parse("a\\").is_err());
    }

    #[test]
    fn the_dockerfile_is_always_sent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".dockerignore"), "*\n").unwrap();
        let ignore = Ignore::of_directory(dir.path(), "Dockerfile").unwrap();
        assert!(!ignore.excludes("Dockerfile") && !ignore.excludes(".dockerignore"));
        assert!(ignore.excludes("other"));
    }
}
