//! Sizes with binary units: `64m`, `1.5g`, `100`, `2KiB`.

/// Parses a size into bytes.
pub fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let last = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(invalid)?;
    let (number, suffix) = match text.as_bytes()[last] {
        b' ' => (&text[..last], &text[last + 1..]),
        _ => text.split_at(last + 1),
    };
    let number: f64 = number.parse().map_err(|_| {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            crate::matches::go_quote(number)
        )
    })?;
    if number < 0.0 || !number.is_finite() {
        return Err(invalid());
    }
    let suffix = suffix.to_ascii_lowercase();
    let bad = || Err(format!("invalid suffix: '{suffix}'"));
    let power = match suffix.as_bytes() {
        [] | [b'b'] => 0,
        [b'b', ..] => return bad(),
        [unit, tail @ ..] => {
            if !matches!(tail, [] | [b'b'] | [b'i', b'b']) {
                return bad();
            }
            match unit {
                b'k' => 1,
                b'm' => 2,
                b'g' => 3,
                b't' => 4,
                b'p' => 5,
                _ => return bad(),
            }
        }
    };
    let bytes = number * 1024f64.powi(power);
    // 2^63 is exactly representable, so the comparison is exact.
    if bytes >= 9_223_372_036_854_775_808.0 {
        return Err(invalid());
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the range was checked above"
    )]
    Ok(bytes as i64)
}

/// `--memory-swap`: a size, or `-1` for no limit.
pub fn parse_swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{parse, parse_swap};

    #[test]
    fn units_are_binary() {
        for (text, bytes) in [
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32KiB", 32 << 10),
            ("1.5g", 3 << 29),
            ("32 mb", 32 << 20),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse("abc"), Err("invalid size: 'abc'".into()));
        assert_eq!(parse("5x"), Err("invalid suffix: 'x'".into()));
        assert_eq!(parse("5kiloo"), Err("invalid suffix: 'kiloo'".into()));
        assert!(parse("-5").is_err() && parse("9999999p").is_err());
        assert_eq!(parse_swap("-1"), Ok(-1));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[-0-9. a-zA-Z]{0,20}") {
            let _ = parse(&text);
        }
    }
}
