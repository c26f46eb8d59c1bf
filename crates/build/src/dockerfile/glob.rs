//! Patterns: Go's `filepath.Match` for paths, and the shell's `*` and `?` for text.

/// A pattern that is not well formed (an open bracket or a trailing backslash).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// One element of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// Any run of characters but `/`.
    Run,
    /// Any one character but `/`.
    One,
    /// One character of a class.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// This character.
    Literal(char),
}

/// Whether `pattern` matches the whole of `name`, as Go's `filepath.Match` decides it on Unix.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let tokens = tokenize(pattern)?;
    let name: Vec<char> = name.chars().collect();
    Ok(run(&tokens, &name, '/'))
}

/// Whether `text` has a character that [`matches`] treats specially.
pub fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether a shell pattern of `*`, `?` and escapes matches the whole of `text`; nothing separates.
pub(crate) fn matches_text(pattern: &str, text: &str) -> bool {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(ch) = chars.next() {
        tokens.push(match ch {
            '*' => Token::Run,
            '?' => Token::One,
            '\\' => Token::Literal(chars.next().unwrap_or('\\')),
            other => Token::Literal(other),
        });
    }
    let text: Vec<char> = text.chars().collect();
    run(&tokens, &text, '\0')
}

fn tokenize(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(ch) = chars.next() {
        tokens.push(match ch {
            '*' => Token::Run,
            '?' => Token::One,
            '[' => class(&mut chars)?,
            '\\' => Token::Literal(chars.next().ok_or(BadPattern)?),
            other => Token::Literal(other),
        });
    }
    Ok(tokens)
}

/// After `[`: `^` negates, `a-z` ranges, `\` escapes; at least one member before `]`.
fn class(chars: &mut std::str::Chars<'_>) -> Result<Token, BadPattern> {
    let mut members = chars.clone();
    let negated = members.next() == Some('^');
    if negated {
        *chars = members;
    }
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next().ok_or(BadPattern)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            ']' | '-' => return Err(BadPattern),
            '\\' => chars.next().ok_or(BadPattern)?,
            other => other,
        };
        let mut ahead = chars.clone();
        if ahead.next() != Some('-') {
            ranges.push((low, low));
            continue;
        }
        *chars = ahead;
        let high = match chars.next().ok_or(BadPattern)? {
            ']' | '-' => return Err(BadPattern),
            '\\' => chars.next().ok_or(BadPattern)?,
            other => other,
        };
        ranges.push((low, high));
    }
}

/// Greedy matching with one point to go back to: linear in practice, quadratic at worst.
fn run(tokens: &[Token], text: &[char], separator: char) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let fits = match tokens.get(token) {
            None if at == text.len() => return true,
            Some(Token::Run) => {
                retry = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(other) => text.get(at).is_some_and(|c| one_fits(other, *c, separator)),
            None => false,
        };
        if fits {
            token += 1;
            at += 1;
            continue;
        }
        match retry {
            Some((after, from)) if from < text.len() && text[from] != separator => {
                retry = Some((after, from + 1));
                (token, at) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether a token that stands for one character takes `c`.
fn one_fits(token: &Token, c: char, separator: char) -> bool {
    match token {
        Token::Run => false,
        Token::One => c != separator,
        Token::Literal(literal) => *literal == c,
        Token::Class { negated, ranges } => ranges.iter().any(|(low, high)| *low <= c && c <= *high) != *negated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        let table = [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a???b", "abcdb", Ok(true)),
            ("a?c", "a/c", Ok(false)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[^c]", "abc", Ok(false)),
            ("a[^b]c", "axc", Ok(true)),
            (r"a\*b", "a*b", Ok(true)),
            (r"a\*b", "axb", Ok(false)),
            ("[a-", "a", Err(BadPattern)),
            ("[]a]", "]", Err(BadPattern)),
            ("a[", "a", Err(BadPattern)),
            (r"a\", "a", Err(BadPattern)),
            ("", "", Ok(true)),
            ("", "x", Ok(false)),
            ("*.txt", "é.txt", Ok(true)),
        ];
        for (pattern, name, want) in table {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
