//! Go's quoting of strings and characters, both ways.

/// `"text"` with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    quote_with(text, '"', false)
}

/// The same with everything beyond ASCII escaped.
pub(crate) fn quote_ascii(text: &str) -> String {
    quote_with(text, '"', true)
}

/// `'c'` with Go's escapes.
pub(crate) fn quote_char(c: char, ascii_only: bool) -> String {
    quote_with(c.encode_utf8(&mut [0; 4]), '\'', ascii_only)
}

/// As tokens appear in messages: quoted and, beyond `chars`, cut with `...` behind the quote.
pub(crate) fn quote_truncated(text: &str, chars: usize) -> String {
    if text.len() <= chars {
        return quote(text);
    }
    let cut: String = text.chars().take(chars).collect();
    format!("{}...", quote(&cut))
}

fn quote_with(text: &str, mark: char, ascii_only: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            _ if c == mark => {
                out.push('\\');
                out.push(mark);
            }
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            _ if is_printable(c) && (c.is_ascii() || !ascii_only) => out.push(c),
            _ if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(mark);
    out
}

/// Whether Go's `strconv.IsPrint` would say so, as far as Rust's tables agree with it.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    !c.is_whitespace() && c.escape_debug().count() == 1
}

/// The text between the quotes of a Go string literal; `None` when it is not well formed.
pub(crate) fn unquote(literal: &str) -> Option<String> {
    let mark = literal.chars().next()?;
    let inner = literal.strip_prefix(mark)?.strip_suffix(mark)?;
    if mark == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (unit, tail) = unquote_unit(rest, mark)?;
        match unit {
            Unit::Byte(byte) => bytes.push(byte),
            Unit::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = tail;
    }
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// The value of a character literal, `None` for a bad escape; and what follows its character.
pub(crate) fn unquote_char(literal: &str) -> Option<(u32, &str)> {
    let (unit, tail) = unquote_unit(literal.strip_prefix('\'')?, '\'')?;
    let value = match unit {
        Unit::Byte(byte) => u32::from(byte),
        Unit::Char(c) => u32::from(c),
    };
    Some((value, tail))
}

enum Unit {
    /// From `\x..` and `\...`: one byte of the string, not a character.
    Byte(u8),
    Char(char),
}

fn unquote_unit(text: &str, mark: char) -> Option<(Unit, &str)> {
    let mut chars = text.chars();
    let first = chars.next()?;
    if first == mark || first == '\n' {
        return None;
    }
    if first != '\\' {
        return Some((Unit::Char(first), chars.as_str()));
    }
    let escape = chars.next()?;
    let unit = match escape {
        'a' => Unit::Char('\x07'),
        'b' => Unit::Char('\x08'),
        'f' => Unit::Char('\x0c'),
        'n' => Unit::Char('\n'),
        'r' => Unit::Char('\r'),
        't' => Unit::Char('\t'),
        'v' => Unit::Char('\x0b'),
        '\\' => Unit::Char('\\'),
        _ if escape == mark => Unit::Char(mark),
        'x' => Unit::Byte(u8::try_from(digits(&mut chars, 2, 16)?).ok()?),
        'u' => Unit::Char(char::from_u32(digits(&mut chars, 4, 16)?)?),
        'U' => Unit::Char(char::from_u32(digits(&mut chars, 8, 16)?)?),
        '0'..='7' => {
            let high = escape.to_digit(8)?;
            Unit::Byte(u8::try_from(high * 64 + digits(&mut chars, 2, 8)?).ok()?)
        }
        _ => return None,
    };
    Some((unit, chars.as_str()))
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    let mut value = 0_u32;
    for _ in 0..count {
        value = value
            .checked_mul(radix)?
            .checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_and_unquoting_are_inverse() {
        for text in ["", "a\"b\\c\n\t\x07\x01\x7f", "ä☺\u{200b}\u{1f600}\u{a0}"] {
            assert_eq!(unquote(&quote(text)).as_deref(), Some(text));
            assert_eq!(unquote(&quote_ascii(text)).as_deref(), Some(text));
        }
        assert_eq!(quote("\u{a0}"), "\"\\u00a0\"");
        assert_eq!(unquote("\"\\303\\244\\x41\"").as_deref(), Some("äA"));
        assert_eq!(unquote("\"\\'\""), None);
        assert_eq!(unquote("\"\\400\""), None);
    }
}
