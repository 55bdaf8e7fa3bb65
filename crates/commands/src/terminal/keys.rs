//! The key sequence that detaches from a container, `ctrl-p,ctrl-q` unless configured.

/// What Docker uses when nothing is configured.
const DEFAULT: [u8; 2] = [16, 17];

/// Parses `--detach-keys`: comma separated letters or `ctrl-` with a letter or one of `@[\]^_`.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let mut out = Vec::new();
    for key in text.split(',') {
        let byte = match key.as_bytes() {
            [one] => *one,
            _ => {
                let unknown = || format!("Unknown character: '{key}'");
                match key.strip_prefix("ctrl-").map(str::as_bytes) {
                    Some([letter]) if letter.is_ascii_lowercase() => letter - b'a' + 1,
                    Some(b"@") => 0,
                    Some(b"[") => 27,
                    Some(b"\\") => 28,
                    Some(b"]") => 29,
                    Some(b"^") => 30,
                    Some(b"_") => 31,
                    _ => return Err(unknown()),
                }
            }
        };
        out.push(byte);
    }
    Ok(out)
}

/// Watches the input for the sequence. Keys that may begin it are held back until it is clear
/// that they do not.
#[derive(Debug)]
pub(crate) struct Watcher {
    keys: Vec<u8>,
    seen: usize,
}

impl Watcher {
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, seen: 0 }
    }

    /// Filters one piece of input into `out`; `true` when the sequence is complete.
    pub(crate) fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in input {
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.seen]);
            self.seen = 0;
            if self.keys.first() == Some(&byte) {
                self.seen = 1;
                if self.keys.len() == 1 {
                    return true;
                }
            } else {
                out.push(byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_read() {
        assert_eq!(parse("").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-a,x,ctrl-[").unwrap(), [1, b'x', 27]);
        assert!(parse("foo").is_err() && parse("ctrl-").is_err());
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        let mut watcher = Watcher::new(vec![16, 17]);
        let mut out = Vec::new();
        assert!(!watcher.filter(b"a\x10b\x10\x10", &mut out));
        assert_eq!(out, b"a\x10b\x10");
        assert!(watcher.filter(b"\x11zzz", &mut out));
        assert_eq!(out, b"a\x10b\x10");
    }
}
