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

mod error;
mod types;
mod value;

pub use error::Error;
pub use value::{Methods, Value};
