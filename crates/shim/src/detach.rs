//! Finding the key sequence that detaches a terminal.

/// Watches what a client types for a sequence of keys.
///
/// Bytes that may be the beginning of the sequence are held back until it is clear that they are
/// not, so that the process never sees a part of it.
#[derive(Debug)]
pub struct DetachMatcher {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachMatcher {
    /// A matcher for a sequence; `None` for the empty one, which never matches.
    pub fn new(keys: &[u8]) -> Option<Self> {
        (!keys.is_empty()).then(|| Self {
            keys: keys.to_vec(),
            matched: 0,
        })
    }

    /// Takes typed bytes; appends what is for the process to `passed`. True once the sequence is
    /// complete; the rest of the input is dropped then.
    pub fn feed(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        for byte in typed {
            self.take(*byte, passed);
            if self.matched == self.keys.len() {
                return true;
            }
        }
        false
    }

    /// What is still held back, for the process, when no more input comes.
    pub fn finish(&mut self, passed: &mut Vec<u8>) {
        passed.extend_from_slice(&self.keys[..self.matched]);
        self.matched = 0;
    }

    /// On a mismatch the longest tail of what was held back that is again a beginning stays held.
    fn take(&mut self, byte: u8, passed: &mut Vec<u8>) {
        while self.matched > 0 && self.keys[self.matched] != byte {
            let kept = (0..self.matched)
                .rev()
                .find(|kept| self.keys[..self.matched].ends_with(&self.keys[..*kept]));
            let kept = kept.unwrap_or(0);
            passed.extend_from_slice(&self.keys[..self.matched - kept]);
            self.matched = kept;
        }
        if self.keys[self.matched] == byte {
            self.matched += 1;
        } else {
            passed.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[u8], typed: &[&[u8]], expected: &[u8], detaches: bool) {
        let mut matcher = DetachMatcher::new(keys).expect("keys");
        let mut passed = Vec::new();
        let detached = typed.iter().any(|chunk| matcher.feed(chunk, &mut passed));
        if !detached {
            matcher.finish(&mut passed);
        }
        assert_eq!(
            (passed.as_slice(), detached),
            (expected, detaches),
            "{keys:?} in {typed:?}"
        );
    }

    #[test]
    fn the_sequence_detaches_wherever_the_reads_split_it() {
        check(&[16, 17], &[b"ab\x10\x11cd"], b"ab", true);
        check(&[16, 17], &[b"ab\x10", b"\x11cd"], b"ab", true);
        check(&[16, 17], &[b"\x10\x10\x11"], b"\x10", true);
        check(b"aab", &[b"aa", b"aab"], b"aa", true);
        check(b"x", &[b"yyx"], b"yy", true);
    }

    #[test]
    fn other_input_reaches_the_process_unchanged_and_in_order() {
        check(&[16, 17], &[b"\x10x\x11"], b"\x10x\x11", false);
        check(&[16, 17], &[b"end\x10"], b"end\x10", false);
        check(b"abac", &[b"abab", b"ab"], b"ababab", false);
        check(b"aaa", &[b"aabaab"], b"aabaab", false);
    }

    #[test]
    fn no_keys_means_no_matcher() {
        assert!(DetachMatcher::new(b"").is_none());
    }
}
