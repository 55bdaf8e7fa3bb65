//! Entries as `docker logs` sends them.
//!
//! ```text
//! [stream 0 0 0 length (u32 BE)]  when multiplexed
//! 2026-11-22T10:00:00.120000000Z␠ with timestamps
//! key=value,key=value␠            with details, query-escaped as Go does
//! text                            with its newline if the line is whole
//! ```

use crate::entry::{Entry, Time};
use crate::timestamp::Stamp;

/// How entries are to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Format {
    /// Each begins with its time.
    pub timestamps: bool,
    /// Each shows its attributes.
    pub details: bool,
    /// Each is wrapped in a stream frame; off for containers with a terminal.
    pub multiplexed: bool,
}

/// Appends `entry` to `out`.
pub fn append(entry: &Entry<'_>, format: Format, out: &mut Vec<u8>) {
    let start = out.len();
    if format.multiplexed {
        out.extend_from_slice(&[entry.stream.number(), 0, 0, 0, 0, 0, 0, 0]);
    }
    if format.timestamps {
        append_time(entry, out);
        out.push(b' ');
    }
    if format.details {
        for (index, (key, value)) in entry.attrs().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            query_escape(key, out);
            out.push(b'=');
            query_escape(value, out);
        }
        out.push(b' ');
    }
    entry.append_text(out);
    if format.multiplexed {
        // Entries are bounded far below 4 GiB.
        let length = u32::try_from(out.len() - start - 8).unwrap_or(u32::MAX);
        out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
    }
}

fn append_time(entry: &Entry<'_>, out: &mut Vec<u8>) {
    // Docker's own form only lacks trailing zeros.
    if let Time::Rfc3339(text) = &entry.time
        && let Some(digits @ 20..=29) = text.strip_suffix(b"Z").map(<[u8]>::len)
        && text[19] == b'.'
    {
        out.extend_from_slice(&text[..digits]);
        out.resize(out.len() + 29 - digits, b'0');
        out.push(b'Z');
        return;
    }
    out.extend_from_slice(Stamp::fixed(entry.time_ns()).as_bytes());
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_line;

    fn rendered(line: &str, format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        append(
            &json_line::parse(line.as_bytes()).unwrap(),
            format,
            &mut out,
        );
        out
    }

    #[test]
    fn prefixes_are_dockers() {
        let line = r#"{"log":"hi\n","stream":"stderr","attrs":{"tag":"a b/c","env":"x"},"time":"2026-11-22T10:00:00.12Z"}"#;
        let all = Format {
            timestamps: true,
            details: true,
            multiplexed: true,
        };
        assert_eq!(
            rendered(line, all),
            [
                &b"\x02\0\0\0\0\0\0\x34"[..],
                b"2026-11-22T10:00:00.120000000Z env=x,tag=a+b%2Fc hi\n"
            ]
            .concat()
        );
        assert_eq!(rendered(line, Format::default()), b"hi\n");
        let bare = r#"{"log":"hi\n","stream":"stdout","time":"2026-11-22T10:00:00Z"}"#;
        assert_eq!(
            rendered(
                bare,
                Format {
                    timestamps: true,
                    details: true,
                    multiplexed: false
                }
            ),
            b"2026-11-22T10:00:00.000000000Z  hi\n"
        );
    }
}
