//! Query parameters and how Docker reads them: lax booleans, strict numbers.

use super::Failure;

/// The decoded query of one request, in order, with repetitions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=1&b=2`. A percent sign without two hexadecimal digits is refused.
    pub(crate) fn parse(raw: &str) -> Result<Self, Failure> {
        if !percent_escapes_are_whole(raw) {
            return Err(Failure::invalid(format!("invalid URL escape in query {raw:?}")));
        }
        Ok(Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect()))
    }

    /// The first value of `key`; an absent parameter and an empty one are the same to Docker.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.first(key).unwrap_or_default()
    }

    /// The first value of `key`, telling absent from empty.
    pub(crate) fn first(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a repeated parameter.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// The value of `key` when present and not empty.
    pub(crate) fn nonempty(&self, key: &str) -> Option<String> {
        self.first(key).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// COMPAT: everything that is not a known word for "no" means yes.
    pub(crate) fn flag(&self, key: &str) -> bool {
        parse_bool(self.text(key))
    }

    /// Like [`Query::flag`], with a value for an absent parameter.
    pub(crate) fn flag_or(&self, key: &str, absent: bool) -> bool {
        self.first(key).map_or(absent, parse_bool)
    }

    /// A decimal number; absent and empty are `None`, anything else is the client's mistake.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Failure> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(None);
        }
        let signed = text.strip_prefix('-').unwrap_or(text);
        let parsed = if signed.bytes().all(|b| b.is_ascii_digit()) {
            text.parse().ok()
        } else {
            None
        };
        parsed.map(Some).ok_or_else(|| {
            Failure::invalid(format!(
                "invalid value for parameter {key}: {text:?} is not a valid number"
            ))
        })
    }
}

/// Docker's reading of a boolean parameter.
pub(crate) fn parse_bool(text: &str) -> bool {
    !matches!(
        text.trim().to_ascii_lowercase().as_str(),
        "" | "0" | "no" | "false" | "none"
    )
}

/// True when every `%` is followed by two hexadecimal digits.
pub(crate) fn percent_escapes_are_whole(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|(_, b)| **b == b'%').all(|(at, _)| {
        bytes
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_word_for_no_is_true() {
        for no in ["", "0", "no", "No", "false", "FALSE", "none", " none "] {
            assert!(!parse_bool(no), "{no:?}");
        }
        for yes in ["1", "true", "True", "yes", "t", "2", "nope"] {
            assert!(parse_bool(yes), "{yes:?}");
        }
    }

    #[test]
    fn numbers_are_strict() {
        let query = Query::parse("a=5&b=-1&c=x&d=%2B1&e=&f=1.5").expect("well formed");
        assert_eq!(query.number::<i64>("a").ok().flatten(), Some(5));
        assert_eq!(query.number::<i64>("b").ok().flatten(), Some(-1));
        for bad in ["c", "d", "f"] {
            assert!(query.number::<i64>(bad).is_err(), "{bad}");
        }
        assert!(query.number::<u32>("b").is_err());
        assert_eq!(query.number::<i64>("e").expect("empty"), None);
        assert_eq!(query.number::<i64>("none").expect("absent"), None);
    }

    #[test]
    fn a_cut_percent_escape_is_refused() {
        for bad in ["all=%zz", "a=%", "a=%1"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Query::parse("a=%20x").expect("good").text("a"), " x");
    }

    #[test]
    fn repeated_parameters_keep_their_order() {
        let query = Query::parse("names=b&names=a&x=1").expect("good");
        assert_eq!(query.all("names"), ["b", "a"]);
        assert_eq!(query.text("names"), "b");
    }
}
