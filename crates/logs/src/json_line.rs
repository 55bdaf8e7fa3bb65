//! The `json-file` format: one JSON object per line.
//!
//! ```text
//! {"log":"text\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-22T10:00:00.12Z"}\n
//! ```
//!
//! `attrs` is there only if there are any; `log` has no newline when the line goes on in the next
//! entry. Strings are escaped as Go's encoder does, HTML's special characters included, so that
//! files are byte for byte what Docker would have written.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::entry::{Attrs, Entry, Stream, Text, Time};

/// Appends one entry. `attrs` is a JSON object or empty, `stamp` an RFC 3339 time.
pub(crate) fn append(
    out: &mut Vec<u8>,
    text: &[u8],
    newline: bool,
    stream: Stream,
    attrs: &[u8],
    stamp: &[u8],
) {
    out.reserve(text.len() + attrs.len() + 96);
    out.extend_from_slice(b"{\"log\":\"");
    escape(text, out);
    if newline {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(match stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\"",
        Stream::Stderr => b"\",\"stream\":\"stderr\"",
    });
    if !attrs.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attrs);
    }
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(stamp);
    out.extend_from_slice(b"\"}\n");
}

/// Bytes that can not stand for themselves. 0xE2 begins U+2028 and U+2029, which Go escapes.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0xE2] = true;
    table
};

/// Appends `text` as the inside of a JSON string.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        escape_valid(chunk.valid().as_bytes(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(mut text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while let Some(at) = text.iter().position(|byte| SPECIAL[usize::from(*byte)]) {
        out.extend_from_slice(&text[..at]);
        let byte = text[at];
        let mut taken = 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0xE2 => {
                taken = 3;
                match &text[at..at + 3] {
                    [_, 0x80, 0xA8] => out.extend_from_slice(b"\\u2028"),
                    [_, 0x80, 0xA9] => out.extend_from_slice(b"\\u2029"),
                    other => out.extend_from_slice(other),
                }
            }
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        text = &text[at + taken..];
    }
    out.extend_from_slice(text);
}

/// Reads one line (without its final newline). `None` for anything that is not an entry.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    parse_as_written(line).or_else(|| parse_any(line))
}

/// The exact form [`append`] writes; everything else is left to [`parse_any`].
fn parse_as_written(line: &[u8]) -> Option<Entry<'_>> {
    let rest = line.strip_prefix(b"{\"log\":\"")?;
    let end = string_end(rest)?;
    let text = &rest[..end];
    let rest = rest[end..].strip_prefix(b"\",\"stream\":\"std")?;
    let (stream, rest) = if let Some(rest) = rest.strip_prefix(b"out\",\"") {
        (Stream::Stdout, rest)
    } else {
        (Stream::Stderr, rest.strip_prefix(b"err\",\"")?)
    };
    let (attrs, rest) = if let Some(object) = rest.strip_prefix(b"attrs\":") {
        let length = flat_object_length(object)?;
        (
            Attrs::Json(Cow::Borrowed(&object[..length])),
            object[length..].strip_prefix(b",\"")?,
        )
    } else {
        (Attrs::None, rest)
    };
    let rest = rest.strip_prefix(b"time\":\"")?;
    let time = rest.strip_suffix(b"\"}")?;
    if memchr2(b'"', b'\\', time).is_some() {
        return None;
    }
    Some(Entry {
        stream,
        time: Time::Rfc3339(Cow::Borrowed(time)),
        text: Text::Escaped(text),
        attrs,
    })
}

/// Where the string that `inside` begins in ends: the position of its closing quote.
fn string_end(inside: &[u8]) -> Option<usize> {
    // Most strings have one escape, the newline, so looking for quotes first is cheaper.
    let mut from = 0;
    loop {
        let quote = from + memchr(b'"', &inside[from..])?;
        let backslashes = inside[..quote]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        if backslashes % 2 == 0 {
            return Some(quote);
        }
        from = quote + 1;
    }
}

/// The length of a JSON object whose values are strings.
fn flat_object_length(object: &[u8]) -> Option<usize> {
    if *object.first()? != b'{' {
        return None;
    }
    let mut at = 1;
    loop {
        match object.get(at)? {
            b'"' => at += 1 + string_end(&object[at + 1..])? + 1,
            b'}' => return Some(at + 1),
            b':' | b',' => at += 1,
            _ => return None,
        }
    }
}

