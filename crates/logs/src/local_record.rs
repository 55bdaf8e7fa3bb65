//! The `local` format: protobuf records between two length fields.
//!
//! ```text
//! record = length (u32, big endian) LogEntry length (again, so files can be read backwards)
//! LogEntry { source = 1, time_nano = 2, line = 3, partial = 4, partial_log_metadata = 5, attrs = 6 }
//! PartialLogEntryMetadata { last = 1, id = 2, ordinal = 3 }     LogAttr { key = 1, value = 2 }
//! ```
//!
//! The line has no newline; one belongs to it unless it is a partial that is not the last.

use std::borrow::Cow;

use crate::entry::{Attrs, Entry, Stream, Text, Time};

/// The largest record accepted, in bytes: a 16 KiB line with generous attributes.
pub(crate) const RECORD_MAX: usize = 4 << 20;

/// How a piece of a long line relates to the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partial<'a> {
    /// The same for all pieces of one line.
    pub(crate) id: &'a str,
    /// Counts the pieces from 1.
    pub(crate) ordinal: u32,
    /// Whether the line ends with this piece.
    pub(crate) last: bool,
}

/// Appends one record. `attrs` are encoded attribute fields (see [`encode_attrs`]).
pub(crate) fn append(
    out: &mut Vec<u8>,
    text: &[u8],
    stream: Stream,
    partial: Option<Partial<'_>>,
    attrs: &[u8],
    time_ns: i64,
) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    bytes_field(out, 1, stream.name().as_bytes());
    out.push(2 << 3);
    varint(out, time_ns.cast_unsigned());
    bytes_field(out, 3, text);
    if let Some(partial) = partial {
        out.extend_from_slice(&[4 << 3, 1]);
        let mut metadata = Vec::with_capacity(80);
        if partial.last {
            metadata.extend_from_slice(&[1 << 3, 1]);
        }
        bytes_field(&mut metadata, 2, partial.id.as_bytes());
        metadata.push(3 << 3);
        varint(&mut metadata, u64::from(partial.ordinal));
        bytes_field(out, 5, &metadata);
    }
    out.extend_from_slice(attrs);
    // Lines are at most 16 KiB, attributes are bounded by the request that made them.
    let length = u32::try_from(out.len() - start - 4)
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

/// The attribute fields every record of a container carries.
pub(crate) fn encode_attrs<'a>(attrs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in attrs {
        let mut attr = Vec::new();
        bytes_field(&mut attr, 1, key.as_bytes());
        bytes_field(&mut attr, 2, value.as_bytes());
        bytes_field(&mut out, 6, &attr);
    }
    out
}

/// What the beginning of a buffer holds.
#[derive(Debug)]
pub(crate) enum Framed<'a> {
    /// A whole record and its total length.
    Record(&'a [u8], usize),
    /// More bytes are needed.
    Incomplete,
    /// No record can begin like this.
    Broken,
}

/// Finds the record at the beginning of `bytes`.
pub(crate) fn frame(bytes: &[u8]) -> Framed<'_> {
    let Some(prefix) = bytes.first_chunk::<4>() else {
        return Framed::Incomplete;
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length == 0 || length > RECORD_MAX {
        return Framed::Broken;
    }
    let Some(whole) = bytes.get(..length + 8) else {
        return Framed::Incomplete;
    };
    if whole[4 + length..] != *prefix {
        return Framed::Broken;
    }
    Framed::Record(&whole[4..4 + length], length + 8)
}

/// Reads a record. `None` if it is not one.
pub(crate) fn parse(record: &[u8]) -> Option<Entry<'_>> {
    let (mut stream, mut time_ns, mut text) = (None, 0, &[][..]);
    let (mut partial, mut last, mut has_attrs) = (false, false, false);
    let mut fields = Fields(record);
    while !fields.0.is_empty() {
        match fields.next()? {
            (1, Field::Bytes(b"stdout")) => stream = Some(Stream::Stdout),
            (1, Field::Bytes(b"stderr")) => stream = Some(Stream::Stderr),
            (2, Field::Varint(value)) => time_ns = value.cast_signed(),
            (3, Field::Bytes(bytes)) => text = bytes,
            (4, Field::Varint(value)) => partial = value != 0,
            (5, Field::Bytes(metadata)) => {
                let mut metadata = Fields(metadata);
                while !metadata.0.is_empty() {
                    if let (1, Field::Varint(value)) = metadata.next()? {
                        last = value != 0;
                    }
                }
            }
            (6, Field::Bytes(_)) => has_attrs = true,
            _ => {}
        }
    }
    Some(Entry {
        stream: stream?,
        time: Time::Nanos(time_ns),
        text: Text::Plain {
            bytes: Cow::Borrowed(text),
            newline: !partial || last,
        },
        attrs: if has_attrs {
            Attrs::Record(record)
        } else {
            Attrs::None
        },
    })
}

/// The attributes of a record.
pub(crate) fn attrs(record: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut fields = Fields(record);
    while let Some(field) = fields.next() {
        let (6, Field::Bytes(attr)) = field else {
            continue;
        };
        let (mut key, mut value) = (String::new(), String::new());
        let mut attr = Fields(attr);
        while let Some(part) = attr.next() {
            match part {
                (1, Field::Bytes(bytes)) => key = String::from_utf8_lossy(bytes).into_owned(),
                (2, Field::Bytes(bytes)) => value = String::from_utf8_lossy(bytes).into_owned(),
                _ => {}
            }
        }
        found.push((key, value));
    }
    found
}

/// The fields of a protobuf message that are still to be read.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((key >> 3, field))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The low seven bits, marked as not the last.
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_dockers() {
        let mut out = Vec::new();
        append(&mut out, b"hi", Stream::Stdout, None, &[], 1);
        assert_eq!(out, b"\0\0\0\x0e\x0a\x06stdout\x10\x01\x1a\x02hi\0\0\0\x0e");
    }

    proptest! {
        #[test]
        fn records_read_back(text in proptest::collection::vec(any::<u8>(), 0..300), time in any::<i64>(), last in any::<bool>()) {
            let attrs = encode_attrs([("k", "v"), ("a", "b")].into_iter());
            let mut out = Vec::new();
            append(&mut out, &text, Stream::Stderr, Some(Partial { id: "x", ordinal: 300, last }), &attrs, time);
            let Framed::Record(record, length) = frame(&out) else { panic!("a record was written") };
            prop_assert_eq!(length, out.len());
            let entry = parse(record).unwrap();
            let mut expected = text.clone();
            if last {
                expected.push(b'\n');
            }
            prop_assert_eq!(entry.text(), expected);
            prop_assert_eq!(entry.time_ns(), time);
            prop_assert_eq!(entry.attrs(), [("a".to_owned(), "b".to_owned()), ("k".to_owned(), "v".to_owned())]);
        }

        #[test]
        fn hostile_records_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let _ = attrs(&bytes);
            let _ = frame(&bytes);
        }
    }
}
