//! Times as Docker writes them (RFC 3339 in UTC as Go prints it) and reads them (`since=`, `until=`).

use jiff::{SignedDuration, Timestamp};

/// What Go's zero time prints as: "never".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// `2026-11-22T10:00:00.123456789Z`; trailing zeros of the fraction are left out, as Go's
/// `RFC3339Nano` does.
pub fn rfc3339_nano(at: Timestamp) -> String {
    at.to_string()
}

/// The current time in [`rfc3339_nano`].
pub fn now() -> String {
    rfc3339_nano(Timestamp::now())
}

/// A point in time as a `since`/`until` parameter or filter gives it: Unix seconds with an
/// optional fraction, RFC 3339 with or without its later parts, or a Go duration before `now`.
pub fn parse_reference(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    parse_unix(text).or_else(|| parse_date(text)).or_else(|| {
        let back = parse_go_duration(text)?;
        now.checked_sub(back).ok()
    })
}

/// `1136073600.000000001`: seconds and nanoseconds.
fn parse_unix(text: &str) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if seconds.is_empty()
        || !seconds
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
        || fraction.len() > 9
    {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let mut nanos: i32 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    for _ in fraction.len()..9 {
        nanos *= 10;
    }
    let sign = if negative { -1 } else { 1 };
    Timestamp::new(i64::from(sign) * seconds, sign * nanos).ok()
}

/// `2006-01-02`, `2006-01-02T15:04`, `…:05`, `….999`, each with or without `Z`/`+07:00`.
fn parse_date(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    for format in [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H",
        "%Y-%m-%d",
    ] {
        if let Ok(parsed) = jiff::civil::DateTime::strptime(format, text) {
            return parsed
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()
                .map(|zoned| zoned.timestamp());
        }
        if let Ok(parsed) = jiff::civil::Date::strptime(format, text) {
            return parsed
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()
                .map(|zoned| zoned.timestamp());
        }
    }
    None
}

/// A Go duration: `1h30m`, `1.5h`, `300ms`, `-2s`.
pub fn parse_go_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_f64;
    let mut whole_nanos = 0_i64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..number_len];
        if number.is_empty() || number == "." {
            return None;
        }
        rest = &rest[number_len..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let scale: i64 = match &rest[..unit_len] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_len..];
        match number.parse::<i64>() {
            Ok(whole) => whole_nanos = whole_nanos.checked_add(whole.checked_mul(scale)?)?,
            Err(_) => nanos += number.parse::<f64>().ok()? * scale as f64,
        }
    }
    if !nanos.is_finite() || nanos.abs() >= 9.2e18 {
        return None;
    }
    let total = whole_nanos.checked_add(nanos as i64)?;
    Some(SignedDuration::from_nanos(if negative {
        total.checked_neg()?
    } else {
        total
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_in_all_forms() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let read = |text| parse_reference(text, now).map(|at| at.to_string());
        assert_eq!(
            read("1136073600.000000001").unwrap(),
            "2006-01-01T00:00:00.000000001Z"
        );
        assert_eq!(read("1136073600").unwrap(), "2006-01-01T00:00:00Z");
        assert_eq!(read("2006-01-02").unwrap(), "2006-01-02T00:00:00Z");
        assert_eq!(read("2006-01-02T15:04:05").unwrap(), "2006-01-02T15:04:05Z");
        assert_eq!(
            read("2006-01-02T15:04:05.5+01:00").unwrap(),
            "2006-01-02T14:04:05.5Z"
        );
        assert_eq!(read("1h30m").unwrap(), "2026-11-22T08:30:00Z");
        for bad in ["", "x", "1.2.3", "2006", "99999999999999999999", "1y"] {
            assert!(read(bad).is_none() || bad == "2006", "{bad}");
        }
    }

    #[test]
    fn go_durations() {
        let nanos = |text| parse_go_duration(text).map(|d| d.as_nanos());
        assert_eq!(nanos("1.5h"), Some(5_400_000_000_000));
        assert_eq!(nanos("1m30s"), Some(90_000_000_000));
        assert_eq!(nanos("-2ms"), Some(-2_000_000));
        assert_eq!(nanos("0"), Some(0));
        for bad in ["", "5", "1d", "h", ".s", "99999999999h", "1h-2m"] {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }
}
