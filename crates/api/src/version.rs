//! Versions of the API and how they compare.

use std::fmt;
use std::str::FromStr;

/// A version of the API, compared by number: 1.9 is older than 1.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u16,
    /// After the dot.
    pub minor: u16,
}

impl ApiVersion {
    /// The newest version spoken here.
    pub const MAX: Self = Self::new(1, 51);
    /// The oldest version spoken here.
    pub const MIN: Self = Self::new(1, 24);

    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// True when this version is at least `1.minor`.
    #[must_use]
    pub const fn at_least(self, minor: u16) -> bool {
        self.major > 1 || (self.major == 1 && self.minor >= minor)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that is no version of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version {text:?}: expected MAJOR.MINOR")]
pub struct VersionError {
    text: String,
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    /// Reads `1.51`. A leading `v` is no part of it.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let invalid = || VersionError { text: text.to_owned() };
        let (major, minor) = text.split_once('.').ok_or_else(invalid)?;
        let number = |digits: &str| -> Option<u16> {
            (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
                .then(|| digits.parse().ok())
                .flatten()
        };
        Ok(Self {
            major: number(major).ok_or_else(invalid)?,
            minor: number(minor).ok_or_else(invalid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let parse = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(parse("1.9") < parse("1.10"));
        assert!(parse("1.51") == ApiVersion::MAX);
        assert!(parse("2.0").at_least(44));
        assert!(!parse("1.43").at_least(44));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1", "v1.41", "1.41.2", "1.-1", "1.+4", "1.x", ".", "1.99999999"] {
            assert!(text.parse::<ApiVersion>().is_err(), "{text}");
        }
    }
}
