//! Flags in runc's syntax, which is that of Go's `flag` package: one or two dashes, `--name value`
//! or `--name=value`, and the first word that is no flag ends them.

use std::ffi::OsString;
use std::fmt::Write as _;

use crate::error::{Error, Result};

/// One flag of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its names without dashes; the first is the one it is asked for by.
    pub(crate) names: &'static [&'static str],
    /// What its value is called in the help; a switch has none.
    pub(crate) value: Option<&'static str>,
    /// What it does.
    pub(crate) help: &'static str,
}

/// A flag without a value.
pub(crate) const fn switch(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag {
        names,
        value: None,
        help,
    }
}

/// A flag with a value.
pub(crate) const fn option(
    names: &'static [&'static str],
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        names,
        value: Some(value),
        help,
    }
}

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    given: Vec<(&'static str, String)>,
    /// The words after the flags.
    pub(crate) words: Vec<String>,
}

impl Flags {
    /// Reads `arguments` by `table`.
    pub(crate) fn parse(table: &[Flag], arguments: &[OsString]) -> Result<Self> {
        let mut flags = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let word = text(argument)?;
            if word == "--" {
                break;
            }
            let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
                flags.words.push(word.to_owned());
                break;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, attached) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            if matches!(name, "help" | "h") {
                return Err(Error::HelpWanted);
            }
            let flag = table
                .iter()
                .find(|flag| flag.names.contains(&name))
                .ok_or_else(|| Error::Usage(format!("flag provided but not defined: -{name}")))?;
            let value = match (flag.value, attached) {
                (None, None) => "true".to_owned(),
                (None, Some(value)) => boolean(name, value)?.to_string(),
                (Some(_), Some(value)) => value.to_owned(),
                (Some(_), None) => {
                    let value = rest
                        .next()
                        .ok_or_else(|| Error::Usage(format!("flag needs an argument: -{name}")))?;
                    text(value)?.to_owned()
                }
            };
            flags.given.push((flag.names[0], value));
        }
        for word in rest {
            flags.words.push(text(word)?.to_owned());
        }
        Ok(flags)
    }

    /// Whether the switch `name` is on.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// The value of `name`, the last one if given several times.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut given = self.given.iter().rev();
        given
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of `name`.
    pub(crate) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> + 'f {
        self.given
            .iter()
            .filter(move |(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// The number given for `name`.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>> {
        self.get(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| Error::Usage(format!("invalid value {value:?} for flag -{name}")))
            })
            .transpose()
    }
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::Usage(format!(
            "invalid boolean value {value:?} for -{name}"
        ))),
    }
}

fn text(argument: &OsString) -> Result<&str> {
    argument
        .to_str()
        .ok_or_else(|| Error::Usage(format!("argument {argument:?} is not UTF-8")))
}

/// The table as help shows it.
pub(crate) fn help(table: &[Flag]) -> String {
    let mut lines: Vec<(String, &str)> = table
        .iter()
        .map(|flag| {
            let names: Vec<String> = flag
                .names
                .iter()
                .map(|name| {
                    let dashes = if name.len() == 1 { "-" } else { "--" };
                    match flag.value {
                        Some(value) => format!("{dashes}{name} {value}"),
                        None => format!("{dashes}{name}"),
                    }
                })
                .collect();
            (names.join(", "), flag.help)
        })
        .collect();
    lines.push(("--help, -h".to_owned(), "show help"));
    let width = lines
        .iter()
        .map(|(names, _)| names.len())
        .max()
        .unwrap_or(0);
    lines.iter().fold(String::new(), |mut help, (names, what)| {
        let _ = writeln!(help, "   {names:width$}  {what}");
        help
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        option(&["bundle", "b"], "DIR", "the bundle"),
        switch(&["detach", "d"], "do not wait"),
        option(&["env", "e"], "NAME=VALUE", "a variable"),
    ];

    fn parse(words: &[&str]) -> Result<Flags> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Flags::parse(TABLE, &words)
    }

    #[test]
    fn both_dashes_and_both_forms_are_understood() {
        let flags = parse(&[
            "-bundle=/x",
            "--d",
            "-e",
            "A=b=c",
            "--env=B",
            "id",
            "--not",
            "-x",
        ])
        .unwrap();
        assert_eq!(flags.get("bundle"), Some("/x"));
        assert!(flags.is("detach"));
        assert_eq!(flags.all("env").collect::<Vec<_>>(), ["A=b=c", "B"]);
        assert_eq!(flags.words, ["id", "--not", "-x"]);
    }

    #[test]
    fn switches_can_be_turned_off_and_a_double_dash_ends_flags() {
        let flags = parse(&["-d=false", "--", "-b"]).unwrap();
        assert!(!flags.is("detach"));
        assert_eq!(flags.words, ["-b"]);
    }

    #[test]
    fn wrong_flags_are_refused() {
        let refused = |words: &[&str]| parse(words).unwrap_err().to_string();
        assert_eq!(refused(&["--nope"]), "flag provided but not defined: -nope");
        assert_eq!(refused(&["--bundle"]), "flag needs an argument: -bundle");
        assert_eq!(refused(&["-d=x"]), "invalid boolean value \"x\" for -d");
        assert!(matches!(parse(&["-h"]), Err(Error::HelpWanted)));
    }
}
