//! Splitting an instruction's arguments: shell-like words, `name=value` pairs, JSON lists, flags.

use crate::BuildError;

/// Splits at white space outside quotes. Quotes and escapes stay in the words: the expander
/// removes them. An escape at the very end is dropped.
pub(super) fn split_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(ch) = chars.next() {
        if quote.is_none() && ch.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        if ch == escape && quote != Some('\'') {
            if let Some(next) = chars.next() {
                let word = word.get_or_insert_default();
                word.push(ch);
                word.push(next);
            }
            continue;
        }
        match quote {
            Some(open) if open == ch => quote = None,
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            _ => {}
        }
        word.get_or_insert_default().push(ch);
    }
    words.extend(word);
    words
}

/// A list of `name=value` words, or the older `name value with blanks` (one pair).
pub(super) fn split_pairs(keyword: &str, text: &str, escape: char) -> Result<Vec<(String, String)>, BuildError> {
    let words = split_words(text, escape);
    let Some(first) = words.first() else {
        return Ok(Vec::new());
    };
    if !first.contains('=') {
        return legacy_pair(keyword, text).map(|pair| vec![pair]);
    }
    words.iter().map(|word| split_pair(word)).collect()
}

/// `name value`: everything after the first white space is the value.
fn legacy_pair(keyword: &str, text: &str) -> Result<(String, String), BuildError> {
    let (name, value) = text
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(|| BuildError::invalid(format!("{keyword} must have two arguments")))?;
    Ok((name.into(), value.trim_start().into()))
}

/// `name=value`.
fn split_pair(word: &str) -> Result<(String, String), BuildError> {
    let (name, value) = word.split_once('=').ok_or_else(|| {
        BuildError::invalid(format!(
            "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
        ))
    })?;
    Ok((name.into(), value.into()))
}

/// A JSON list of strings, or `None` where the text is something else (then it is shell form).
/// A list of other things is a mistake, not shell form.
pub(super) fn parse_json_list(text: &str) -> Result<Option<Vec<String>>, BuildError> {
    let text = text.trim();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(BuildError::invalid(
            "when using JSON array syntax, arrays must be comprised of strings only",
        )),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// Takes the leading `--flag[=value]` words off `text`; quotes around values are removed. A lone
/// `--` ends them.
pub(super) fn take_flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (flag, after) = take_flag(rest, escape);
        rest = after.trim_start();
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest)
}

/// The first word of `text` without quotes and escapes, and what follows it.
fn take_flag(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        if quote.is_none() && ch.is_whitespace() {
            return (word, &text[at..]);
        }
        if ch == escape && quote != Some('\'') {
            word.extend(chars.next().map(|(_, next)| next));
            continue;
        }
        match quote {
            Some(open) if open == ch => quote = None,
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            _ => word.push(ch),
        }
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_quotes_and_split_only_outside_them() {
        let check = |text: &str, want: &[&str]| assert_eq!(split_words(text, '\\'), want, "{text}");
        check("", &[]);
        check("  a  b ", &["a", "b"]);
        check(r#"a="x y" b='p q'"#, &[r#"a="x y""#, "b='p q'"]);
        check(r"a=x\ y b", &[r"a=x\ y", "b"]);
        check(r#""" c"#, &[r#""""#, "c"]);
        check(r#""a\" b" c"#, &[r#""a\" b""#, "c"]);
        check(r"'a\' b", &[r"'a\'", "b"]);
        check(r"end\", &["end"]);
        check("ünï cödé", &["ünï", "cödé"]);
    }

    #[test]
    fn pairs_take_both_forms() {
        let check = |text: &str, want: &[(&str, &str)]| {
            let got = split_pairs("ENV", text, '\\').unwrap();
            let want: Vec<_> = want.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            assert_eq!(got, want, "{text}");
        };
        check("a b  c=d", &[("a", "b  c=d")]);
        check("a=b c=d", &[("a", "b"), ("c", "d")]);
        check("a=", &[("a", "")]);
        check(r#"a="b c=d""#, &[("a", r#""b c=d""#)]);
        assert_eq!(
            split_pairs("ENV", "a", '\\').unwrap_err().to_string(),
            "ENV must have two arguments"
        );
        assert_eq!(
            split_pairs("ENV", "a=b c", '\\').unwrap_err().to_string(),
            "Syntax error - can't find = in \"c\". Must be of the form: name=value"
        );
    }

    #[test]
    fn json_lists_fall_back_to_shell_form_unless_they_hold_other_things() {
        let list = |text| parse_json_list(text).unwrap();
        assert_eq!(list(r#" ["a", "b c"] "#).unwrap(), ["a", "b c"]);
        assert_eq!(list("[]").unwrap(), [""; 0]);
        for text in ["['a']", "echo [x]", r#"["a" "b"]"#, r#"["a"] b"#, r#"["a",]"#, "{}"] {
            assert!(list(text).is_none(), "{text}");
        }
        for text in [r#"["a", 1]"#, "[null]", r#"["a", ["b"]]"#, r#"[true]"#] {
            assert!(parse_json_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        let check = |text: &str, want: &[&str], rest: &str| {
            let (flags, got) = take_flags(text, '\\');
            assert_eq!(
                (flags.as_slice(), got),
                (&want.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..], rest),
                "{text}"
            );
        };
        check("--from=a --chown=1:2 x y", &["--from=a", "--chown=1:2"], "x y");
        check("x --from=a", &[], "x --from=a");
        check("-- --x", &[], "--x");
        check(r#"--chown="a b" x"#, &["--chown=a b"], "x");
        check("--link", &["--link"], "");
    }
}
