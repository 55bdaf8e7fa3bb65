//! Go's `text/template` as `docker --format` needs it: parser, evaluator, `fmt` verbs.
//!
//! Pure: no input or output but strings. Whatever the template, work is bounded by [`Limits`].
//!
//! # In brief
//! ```text
//! let row = Value::methods(Arc::new(MyRow));                    // `docker ps` rows: fields are methods
//! let text = render("{{.ID}} {{.Label \"x\"}}", &row)?;
//! let template = Template::parse("{{json .State}}")?;           // once, then per object
//! template.execute(&Value::from_json(&json))?;                  // untyped
//! template.missing_key(MissingKey::Error).execute(…)?;          // as inspect's fall-back does
//! let schema = Schema::parse("type container.State struct { Status string; Running bool }")?;
//! template.execute(&schema.value("container.State", &json)?)?;  // typed: `{running true}`
//! Template::with_functions(text, Functions::Header)?;           // table headers
//! ```
//! Docker prints errors of both kinds after `template parsing error: `; that prefix is the
//! caller's.
//!
//! # Where it differs from Go
//! Complex numbers are refused, so is a value of a `func` type; nesting is bounded (Go's bound is
//! its stack); cutting a string inside a character gives the replacement character; all pointers
//! print the same address.

mod compare;
mod error;
mod escape;
mod exec;
mod float;
mod functions;
mod json;
mod lex;
mod node;
mod number;
mod parse;
mod print;
mod schema;
mod text;
mod types;
mod value;

use std::collections::BTreeMap;

pub use error::Error;
pub use functions::Functions;
pub use schema::{Schema, SchemaError};
pub use value::{Methods, Value};

/// What a template may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of the template in bytes.
    pub template_bytes: usize,
    /// Length of the output, and of each text made on the way, in bytes.
    pub output_bytes: usize,
    /// All work together: a byte made counts 1, a command or a round of a loop 16.
    pub work: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            template_bytes: 64 << 10,
            output_bytes: 16 << 20,
            work: 64 << 20,
        }
    }
}

/// What a key that a map does not have is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingKey {
    /// `<no value>`.
    #[default]
    NoValue,
    /// An error.
    Error,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    definitions: BTreeMap<String, node::List>,
    functions: Functions,
    missing_key: MissingKey,
    limits: Limits,
}

impl Template {
    /// Parses `text` with Docker's functions.
    ///
    /// # Errors
    /// [`Error::Parse`], or [`Error::Limit`] for a text that is too long.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::with_functions(text, Functions::Docker)
    }

    /// Parses `text` with a choice of functions.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn with_functions(text: &str, functions: Functions) -> Result<Self, Error> {
        let limits = Limits::default();
        if text.len() > limits.template_bytes {
            let max = limits.template_bytes;
            return Err(Error::Limit(format!("template longer than {max} bytes")));
        }
        Ok(Self {
            text: text.to_owned(),
            definitions: parse::parse(text, functions)?,
            functions,
            missing_key: MissingKey::default(),
            limits,
        })
    }

    /// The same template with another rule for missing keys.
    #[must_use]
    pub fn missing_key(mut self, rule: MissingKey) -> Self {
        self.missing_key = rule;
        self
    }

    /// The same template with other limits for its execution.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The output for `data`.
    ///
    /// # Errors
    /// [`Error::Execute`] when the template does not fit the data, [`Error::Limit`] when it costs
    /// too much.
    pub fn execute(&self, data: &Value) -> Result<String, Error> {
        exec::Program {
            text: &self.text,
            definitions: &self.definitions,
            functions: self.functions,
            missing_key: self.missing_key,
            limits: self.limits,
        }
        .run(data)
    }
}

/// Parses and executes at once.
///
/// # Errors
/// As [`Template::parse`] and [`Template::execute`].
pub fn render(template: &str, data: &Value) -> Result<String, Error> {
    Template::parse(template)?.execute(data)
}
