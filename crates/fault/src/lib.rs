//! What kind of failure an error is, and how a chain of errors reads.
//!
//! Every error in Wharf knows its [`Kind`] where it is born. The HTTP server has the one table
//! from kind to status code, the command line the one from kind to exit code; nothing else
//! decides either. Domain crates define their own small enums and implement [`Fault`]; the
//! engine, whose messages are part of Docker's interface, uses [`Error`] directly.

use std::error::Error as StdError;
use std::fmt;

/// The kinds of failure the Docker API tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The request itself is wrong: a bad value, a missing field, an impossible combination.
    InvalidParameter,
    /// The request is fine but the object's state does not allow it (name taken, in use, running).
    Conflict,
    /// The object already is in the state asked for.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// Something needed is not reachable right now.
    Unavailable,
    /// Wharf does not offer this (yet); the message names it.
    NotImplemented,
    /// The host or the engine failed.
    System,
}

/// An error that knows its kind.
pub trait Fault: StdError + Send + Sync + 'static {
    /// What kind of failure this is.
    fn kind(&self) -> Kind;
}

/// A failure with a message for the user and, where there is one, its cause.
///
/// `Display` prints the message only; [`chain`] prints the causes too.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of an operation that reports to a user.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of `kind` with the `message` the user reads.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same with `source` as the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Wraps a domain error: its whole chain becomes the message, its kind stays.
    pub fn from_fault<F: Fault>(fault: F) -> Self {
        Self {
            kind: fault.kind(),
            message: chain(&fault),
            source: Some(Box::new(fault)),
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::InvalidParameter`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidParameter, message)
    }

    /// [`Kind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// [`Kind::NotModified`].
    pub fn not_modified(message: impl Into<String>) -> Self {
        Self::new(Kind::NotModified, message)
    }

    /// [`Kind::NotImplemented`]: `what` is named as missing from this version of Wharf.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(Kind::NotImplemented, message)
    }

    /// [`Kind::System`].
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(Kind::System, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        self.kind
    }
}

/// The error and all its causes on one line, `outer: inner: innermost`.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A wrapper made by `Error::from_fault` already contains its causes.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_joins_causes_once() {
        let error =
            Error::system("cannot open layer").caused_by(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&error), "cannot open layer: disk on fire");
        assert_eq!(error.to_string(), "cannot open layer");
    }
}
