//! Parsing a command's words the way Go's `pflag` does, with its messages.
//!
//! `-it` is two switches, `-p80:80`, `-p=80:80` and `-p 80:80` are the same, `--tty=false` turns a
//! switch off, `--` ends the flags, a single `-` is an argument, the last value of a scalar wins
//! and a list keeps all of them in order.

use crate::command::{Flag, Kind};
use crate::parse::{duration, size};

/// The parsed words of one command.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    values: Vec<(&'static str, String)>,
    /// The arguments, in order.
    pub(crate) args: Vec<String>,
    /// The words that lead to the command: `["container", "ls"]`.
    pub(crate) path: Vec<&'static str>,
    /// Help was asked for.
    pub(crate) help: bool,
    /// Help was asked for with `-h`, which Docker calls deprecated.
    pub(crate) short_help: bool,
    /// Whether `--` was among the words.
    pub(crate) dash_dash: bool,
}

impl Matches {
    /// Whether the flag was given at all.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.iter().any(|(flag, _)| *flag == name)
    }

    /// A switch; `false` when not given.
    pub(crate) fn bool(&self, name: &str) -> bool {
        self.bool_or(name, false)
    }

    /// A switch with another default.
    pub(crate) fn bool_or(&self, name: &str, default: bool) -> bool {
        self.last(name)
            .map_or(default, |value| parse_bool(value).unwrap_or(default))
    }

    /// Text; empty when not given.
    pub(crate) fn str(&self, name: &str) -> &str {
        self.last(name).unwrap_or_default()
    }

    /// The last value, if the flag was given.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .rev()
            .find(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values in order.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.values
            .iter()
            .filter(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A checked number; `None` when not given.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.last(name).and_then(|value| parse_int(value).ok())
    }

    /// A checked duration in nanoseconds; `None` when not given.
    pub(crate) fn nanoseconds(&self, name: &str) -> Option<i64> {
        self.last(name)
            .and_then(|value| duration::parse(value).ok())
    }

    /// A checked size in bytes; `None` when not given.
    pub(crate) fn bytes(&self, name: &str) -> Option<i64> {
        self.last(name).and_then(|value| size::parse(value).ok())
    }

    #[cfg(test)]
    pub(crate) fn of(flags: &'static [Flag], words: &[&str]) -> Result<Self, String> {
        parse(
            flags,
            words.iter().map(|word| (*word).to_owned()).collect(),
            true,
        )
    }
}

/// Parses `words`; the error is the line Docker prints first.
pub(crate) fn parse(
    flags: &'static [Flag],
    words: Vec<String>,
    interspersed: bool,
) -> Result<Matches, String> {
    let mut matches = Matches::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            matches.dash_dash = true;
            matches.args.extend(words);
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            parse_long(flags, &word, long, &mut words, &mut matches)?;
        } else if word.len() > 1 && word.starts_with('-') {
            parse_shorts(flags, &word, &mut words, &mut matches)?;
        } else {
            matches.args.push(word);
            if !interspersed {
                matches.args.extend(words);
                break;
            }
        }
    }
    Ok(matches)
}

fn parse_long(
    flags: &'static [Flag],
    word: &str,
    long: &str,
    words: &mut impl Iterator<Item = String>,
    matches: &mut Matches,
) -> Result<(), String> {
    if long.starts_with('-') || long.starts_with('=') {
        return Err(format!("bad flag syntax: {word}"));
    }
    let (name, inline) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    if name == "help" {
        matches.help = parse_bool(inline.as_deref().unwrap_or("true"))
            .map_err(|reason| format!("invalid argument for \"--help\" flag: {reason}"))?;
        return Ok(());
    }
    let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
        return Err(format!("unknown flag: --{name}"));
    };
    let value = match inline {
        Some(value) => value,
        None if flag.kind == Kind::Bool => "true".to_owned(),
        None => words
            .next()
            .ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    store(flag, value, matches)
}

fn parse_shorts(
    flags: &'static [Flag],
    word: &str,
    words: &mut impl Iterator<Item = String>,
    matches: &mut Matches,
) -> Result<(), String> {
    for (at, letter) in word[1..].char_indices() {
        let rest = &word[1 + at + letter.len_utf8()..];
        let Some(flag) = flags.iter().find(|flag| flag.short == Some(letter)) else {
            if letter == 'h' {
                matches.help = true;
                matches.short_help = true;
                return Ok(());
            }
            return Err(format!(
                "unknown shorthand flag: {letter:?} in -{}",
                &word[1 + at..]
            ));
        };
        if let Some(value) = rest.strip_prefix('=') {
            return store(flag, value.to_owned(), matches);
        }
        if flag.kind == Kind::Bool {
            store(flag, "true".to_owned(), matches)?;
            continue;
        }
        let value = if rest.is_empty() {
            words.next().ok_or_else(|| {
                format!("flag needs an argument: {letter:?} in -{}", &word[1 + at..])
            })?
        } else {
            rest.to_owned()
        };
        return store(flag, value, matches);
    }
    Ok(())
}

