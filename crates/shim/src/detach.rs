//! Finds the detach keys in what a client types.

/// What came of some typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// They are for the process.
    Pass,
    /// The keys were completed; what came before them is for the process.
    Detach,
}

/// The detach keys and how many of them were typed already.
#[derive(Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Looks for this sequence; an empty one is never found.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Passes `typed` on to `out`, without the keys. Those that may turn out to be the beginning
    /// of the sequence are held back until they do or do not.
    pub(crate) fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> Typed {
        for &byte in typed {
            while self.matched > 0 && byte != self.keys[self.matched] {
                // The longest end of what was typed that still begins the sequence.
                let rest = (1..self.matched).find(|from| {
                    self.keys[*from..self.matched] == self.keys[..self.matched - from]
                });
                let given_up = rest.unwrap_or(self.matched);
                out.extend_from_slice(&self.keys[..given_up]);
                self.matched -= given_up;
            }
            if !self.keys.is_empty() && byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Typed::Detach;
                }
            } else {
                out.push(byte);
            }
        }
        Typed::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut filter = DetachKeys::new(keys.to_vec());
        let mut out = Vec::new();
        let detached = pieces
            .iter()
            .any(|piece| filter.filter(piece, &mut out) == Typed::Detach);
        (out, detached)
    }

    #[test]
    fn keys_are_found_across_reads_and_not_passed_on() {
        assert_eq!(
            typed(&[16, 17], &[b"ls\n\x10", b"\x11"]),
            (b"ls\n".to_vec(), true)
        );
        assert_eq!(
            typed(&[16, 17], &[b"a\x10b\x10\x10\x11"]),
            (b"a\x10b\x10".to_vec(), true)
        );
        assert_eq!(typed(b"aab", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(typed(b"aab", &[b"aaac"]), (b"aaac".to_vec(), false));
        assert_eq!(typed(&[], &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}
