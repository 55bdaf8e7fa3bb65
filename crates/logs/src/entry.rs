//! One entry of a log, as a reader sees it: borrowed from the file's buffer, decoded on demand.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{json_line, local_record, timestamp};

/// Which output an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name in log files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// The number in Docker's stream frames.
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// One entry.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Where it came from.
    pub stream: Stream,
    pub(crate) time: Time<'a>,
    pub(crate) text: Text<'a>,
    pub(crate) attrs: Attrs<'a>,
}

/// An entry's time, in the form its file has it.
#[derive(Debug)]
pub(crate) enum Time<'a> {
    Rfc3339(Cow<'a, [u8]>),
    Nanos(i64),
}

/// An entry's text, in the form its file has it.
#[derive(Debug)]
pub(crate) enum Text<'a> {
    /// The inside of a JSON string.
    Escaped(&'a [u8]),
    /// Plain bytes; `newline` is not among them but belongs to the text.
    Plain { bytes: Cow<'a, [u8]>, newline: bool },
}

/// An entry's attributes, in the form its file has them.
#[derive(Debug)]
pub(crate) enum Attrs<'a> {
    None,
    /// A JSON object.
    Json(Cow<'a, [u8]>),
    /// The repeated `attrs` fields of a protobuf record, somewhere in these bytes.
    Record(&'a [u8]),
}

impl Entry<'_> {
    /// When it was written, in nanoseconds since the epoch; 0 if the file does not say.
    pub fn time_ns(&self) -> i64 {
        match &self.time {
            Time::Rfc3339(text) => timestamp::parse(text).unwrap_or(0),
            Time::Nanos(nanos) => *nanos,
        }
    }

    /// Appends the text, with its newline if it is a whole line.
    pub fn append_text(&self, out: &mut Vec<u8>) {
        match &self.text {
            Text::Escaped(inside) => json_line::unescape(inside, out),
            Text::Plain { bytes, newline } => {
                out.extend_from_slice(bytes);
                if *newline {
                    out.push(b'\n');
                }
            }
        }
    }

    /// The text.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_text(&mut out);
        out
    }

    /// The attributes, sorted by key.
    pub fn attrs(&self) -> Vec<(String, String)> {
        let mut attrs = match &self.attrs {
            Attrs::None => Vec::new(),
            Attrs::Json(object) => {
                serde_json::from_slice::<std::collections::BTreeMap<String, String>>(object)
                    .map(|map| map.into_iter().collect())
                    .unwrap_or_default()
            }
            Attrs::Record(record) => local_record::attrs(record),
        };
        attrs.sort();
        attrs
    }
}