fn store(flag: &'static Flag, value: String, matches: &mut Matches) -> Result<(), String> {
    let invalid = |reason: String| {
        format!(
            "invalid argument {} for \"{}\" flag: {reason}",
            go_quote(&value),
            flag.spelled()
        )
    };
    match flag.kind {
        Kind::Bool => drop(parse_bool(&value).map_err(invalid)?),
        Kind::Int => drop(parse_int(&value).map_err(invalid)?),
        Kind::Uint => drop(parse_uint(&value, u64::MAX).map_err(invalid)?),
        Kind::Uint16 => drop(parse_uint(&value, u64::from(u16::MAX)).map_err(invalid)?),
        Kind::Duration => drop(duration::parse(&value).map_err(invalid)?),
        Kind::Bytes => drop(size::parse(&value).map_err(invalid)?),
        Kind::Csv => {
            for part in crate::parse::csv::fields(&value).map_err(invalid)? {
                matches.values.push((flag.name, part));
            }
            return Ok(());
        }
        Kind::Text | Kind::Custom(_) | Kind::List(_) => {}
    }
    if let Some(check) = flag.check {
        check(&value).map_err(invalid)?;
    }
    matches.values.push((flag.name, value));
    Ok(())
}

/// Go's `%q` for the values that appear in messages.
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)))
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            go_quote(text)
        )),
    }
}

/// Go's `strconv.ParseInt` with base 0: decimal, `0x`, `0o`, `0b`, or octal after a zero.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    let fail = |why| format!("strconv.ParseInt: parsing {}: {why}", go_quote(text));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = magnitude(digits).map_err(fail)?;
    let signed = if negative {
        -i128::from(magnitude)
    } else {
        i128::from(magnitude)
    };
    i64::try_from(signed).map_err(|_| fail("value out of range"))
}

fn parse_uint(text: &str, max: u64) -> Result<u64, String> {
    let fail = |why| format!("strconv.ParseUint: parsing {}: {why}", go_quote(text));
    let value = magnitude(text).map_err(fail)?;
    if value > max {
        Err(fail("value out of range"))
    } else {
        Ok(value)
    }
}

fn magnitude(digits: &str) -> Result<u64, &'static str> {
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("invalid syntax");
    }
    u64::from_str_radix(digits, radix).map_err(|_| "value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: &[Flag] = &[
        Flag::bool("interactive", "").short('i'),
        Flag::bool("tty", "").short('t'),
        Flag::list("publish", "").short('p'),
        Flag::int("num", "").short('n'),
        Flag::csv("cidr", ""),
        Flag::string("name", ""),
    ];

    #[test]
    fn every_spelling_of_a_value_is_read() {
        let m = Matches::of(
            FLAGS,
            &[
                "-itp80:80",
                "-p=81:81",
                "-p",
                "82",
                "--publish",
                "83",
                "--publish=84",
                "x",
                "--tty=false",
            ],
        )
        .unwrap();
        assert!(m.bool("interactive") && !m.bool("tty"));
        assert_eq!(m.list("publish"), ["80:80", "81:81", "82", "83", "84"]);
        assert_eq!(m.args, ["x"]);
        let m = Matches::of(
            FLAGS,
            &["--name", "a", "--name=b", "--cidr", "1,2", "--", "-i"],
        )
        .unwrap();
        assert_eq!(m.str("name"), "b");
        assert_eq!(m.list("cidr"), ["1", "2"]);
        assert_eq!(m.args, ["-i"]);
    }

    #[test]
    fn flags_after_the_first_argument_can_belong_to_a_program() {
        let words = ["-i", "image", "-t"].map(str::to_owned).to_vec();
        let m = parse(FLAGS, words, false).unwrap();
        assert_eq!(m.args, ["image", "-t"]);
        assert!(!m.bool("tty"));
    }

    #[test]
    fn messages_are_those_of_docker() {
        let error = |words: &[&str]| Matches::of(FLAGS, words).unwrap_err();
        assert_eq!(error(&["--zz=1"]), "unknown flag: --zz");
        assert_eq!(error(&["-ix"]), "unknown shorthand flag: 'x' in -x");
        assert_eq!(error(&["--name"]), "flag needs an argument: --name");
        assert_eq!(error(&["-ip"]), "flag needs an argument: 'p' in -p");
        assert_eq!(
            error(&["-n", "abc"]),
            "invalid argument \"abc\" for \"-n, --num\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
        assert_eq!(
            error(&["--tty=maybe"]),
            "invalid argument \"maybe\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
        assert_eq!(error(&["--=x"]), "bad flag syntax: --=x");
    }

    #[test]
    fn numbers_are_gos() {
        assert_eq!(parse_int("0x10"), Ok(16));
        assert_eq!(parse_int("-010"), Ok(-8));
        assert_eq!(parse_int("0"), Ok(0));
        assert!(
            parse_int("9223372036854775808")
                .unwrap_err()
                .ends_with("value out of range")
        );
    }
}
