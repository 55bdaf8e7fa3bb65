//! Times in log files: RFC 3339 in UTC with nanoseconds, written and read without allocation.

use std::time::{SystemTime, UNIX_EPOCH};

/// Room for the longest form, `2006-01-02T15:04:05.000000000Z`.
const LENGTH: usize = 30;

/// A formatted time.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    bytes: [u8; LENGTH],
    length: usize,
}

impl Stamp {
    /// With all nine digits, as `docker logs --timestamps` prints it.
    pub fn fixed(nanos: i64) -> Self {
        let mut bytes = *b"0000-00-00T00:00:00.000000000Z";
        let (secs, subsec) = (
            nanos.div_euclid(1_000_000_000),
            nanos.rem_euclid(1_000_000_000),
        );
        let (days, of_day) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        put(&mut bytes[0..4], year);
        put(&mut bytes[5..7], month);
        put(&mut bytes[8..10], day);
        put(&mut bytes[11..13], of_day / 3600);
        put(&mut bytes[14..16], of_day / 60 % 60);
        put(&mut bytes[17..19], of_day % 60);
        put(&mut bytes[20..29], subsec);
        Self {
            bytes,
            length: LENGTH,
        }
    }

    /// Without trailing zeros, as Go's `RFC3339Nano` and so Docker's log files have it.
    pub fn trimmed(nanos: i64) -> Self {
        let mut stamp = Self::fixed(nanos);
        let mut end = LENGTH - 1;
        while stamp.bytes[end - 1] == b'0' {
            end -= 1;
        }
        if stamp.bytes[end - 1] == b'.' {
            end -= 1;
        }
        stamp.bytes[end] = b'Z';
        stamp.length = end + 1;
        stamp
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The present, in nanoseconds since the epoch.
pub fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Reads an RFC 3339 time with `Z` or a numeric offset and up to nine digits of fraction, as
/// nanoseconds since the epoch.
pub fn parse(text: &[u8]) -> Option<i64> {
    let number = |from: usize, to: usize| digits(text.get(from..to)?);
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if *text.get(at)? != byte {
            return None;
        }
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&length) {
            return None;
        }
        nanos = digits(&fraction[..length])? * 10_i64.pow(9 - u32::try_from(length).ok()?);
        rest = &fraction[length..];
    }
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let secs = digits(&[*h1, *h2])? * 3600 + digits(&[*m1, *m2])? * 60;
            if *sign == b'-' { -secs } else { secs }
        }
        _ => return None,
    };
    let secs =
        days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    secs.checked_mul(1_000_000_000)?.checked_add(nanos)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0_i64, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn put(field: &mut [u8], mut value: i64) {
    for digit in field.iter_mut().rev() {
        // A remainder of ten fits a byte.
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since the epoch to year, month, day of the proleptic Gregorian calendar
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 {
        month_shifted + 3
    } else {
        month_shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(stamp: Stamp) -> String {
        String::from_utf8(stamp.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn known_times() {
        assert_eq!(text(Stamp::fixed(0)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(Stamp::trimmed(0)), "1970-01-01T00:00:00Z");
        assert_eq!(
            text(Stamp::trimmed(1_795_341_600_120_000_000)),
            "2026-11-22T10:00:00.12Z"
        );
        assert_eq!(
            text(Stamp::fixed(951_782_400_000_000_001)),
            "2000-02-29T00:00:00.000000001Z"
        );
    }

    #[test]
    fn offsets_count() {
        assert_eq!(parse(b"1970-01-01T01:00:00.5+01:00"), Some(500_000_000));
        assert_eq!(parse(b"1969-12-31T23:30:00-00:30"), Some(0));
        for bad in [
            "",
            "1970",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
            "1970-01-01T00:00:00.Z",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in 0..4_000_000_000_000_000_000_i64) {
            prop_assert_eq!(parse(Stamp::fixed(nanos).as_bytes()), Some(nanos));
            prop_assert_eq!(parse(Stamp::trimmed(nanos).as_bytes()), Some(nanos));
        }

        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&text);
        }
    }
}
