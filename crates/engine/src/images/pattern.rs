//! Patterns of the `reference` filter: shell globs over familiar names, as Go's `path.Match`.
use wharf_store::Reference;

/// Whether `pattern` fits a name with its tag (or digest), or its repository alone.
pub(super) fn reference_matches(pattern: &str, name: &Reference) -> bool {
    glob(pattern, &name.familiar()) || glob(pattern, &name.familiar_name())
}

/// `*` and `?` stop at slashes; `[a-z]` and `[^a-z]` are classes; `\` takes the next character
/// as it is. A broken pattern fits nothing.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    matches(&pattern, &text)
}

fn matches(pattern: &[char], text: &[char]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    match first {
        '*' => matches_star(rest, text),
        '[' => matches_class(rest, text),
        '\\' => match (rest.split_first(), text.split_first()) {
            (Some((want, rest)), Some((have, text))) => want == have && matches(rest, text),
            _ => false,
        },
        want => match text.split_first() {
            Some((&have, text)) => (want == have || (want == '?' && have != '/')) && matches(rest, text),
            None => false,
        },
    }
}

fn matches_star(rest: &[char], text: &[char]) -> bool {
    // Neighbouring stars are one: otherwise hostile patterns take exponential time.
    if rest.first() == Some(&'*') {
        return matches_star(&rest[1..], text);
    }
    let reach = text.iter().position(|c| *c == '/').unwrap_or(text.len());
    (0..=reach).any(|taken| matches(rest, &text[taken..]))
}

fn matches_class(rest: &[char], text: &[char]) -> bool {
    let Some((&have, text)) = text.split_first() else {
        return false;
    };
    let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|at| at + 1) else {
        return false;
    };
    let (negated, class) = match rest[0] {
        '^' => (true, &rest[1..end]),
        _ => (false, &rest[..end]),
    };
    let mut inside = false;
    let mut at = 0;
    while at < class.len() {
        if class.get(at + 1) == Some(&'-') && at + 2 < class.len() {
            inside |= (class[at]..=class[at + 2]).contains(&have);
            at += 3;
        } else {
            inside |= class[at] == have;
            at += 1;
        }
    }
    have != '/' && inside != negated && matches(&rest[end + 1..], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let name = Reference::parse(name).expect("name");
        assert_eq!(reference_matches(pattern, &name), expected, "{pattern} on {name}");
    }

    #[test]
    fn patterns_fit_names_with_and_without_tags() {
        check("busybox", "busybox:1", true);
        check("busybox:1", "busybox:1", true);
        check("busybox:2", "busybox:1", false);
        check("busy*", "busybox:1", true);
        check("b*:1", "busybox:1", true);
        check("*", "a/b:1", false);
        check("*/*", "a/b:1", true);
        check("b?sybox", "busybox:1", true);
        check("b[a-z]sybox", "busybox:1", true);
        check("b[^u]sybox", "busybox:1", false);
        check("b[", "busybox:1", false);
        check("b\\usybox", "busybox:1", true);
        check("localhost:5000/x*", "localhost:5000/xy:1", true);
    }

    #[test]
    fn hostile_patterns_end_soon() {
        check(&"*".repeat(300), &"a".repeat(200), true);
    }
}
