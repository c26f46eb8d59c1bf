//! Identifiers, each its own type.
use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes over text that is already known to be well formed.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// A container's id: 64 lower-case hexadecimal digits.
    ContainerId
);
text_id!(
    /// A network's id: 64 lower-case hexadecimal digits.
    NetworkId
);
text_id!(
    /// An exec session's id: 64 lower-case hexadecimal digits.
    ExecId
);
text_id!(
    /// A volume's name; anonymous volumes are called by 64 hexadecimal digits.
    VolumeName
);

/// 64 random hexadecimal digits that do not read as a number in their first twelve
/// (clients take such a short id for a host name or a decimal otherwise).
pub fn random_hex_id() -> String {
    loop {
        let mut bytes = [0u8; 32];
        fill_random(&mut bytes);
        let text = hex::encode(bytes);
        if text[..12].bytes().any(|b| !b.is_ascii_digit()) {
            return text;
        }
    }
}

/// Fills `bytes` from the kernel's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("invariant: getrandom works on every supported kernel: {errno}"),
        }
    }
}

impl ContainerId {
    /// A new random id.
    pub fn random() -> Self {
        Self::new(random_hex_id())
    }

    /// The first twelve digits, as people see it.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl NetworkId {
    /// A new random id.
    pub fn random() -> Self {
        Self::new(random_hex_id())
    }
}

impl ExecId {
    /// A new random id.
    pub fn random() -> Self {
        Self::new(random_hex_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_64_hex_digits_and_differ() {
        let (a, b) = (ContainerId::random(), ContainerId::random());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), 64);
        assert!(a.as_str().bytes().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(a.short().len(), 12);
    }
}
