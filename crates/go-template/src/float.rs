//! Floating point numbers as Go's `strconv.FormatFloat` writes them.

/// How many digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// As few as still name this number.
    Shortest,
    /// Exactly this many (behind the point, or significant ones for `g`).
    Digits(usize),
}

/// Formats as one of the verbs `e E f g G x X b`, with a sign only when negative.
pub(crate) fn format_float(value: f64, verb: char, precision: Precision, single: bool) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "+Inf".to_owned()
        } else {
            "-Inf".to_owned()
        };
    }
    match verb {
        'e' | 'E' => {
            let digits = decimal(value, single, precision.plus_one());
            exponential(&digits, precision, verb)
        }
        'f' => match precision {
            Precision::Digits(count) => format!("{value:.count$}"),
            Precision::Shortest if single => format!("{}", value as f32),
            Precision::Shortest => format!("{value}"),
        },
        'g' | 'G' => general(value, precision, verb, single),
        'x' | 'X' => hexadecimal(value, precision, verb),
        _ => binary(value, single),
    }
}

impl Precision {
    fn plus_one(self) -> Self {
        match self {
            Self::Shortest => Self::Shortest,
            Self::Digits(count) => Self::Digits(count + 1),
        }
    }
}

/// A number as its significant digits and the exponent of the first of them.
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i32,
}

fn decimal(value: f64, single: bool, significant: Precision) -> Decimal {
    let text = match significant {
        Precision::Shortest if single => format!("{:e}", value as f32),
        Precision::Shortest => format!("{value:e}"),
        Precision::Digits(count) => format!("{value:.*e}", count.max(1) - 1),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    Decimal {
        negative: mantissa.starts_with('-'),
        digits: mantissa.chars().filter(char::is_ascii_digit).collect(),
        exponent: exponent.parse().unwrap_or(0),
    }
}

fn exponential(number: &Decimal, precision: Precision, verb: char) -> String {
    let mut out = String::new();
    if number.negative {
        out.push('-');
    }
    out.push_str(&number.digits[..1]);
    let fraction = &number.digits[1..];
    let wanted = match precision {
        Precision::Shortest => fraction.len(),
        Precision::Digits(count) => count,
    };
    if wanted > 0 {
        out.push('.');
        out.push_str(fraction);
        out.extend(std::iter::repeat_n(
            '0',
            wanted.saturating_sub(fraction.len()),
        ));
    }
    let sign = if number.exponent < 0 { '-' } else { '+' };
    out.push_str(&format!("{verb}{sign}{:02}", number.exponent.abs()));
    out
}

fn general(value: f64, precision: Precision, verb: char, single: bool) -> String {
    let significant = match precision {
        Precision::Shortest => Precision::Shortest,
        Precision::Digits(count) => Precision::Digits(count.max(1)),
    };
    let mut number = decimal(value, single, significant);
    let trimmed = number.digits.trim_end_matches('0').len().max(1);
    number.digits.truncate(trimmed);
    let count = i32::try_from(number.digits.len()).unwrap_or(i32::MAX);
    let threshold = match significant {
        // Go's choice for numbers without a wanted precision.
        Precision::Shortest => 6,
        Precision::Digits(wanted) => {
            let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
            // As many digits as the number has are enough to avoid an exponent.
            if wanted > count && count > number.exponent {
                count
            } else {
                wanted
            }
        }
    };
    if number.exponent < -4 || number.exponent >= threshold {
        let verb = if verb == 'g' { 'e' } else { 'E' };
        return exponential(&number, Precision::Shortest, verb);
    }
    let mut out = String::new();
    if number.negative {
        out.push('-');
    }
    let whole = usize::try_from(number.exponent + 1).unwrap_or(0);
    if whole == 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n(
            '0',
            usize::try_from(-number.exponent - 1).unwrap_or(0),
        ));
        out.push_str(&number.digits);
    } else if number.digits.len() <= whole {
        out.push_str(&number.digits);
        out.extend(std::iter::repeat_n('0', whole - number.digits.len()));
    } else {
        out.push_str(&number.digits[..whole]);
        out.push('.');
        out.push_str(&number.digits[whole..]);
    }
    out
}

/// Mantissa (53 bits, the top one set unless zero) and exponent of the lowest bit.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let mantissa = bits & ((1 << 52) - 1);
    if exponent == 0 {
        (mantissa, -1074)
    } else {
        (mantissa | 1 << 52, exponent - 1075)
    }
}

fn sign(value: f64) -> &'static str {
    if value.is_sign_negative() { "-" } else { "" }
}

fn binary(value: f64, single: bool) -> String {
    let (mut mantissa, mut exponent) = parts(value);
    if single {
        mantissa >>= 29;
        exponent += 29;
    }
    format!("{}{mantissa}p{exponent:+}", sign(value))
}

fn hexadecimal(value: f64, precision: Precision, verb: char) -> String {
    let (mut mantissa, mut exponent) = parts(value);
    if mantissa == 0 {
        exponent = 0;
    } else {
        exponent += 52;
        while mantissa >> 52 == 0 {
            mantissa <<= 1;
            exponent -= 1;
        }
    }
    if let Precision::Digits(count @ 0..13) = precision {
        let dropped = 52 - count * 4;
        let half = 1_u64 << (dropped - 1);
        let odd = mantissa >> dropped & 1;
        // Round half to even.
        mantissa = (mantissa + half - 1 + odd) >> dropped << dropped;
        if mantissa >> 53 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut fraction = format!("{:013x}", mantissa & ((1 << 52) - 1));
    match precision {
        Precision::Shortest => fraction.truncate(fraction.trim_end_matches('0').len()),
        Precision::Digits(count) if count <= 13 => fraction.truncate(count),
        Precision::Digits(count) => fraction.extend(std::iter::repeat_n('0', count - 13)),
    }
    let point = if fraction.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let text = format!(
        "{}0x{}{point}{fraction}p{exponent_sign}{:02}",
        sign(value),
        mantissa >> 52,
        exponent.abs()
    );
    if verb == 'X' {
        text.to_ascii_uppercase()
    } else {
        text
    }
}
