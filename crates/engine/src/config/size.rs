//! Sizes in bytes as Docker's flags take them: `64m`, `1.5GiB`, `1024`.

/// The number of bytes; suffixes are powers of 1024 in either letter case, with or without `b`/`ib`.
pub fn parse_bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    if number.is_empty() {
        return None;
    }
    let suffix = suffix.trim().to_ascii_lowercase();
    let shift = match suffix.trim_end_matches('b').trim_end_matches('i') {
        "" if suffix != "i" && suffix != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if !matches!(suffix.len(), 0..=3) || suffix.ends_with('i') || suffix.ends_with("bb") {
        return None;
    }
    match number.parse::<i64>() {
        Ok(whole) => whole.checked_mul(1_i64 << shift),
        Err(_) => {
            let bytes = number.parse::<f64>().ok()? * (1_i64 << shift) as f64;
            (bytes.is_finite() && bytes < 9.2e18).then_some(bytes as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_binary() {
        for (text, bytes) in [
            ("1024", 1024),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("1g", 1 << 30),
            ("1GB", 1 << 30),
            ("1GiB", 1 << 30),
            ("1.5k", 1536),
            ("10b", 10),
            (" 1 k ", 1024),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in [
            "",
            "m",
            "-1",
            "1x",
            "1ki",
            "1ib",
            "1i",
            "1bb",
            "1.2.3",
            "99999999999999999999",
            "9999999p",
            "1mm",
        ] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
