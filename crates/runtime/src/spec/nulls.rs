//! Members that are null, which are as good as absent.
//!
//! COMPAT: so they are to the Go of other runtimes, and tools write them.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a configuration or a part of one. Only a text that does not fit as
/// it stands is looked through for nulls.
///
/// # Errors
/// What does not fit in the text as it stands, with line and column.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(text).or_else(|error| {
        let Ok(mut value) = serde_json::from_slice(text) else {
            return Err(error);
        };
        if !remove(&mut value) {
            return Err(error);
        }
        serde_json::from_value(value).map_err(|_| error)
    })
}

/// Removes members that are null; tells whether there was one.
fn remove(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let before = members.len();
            members.retain(|_, member| !member.is_null());
            let found = members.len() != before;
            members.values_mut().fold(found, |found, member| remove(member) | found)
        }
        Value::Array(items) => items.iter_mut().fold(false, |found, item| remove(item) | found),
        _ => false,
    }
}
