//! Container names: what is allowed, and made-up ones.
use crate::error::{Error, Result};
use crate::model::ids::fill_random;

/// Checks a name without its leading slash.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first_ok = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest_ok = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first_ok && rest_ok && name.len() >= 2 {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

const MOODS: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "candid", "clever", "crisp", "daring", "deft", "eager", "early", "fair", "fleet",
    "gentle", "glad", "hardy", "keen", "kind", "lively", "lucid", "mellow", "merry", "neat", "nimble", "placid",
    "quick", "quiet", "ready", "sturdy", "tidy", "vivid", "warm",
];

const HARBOURS: [&str; 48] = [
    "aarhus", "aden", "antwerp", "bari", "bergen", "bilbao", "boston", "bremen", "brest", "busan", "cadiz", "cardiff",
    "cork", "dakar", "dover", "durban", "esbjerg", "gdansk", "genoa", "ghent", "haifa", "halifax", "hamburg", "havana",
    "hull", "izmir", "jeddah", "kiel", "kobe", "lagos", "leith", "lisbon", "lome", "malmo", "mobile", "naples",
    "odessa", "oslo", "oporto", "piraeus", "riga", "rostock", "split", "tallinn", "trieste", "turku", "vigo", "yantai",
];

/// A made-up name such as `calm_bergen`; from the fourth attempt on with a number behind it.
pub(crate) fn made_up_name(attempt: u32) -> String {
    let mut random = [0u8; 4];
    fill_random(&mut random);
    let mood = MOODS[usize::from(random[0]) % MOODS.len()];
    let harbour = HARBOURS[usize::from(random[1]) % HARBOURS.len()];
    if attempt < 3 {
        return format!("{mood}_{harbour}");
    }
    let number = u16::from_le_bytes([random[2], random[3]]);
    format!("{mood}_{harbour}{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "a1", "9z", "with.dots_and-dashes.x"] {
            check_name(good).expect(good);
        }
        for bad in ["", "a", "-", ".ab", "_ab", "a b", "a/b", "a!", "é1", "a:b"] {
            let err = check_name(bad).expect_err(bad);
            assert!(err.message().starts_with("Invalid container name"), "{err}");
        }
        for attempt in 0..200 {
            check_name(&made_up_name(attempt)).expect("valid");
        }
    }
}
