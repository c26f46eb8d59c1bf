//! The user's terminal: raw mode, size, detach keys.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode, until it is dropped.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Sets the terminal of standard input to raw mode; `None` when it is none.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        let Ok(before) = tcgetattr(&stdin) else {
            return Ok(None);
        };
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Height and width of the terminal of standard output, `None` when it is none.
pub(crate) fn size() -> Option<(u32, u32)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then(|| (u32::from(size.ws_row), u32::from(size.ws_col)))
}

/// Keys that end an attachment, as bytes.
#[derive(Clone, Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// What a piece of input holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Bytes for the container.
    Bytes(Vec<u8>),
    /// The keys were pressed.
    Detached,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`; empty is Docker's default.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let keys = text.split(',').map(key_byte).collect::<Option<Vec<u8>>>();
        match keys {
            Some(keys) => Ok(Self { keys, matched: 0 }),
            None => Err(format!("invalid detach keys ({text}) provided")),
        }
    }

    /// Takes the keys out of the input. A beginning of the keys is held back until it is known
    /// what follows.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> Input {
        let mut kept = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return Input::Detached;
                }
                continue;
            }
            kept.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if *byte == self.keys[0] {
                self.matched = 1;
            } else {
                kept.push(*byte);
            }
        }
        Input::Bytes(kept)
    }
}

fn key_byte(name: &str) -> Option<u8> {
    if let [byte] = name.as_bytes() {
        return Some(*byte);
    }
    let control = name.strip_prefix("ctrl-")?;
    match *control.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [letter @ b'A'..=b'Z'] => Some(letter - b'A' + 1),
        [b'@'] => Some(0),
        [sign @ b'['..=b'_'] => Some(sign - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_across_pieces() {
        let mut keys = DetachKeys::parse("").unwrap();
        assert_eq!(keys.filter(b"ab\x10"), Input::Bytes(b"ab".to_vec()));
        assert_eq!(keys.filter(b"c"), Input::Bytes(b"\x10c".to_vec()));
        assert_eq!(keys.filter(b"\x10"), Input::Bytes(Vec::new()));
        assert_eq!(keys.filter(b"\x11"), Input::Detached);
    }

    #[test]
    fn keys_have_names() {
        let check = |text: &str, expected: Option<&[u8]>| {
            assert_eq!(
                DetachKeys::parse(text).ok().map(|k| k.keys).as_deref(),
                expected,
                "{text}"
            );
        };
        check("ctrl-a", Some(&[1]));
        check("a,b,ctrl-[", Some(&[b'a', b'b', 27]));
        check("ctrl-@", Some(&[0]));
        check("ctrl-1", None);
        check("no", None);
    }
}
