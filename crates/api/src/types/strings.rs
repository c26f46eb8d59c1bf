//! Values that Docker accepts in more than one form.

use serde::{Deserialize, Deserializer, Serialize};

/// A list of strings that clients may also send as one string (`Cmd`, `Entrypoint`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::One(word) => vec![word],
            Form::Many(words) => words,
        }))
    }
}

impl From<Vec<String>> for OneOrMany {
    fn from(words: Vec<String>) -> Self {
        Self(words)
    }
}
