//! Query strings of API requests.

use std::fmt::Write as _;

/// A query string under construction; prints with its leading `?`, or nothing when empty.
#[derive(Debug, Default, Clone)]
pub struct Query(String);

impl Query {
    /// An empty query.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `key=value`, percent-encoding the value.
    #[must_use]
    pub fn add(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        encode_into(&mut self.0, value.as_ref());
        self
    }

    /// Adds `key=1` when `on`.
    #[must_use]
    pub fn flag(self, key: &str, on: bool) -> Self {
        if on { self.add(key, "1") } else { self }
    }

    /// Adds `key=value` unless the value is empty.
    #[must_use]
    pub fn non_empty(self, key: &str, value: impl AsRef<str>) -> Self {
        if value.as_ref().is_empty() {
            self
        } else {
            self.add(key, value)
        }
    }

    /// Percent-encodes one path segment, such as a container or image name; `/` is kept, as
    /// image names contain it and the engine routes on it.
    pub fn path_segment(text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        encode_keeping(&mut out, text, b"/:@+,");
        out
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn encode_into(out: &mut String, text: &str) {
    encode_keeping(out, text, b"");
}

fn encode_keeping(out: &mut String, text: &str, keep: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_and_joined() {
        let query = Query::new()
            .add("filters", "{\"a\":1}")
            .flag("all", true)
            .flag("size", false);
        assert_eq!(query.to_string(), "?filters=%7B%22a%22%3A1%7D&all=1");
        assert_eq!(Query::new().non_empty("x", "").to_string(), "");
        assert_eq!(
            Query::path_segment("reg:5000/a b?#"),
            "reg:5000/a%20b%3F%23"
        );
    }
}
