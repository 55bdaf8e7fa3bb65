//! Number and character literals.
//!
//! A literal has no type of its own: `1e3` may serve as an integer, `7` as a float. Complex
//! literals (`1i`) are refused.

use crate::lex::Kind;
use crate::text::{quote, unquote_char};

/// A literal with each type it can be read as.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    /// As written.
    pub(crate) text: String,
    pub(crate) int: Option<i64>,
    pub(crate) uint: Option<u64>,
    pub(crate) float: Option<f64>,
}

impl Number {
    /// Reads the text of a token of `kind` `CharConstant`, `Complex` or `Number`.
    pub(crate) fn parse(text: &str, kind: Kind) -> Result<Self, String> {
        match kind {
            Kind::CharConstant => return Self::parse_char(text),
            Kind::Complex => return Err(format!("complex constant not supported: {text}")),
            _ if text.ends_with('i') => {
                return Err(format!("complex constant not supported: {text}"));
            }
            _ => {}
        }
        let mut uint = parse_uint(text);
        let int = parse_int(text);
        if int == Some(0) {
            uint = uint.or(Some(0)); // `-0` is no unsigned literal, but zero all the same.
        }
        let mut number = Self {
            text: text.to_owned(),
            int,
            uint,
            float: None,
        };
        if let Some(int) = number.int {
            number.float = Some(int as f64);
        } else if let Some(uint) = number.uint {
            number.float = Some(uint as f64);
        } else if let Some(float) = parse_float(text) {
            if !text.contains(['.', 'e', 'E', 'p', 'P']) {
                return Err(format!("integer overflow: {}", quote(text)));
            }
            number.float = Some(float);
            if float == float.trunc() && (-(2_f64.powi(63))..2_f64.powi(63)).contains(&float) {
                number.int = Some(float as i64);
            }
            if float == float.trunc() && (0.0..2_f64.powi(64)).contains(&float) {
                number.uint = Some(float as u64);
            }
        }
        if number.float.is_none() {
            return Err(format!("illegal number syntax: {}", quote(text)));
        }
        Ok(number)
    }

    fn parse_char(text: &str) -> Result<Self, String> {
        let (value, tail) = unquote_char(text).ok_or("invalid syntax")?;
        if tail != "'" {
            return Err(format!("malformed character constant: {text}"));
        }
        Ok(Self {
            text: text.to_owned(),
            int: Some(value.into()),
            uint: Some(value.into()),
            float: Some(value.into()),
        })
    }

    /// Whether the spelling says float where nothing else decides.
    pub(crate) fn is_written_as_float(&self) -> bool {
        let text = self.text.as_str();
        let hex = text.starts_with("0x") || text.starts_with("0X");
        let hex_int = text.len() > 2 && hex && !text.contains(['p', 'P']);
        !hex_int && !text.starts_with('\'') && text.contains(['.', 'e', 'E', 'p', 'P'])
    }
}

fn parse_uint(text: &str) -> Option<u64> {
    if text.starts_with(['+', '-']) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !underscores_separate_digits(&lower) {
        return None;
    }
    let digits = digits.replace('_', "");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(&digits, radix).ok()
}

fn parse_int(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix('-') {
        return parse_uint(digits).and_then(|value| 0_i64.checked_sub_unsigned(value));
    }
    parse_uint(text.strip_prefix('+').unwrap_or(text)).and_then(|value| i64::try_from(value).ok())
}

fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text
        .strip_prefix(['+', '-'])
        .unwrap_or(text)
        .to_ascii_lowercase();
    if !underscores_separate_digits(&unsigned) {
        return None;
    }
    let unsigned = unsigned.replace('_', "");
    let value = match unsigned.strip_prefix("0x") {
        Some(hex) => parse_hex_float(hex)?,
        None if unsigned.bytes().any(|byte| byte.is_ascii_digit()) => unsigned.parse().ok()?,
        None => return None,
    };
    if !f64::is_finite(value) {
        return None;
    }
    Some(if text.starts_with('-') { -value } else { value })
}

/// `1.8p3` after its `0x`.
fn parse_hex_float(hex: &str) -> Option<f64> {
    let (mantissa, exponent) = hex.split_once('p')?;
    let mut exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for (index, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = digit.to_digit(16)?;
        let after_point = index >= whole.len();
        if value >> 56 == 0 {
            value = value << 4 | u64::from(digit);
            exponent = exponent.saturating_sub(if after_point { 4 } else { 0 });
        } else if !after_point {
            exponent = exponent.saturating_add(4);
        }
    }
    Some(value as f64 * 2_f64.powi(exponent.clamp(-1200, 1100)))
}

/// Each underscore stands between digits or directly after a base prefix.
fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let prefixed =
        bytes.len() > 1 && bytes[0] == b'0' && bytes[1].is_ascii_alphabetic() && bytes[1] != b'e';
    (0..bytes.len()).filter(|&at| bytes[at] == b'_').all(|at| {
        let before = at > 0 && (bytes[at - 1].is_ascii_hexdigit() || (prefixed && at == 2));
        before && bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<Number, String> {
        Number::parse(
            text,
            if text.starts_with('\'') {
                Kind::CharConstant
            } else {
                Kind::Number
            },
        )
    }

    #[test]
    fn literals_are_read_as_every_type_they_fit() {
        let read = |text| number(text).map(|n| (n.int, n.uint, n.float));
        assert_eq!(read("017"), Ok((Some(15), Some(15), Some(15.0))));
        assert_eq!(read("0x_ff"), Ok((Some(255), Some(255), Some(255.0))));
        assert_eq!(read("1_000"), Ok((Some(1000), Some(1000), Some(1000.0))));
        assert_eq!(read("-0"), Ok((Some(0), Some(0), Some(0.0))));
        assert_eq!(read("1e3"), Ok((Some(1000), Some(1000), Some(1000.0))));
        assert_eq!(read("1.5"), Ok((None, None, Some(1.5))));
        assert_eq!(read("0x1.8p1"), Ok((Some(3), Some(3), Some(3.0))));
        assert_eq!(read("'a'"), Ok((Some(97), Some(97), Some(97.0))));
        assert_eq!(read("18446744073709551615").map(|n| n.0), Ok(None));
        assert_eq!(
            read("18446744073709551616"),
            Err("integer overflow: \"18446744073709551616\"".to_owned())
        );
        assert_eq!(read("08"), Err("integer overflow: \"08\"".to_owned()));
        assert!(read("1__0").is_err() && read("1_").is_err() && read("0b12").is_err());
    }
}
