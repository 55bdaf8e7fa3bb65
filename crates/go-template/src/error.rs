//! What can go wrong: a template that is none, and one that does not fit its data.

/// A failed parse or execution, worded as Go's `text/template` words it.
///
/// Docker's commands print both kinds after `template parsing error: `; callers add that prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no template: `template: :1: unclosed action`.
    #[error("{0}")]
    Parse(String),
    /// The template does not fit the data: `template: :1:2: executing "" at <.Foo>: …`.
    #[error("{0}")]
    Execute(String),
    /// One of [`Limits`](crate::Limits) was exceeded; the text names it.
    #[error("template: {0}")]
    Limit(String),
}