/// Any JSON object with these fields, in any order and spacing.
fn parse_any(line: &[u8]) -> Option<Entry<'_>> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow, default)]
        log: Option<Cow<'a, str>>,
        stream: Stream,
        #[serde(borrow, default)]
        attrs: Option<&'a RawValue>,
        #[serde(borrow, default)]
        time: Option<Cow<'a, str>>,
    }
    let raw: Raw<'_> = serde_json::from_slice(line).ok()?;
    Some(Entry {
        stream: raw.stream,
        time: Time::Rfc3339(raw.time.map_or(Cow::Borrowed(&[]), into_bytes)),
        text: Text::Plain {
            bytes: raw.log.map_or(Cow::Borrowed(&[]), into_bytes),
            newline: false,
        },
        attrs: raw.attrs.map_or(Attrs::None, |attrs| {
            Attrs::Json(Cow::Borrowed(attrs.get().as_bytes()))
        }),
    })
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Appends what the inside of a JSON string stands for. Malformed escapes become U+FFFD.
pub(crate) fn unescape(mut inside: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr(b'\\', inside) {
        out.extend_from_slice(&inside[..at]);
        inside = &inside[at + 1..];
        let Some((&byte, rest)) = inside.split_first() else {
            return;
        };
        inside = rest;
        match byte {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (character, taken) = unicode_escape(inside);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                inside = &inside[taken..];
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(inside);
}

/// What follows `\u`: the character and how many bytes it took.
fn unicode_escape(after: &[u8]) -> (char, usize) {
    const BAD: char = char::REPLACEMENT_CHARACTER;
    let Some(first) = hex4(after) else {
        return (BAD, 0);
    };
    if !(0xD800..0xE000).contains(&first) {
        return (char::from_u32(first).unwrap_or(BAD), 4);
    }
    let second = after
        .get(4..6)
        .filter(|mark| *mark == b"\\u")
        .and_then(|_| hex4(&after[6..]));
    match second {
        Some(second) if first < 0xDC00 && (0xDC00..0xE000).contains(&second) => {
            let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            (char::from_u32(code).unwrap_or(BAD), 10)
        }
        _ => (BAD, 4),
    }
}

fn hex4(text: &[u8]) -> Option<u32> {
    text.get(..4)?.iter().try_fold(0, |value, byte| {
        Some(value * 16 + char::from(*byte).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &[u8], attrs: &str) -> Vec<u8> {
        let mut out = Vec::new();
        append(
            &mut out,
            text,
            true,
            Stream::Stderr,
            attrs.as_bytes(),
            b"2026-11-22T10:00:00.5Z",
        );
        out
    }

    #[test]
    fn lines_look_as_dockers() {
        let line = written(b"a<b>&\t\"\\\x7f\xff\xe2\x80\xa8\xe2\x82\xac\x01", "");
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"log\":\"a\\u003cb\\u003e\\u0026\\u0009\\\"\\\\\x7f\\ufffd\\u2028€\\u0001\\n\",\"stream\":\"stderr\",\
             \"time\":\"2026-11-22T10:00:00.5Z\"}\n"
        );
        let line = written(b"x", "{\"tag\":\"}\\\"\"}");
        assert_eq!(
            String::from_utf8(line.clone()).unwrap(),
            "{\"log\":\"x\\n\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"}\\\"\"},\"time\":\"2026-11-22T10:00:00.5Z\"}\n"
        );
        let entry = parse_as_written(&line[..line.len() - 1]).unwrap();
        assert_eq!(entry.attrs(), [("tag".to_owned(), "}\"".to_owned())]);
    }

    #[test]
    fn other_writers_are_understood() {
        let line =
            br#"{ "time" : "2026-11-22T10:00:00Z", "stream":"stdout", "log":"a\ud83d\ude00b" }"#;
        let entry = parse(line).unwrap();
        assert_eq!(
            (entry.stream, entry.text()),
            (Stream::Stdout, "a😀b".as_bytes().to_vec())
        );
        for bad in [
            &b"{\"log\":\"a"[..],
            b"",
            b"null",
            b"{\"log\":\"a\\",
            b"\0\0\0",
            b"{\"log\":\"a\"}",
        ] {
            assert!(parse(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn text_survives(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let line = written(&text, "");
            let entry = parse_as_written(&line[..line.len() - 1]).unwrap();
            // As Go does: every byte that is not part of a character becomes U+FFFD.
            let mut expected = String::new();
            for chunk in text.utf8_chunks() {
                expected.push_str(chunk.valid());
                expected.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
            }
            expected.push('\n');
            prop_assert_eq!(entry.text(), expected.into_bytes());
            let again = parse_any(&line[..line.len() - 1]).unwrap();
            prop_assert_eq!(again.text(), entry.text());
        }

        #[test]
        fn hostile_lines_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..80), cut in 0usize..90) {
            let mut line = written(b"hello \\ \" w", "{\"a\":\"b\"}");
            line.truncate(cut);
            line.extend(tail);
            if let Some(entry) = parse(&line) {
                let _ = (entry.text(), entry.attrs(), entry.time_ns());
            }
        }
    }
}
