//! How a command is defined: one static table per command file.

use crate::cli::Cli;
use crate::matches::Matches;
use crate::outcome::Outcome;

/// One command of the command line, whatever the paths that lead to it.
pub(crate) struct Command {
    /// What follows the command's words in its usage line; a second form goes on a second line.
    pub(crate) usage: &'static str,
    /// One line for lists of commands.
    pub(crate) short: &'static str,
    /// Text of its own help when that says more than `short`.
    pub(crate) long: Option<&'static str>,
    /// All paths that lead here, as help shows them, without the program's name.
    pub(crate) aliases: &'static [&'static str],
    /// How many arguments it takes.
    pub(crate) args: Args,
    /// Its flags in the order of its help.
    pub(crate) flags: &'static [Flag],
    /// Whether flags may follow the first argument; not when the rest belongs to a program.
    pub(crate) interspersed: bool,
    /// The command itself.
    pub(crate) run: fn(&Cli, &Matches) -> Outcome,
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Args {
    /// None at all.
    None,
    /// Exactly this many.
    Exact(usize),
    /// This many or more.
    Min(usize),
    /// At most this many.
    Max(usize),
    /// Between the two, inclusive.
    Range(usize, usize),
    /// Any number.
    Any,
}

/// What a flag's value is; decides its parsing, its word in the help and its default there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On or off; needs no value.
    Bool,
    /// Text; the last one wins.
    Text,
    /// Text checked by the command; the help calls it by this word.
    Custom(&'static str),
    /// Any number of texts; the help calls them by this word.
    List(&'static str),
    /// Any number of comma separated lists.
    Csv,
    /// A signed number.
    Int,
    /// An unsigned number.
    Uint,
    /// A number up to 65535.
    Uint16,
    /// Go's duration: `1m30s`.
    Duration,
    /// A size with an optional binary unit: `64m`.
    Bytes,
}

/// A check of one value: the reason why it is refused.
pub(crate) type Check = fn(&str) -> Result<(), String>;

/// One flag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Name without dashes.
    pub(crate) name: &'static str,
    /// One letter form.
    pub(crate) short: Option<char>,
    /// What its value is.
    pub(crate) kind: Kind,
    /// Its default as the help shows it; empty is not shown.
    pub(crate) default: &'static str,
    /// What it does; line ends are kept.
    pub(crate) help: &'static str,
    /// Accepted but not shown: an older spelling.
    pub(crate) hidden: bool,
    /// Checked while parsing.
    pub(crate) check: Option<Check>,
}

impl Flag {
    const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            short: None,
            kind,
            default: "",
            help,
            hidden: false,
            check: None,
        }
    }

    pub(crate) const fn bool(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Bool, name, help)
    }

    pub(crate) const fn string(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Text, name, help)
    }

    pub(crate) const fn list(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::List("list"), name, help)
    }

    /// `key=value` pairs.
    pub(crate) const fn map(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::List("map"), name, help)
    }

    pub(crate) const fn filter(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::List("filter"), name, help).check(crate::filters::check)
    }

    pub(crate) const fn csv(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Csv, name, help)
    }

    pub(crate) const fn int(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Int, name, help)
    }

    pub(crate) const fn uint(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Uint, name, help)
    }

    pub(crate) const fn uint16(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Uint16, name, help)
    }

    pub(crate) const fn duration(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Duration, name, help)
    }

    pub(crate) const fn bytes(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Bytes, name, help)
    }

    /// One text the help calls `word`.
    pub(crate) const fn custom(name: &'static str, word: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Custom(word), name, help)
    }

    /// Any number of texts the help calls `word`.
    pub(crate) const fn many(name: &'static str, word: &'static str, help: &'static str) -> Self {
        Self::new(Kind::List(word), name, help)
    }

    pub(crate) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    pub(crate) const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    pub(crate) const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The word for its value in the help; empty for a switch.
    pub(crate) fn value_word(&self) -> &'static str {
        match self.kind {
            Kind::Bool => "",
            Kind::Text => "string",
            Kind::Custom(word) | Kind::List(word) => word,
            Kind::Csv => "strings",
            Kind::Int => "int",
            Kind::Uint => "uint",
            Kind::Uint16 => "uint16",
            Kind::Duration => "duration",
            Kind::Bytes => "bytes",
        }
    }

    /// How messages name it: `-m, --memory`.
    pub(crate) fn spelled(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// The text of every `--format` that has a table.
pub(crate) const FORMAT_HELP: &str = "Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// The text of every `--format` without a table.
pub(crate) const INSPECT_FORMAT_HELP: &str = "Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";
