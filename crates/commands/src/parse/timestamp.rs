//! `--since` and `--until`: a time, a Unix time or a duration before now.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::duration;

/// What the API takes: seconds since the epoch with an optional fraction, as decimal text.
///
/// Times without a zone are local; a duration counts back from `now`.
pub fn parse(text: &str, now: Timestamp) -> Result<String, String> {
    // Docker: a bare zero is the beginning of time, not now.
    if text != "0"
        && let Ok(nanoseconds) = duration::parse(text)
    {
        let at = now.as_nanosecond() - i128::from(nanoseconds);
        return Ok(at.div_euclid(1_000_000_000).to_string());
    }
    if is_unix(text) {
        return Ok(text.to_owned());
    }
    absolute(text)
        .map(|at| wire(at.as_nanosecond()))
        .ok_or_else(|| {
            "failed to parse value as time or duration: ".to_owned()
                + &crate::matches::go_quote(text)
        })
}

fn wire(nanoseconds: i128) -> String {
    format!(
        "{}.{:09}",
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000)
    )
}

fn is_unix(text: &str) -> bool {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(seconds.strip_prefix('-').unwrap_or(seconds)) && digits(fraction) && fraction.len() <= 9
}

fn absolute(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    // `2006-01-02Z07:00`: a day with a zone.
    if let Some(day) = text
        .strip_suffix('Z')
        .and_then(|day| day.parse::<Date>().ok())
    {
        return day
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp());
    }
    let local = if text.contains('T') {
        // `2006-01-02T15` and `2006-01-02T15:04` lack what the parser wants.
        let padded = match text.split_once('T')?.1.matches(':').count() {
            0 => format!("{text}:00:00"),
            1 => format!("{text}:00"),
            _ => text.to_owned(),
        };
        padded.parse::<DateTime>().ok()?
    } else {
        text.parse::<Date>()
            .ok()?
            .to_datetime(jiff::civil::Time::midnight())
    };
    local
        .to_zoned(TimeZone::system())
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_becomes_epoch_seconds() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(parse("10m", now).unwrap(), "999400");
        assert_eq!(parse("0", now).unwrap(), "0");
        assert_eq!(
            parse("1136073845.000000001", now).unwrap(),
            "1136073845.000000001"
        );
        assert_eq!(
            parse("2006-01-02T15:04:05.000000001Z", now).unwrap(),
            "1136214245.000000001"
        );
        assert_eq!(
            parse("2006-01-02T15:04:05+02:00", now).unwrap(),
            "1136207045.000000000"
        );
        assert!(parse("2006-01-02", now).is_ok() && parse("2006-01-02T15:04", now).is_ok());
        assert!(parse("yesterday", now).is_err());
    }
}
