//! The syntax tree of a template, and its text as error messages quote it.

use std::fmt;

use crate::number::Number;
use crate::text::quote;

/// A sequence of statements.
pub(crate) type List = Vec<Statement>;

/// Something that produces output or controls what does.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template {
        pos: usize,
        name: String,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

/// `{{if pipe}} list {{else}} else_list {{end}}` and its like.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) list: List,
    pub(crate) else_list: Option<List>,
}

/// `$x := command | command`.
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    pub(crate) pos: usize,
    /// `=` rather than `:=`.
    pub(crate) is_assign: bool,
    /// Variables, with their dollar sign.
    pub(crate) decl: Vec<String>,
    pub(crate) cmds: Vec<Command>,
}

/// `operand operand …`.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) pos: usize,
    pub(crate) args: Vec<Operand>,
}

/// One word of a command.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub(crate) pos: usize,
    pub(crate) term: Term,
}

/// What the word is.
#[derive(Debug, Clone)]
pub(crate) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    String {
        quoted: String,
        text: String,
    },
    /// A function's name.
    Identifier(String),
    /// `.a.b`.
    Field(Vec<String>),
    /// `$x.a.b`; the first is `$x`.
    Variable(Vec<String>),
    /// `(pipe).a.b`.
    Chain(Box<Operand>, Vec<String>),
    Pipe(Pipe),
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Action(pipe) => write!(f, "{{{{{pipe}}}}}"),
            Self::If(branch) => write_branch(f, "if", branch),
            Self::With(branch) => write_branch(f, "with", branch),
            Self::Range(branch) => write_branch(f, "range", branch),
            Self::Template {
                name, pipe: None, ..
            } => {
                write!(f, "{{{{template {}}}}}", quote(name))
            }
            Self::Template {
                name,
                pipe: Some(pipe),
                ..
            } => {
                write!(f, "{{{{template {} {pipe}}}}}", quote(name))
            }
            Self::Break => f.write_str("{{break}}"),
            Self::Continue => f.write_str("{{continue}}"),
        }
    }
}

fn write_branch(f: &mut fmt::Formatter<'_>, keyword: &str, branch: &Branch) -> fmt::Result {
    write!(f, "{{{{{keyword} {}}}}}", branch.pipe)?;
    branch
        .list
        .iter()
        .try_for_each(|statement| write!(f, "{statement}"))?;
    if let Some(list) = &branch.else_list {
        f.write_str("{{else}}")?;
        list.iter()
            .try_for_each(|statement| write!(f, "{statement}"))?;
    }
    f.write_str("{{end}}")
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.decl.is_empty() {
            f.write_str(&self.decl.join(", "))?;
            f.write_str(if self.is_assign { " = " } else { " := " })?;
        }
        for (index, command) in self.cmds.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            command.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arg) in self.args.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match &arg.term {
                Term::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => arg.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            Term::Dot => f.write_str("."),
            Term::Nil => f.write_str("nil"),
            Term::Bool(value) => value.fmt(f),
            Term::Number(number) => f.write_str(&number.text),
            Term::String { quoted, .. } => f.write_str(quoted),
            Term::Identifier(name) => f.write_str(name),
            Term::Field(names) => names.iter().try_for_each(|name| write!(f, ".{name}")),
            Term::Variable(names) => f.write_str(&names.join(".")),
            Term::Chain(operand, names) => {
                match &operand.term {
                    Term::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => operand.fmt(f)?,
                }
                names.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            Term::Pipe(pipe) => pipe.fmt(f),
        }
    }
}

/// Whether a list has nothing but white space: such a definition may be replaced.
pub(crate) fn is_blank(list: &List) -> bool {
    list.iter()
        .all(|statement| matches!(statement, Statement::Text(text) if text.trim().is_empty()))
}
