//! What can go wrong, in the words tools look for in runc's.

use std::io;
use std::path::PathBuf;

use wharf_container_runtime::{Stage, StartError};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `--help`.
    #[error("help is wanted")]
    HelpWanted,
    /// Wrongly called; the text says how.
    #[error("{0}")]
    Usage(String),
    #[error("container does not exist")]
    NoContainer,
    #[error("container with given ID already exists")]
    Exists,
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    #[error("container not running")]
    NotRunning,
    #[error("container not paused")]
    NotPaused,
    /// The state does not allow it; the text says what and why.
    #[error("{0}")]
    WrongState(String),
    #[error("{what}: {path}: {reason}", path = path.display(), reason = words(source))]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{what}: {reason}", reason = words(source))]
    System {
        what: &'static str,
        source: io::Error,
    },
    #[error("JSON specification file config.json not found")]
    NoConfig,
    #[error("{what}: {source}")]
    Json {
        what: &'static str,
        source: serde_json::Error,
    },
    /// The document or a flag asks for what cannot be given.
    #[error("{0}")]
    Refused(String),
    #[error("{operation} failed: {cause}")]
    Start {
        operation: &'static str,
        cause: StartCause,
    },
    #[error("{0}")]
    Limits(StartError),
    #[error("{}", wharf_fault::chain(.0))]
    Checkpoint(wharf_container_runtime::CheckpointError),
}

/// A failed start, with what every runtime says before it.
#[derive(Debug)]
pub(crate) struct StartCause(pub(crate) StartError);

impl std::fmt::Display for StartCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.stage {
            Stage::Config => self.0.fmt(f),
            _ => write!(f, "unable to start container process: {}", self.0),
        }
    }
}

impl Error {
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            what,
            source: source.into(),
        }
    }

    pub(crate) fn json(what: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json { what, source }
    }

    pub(crate) fn start(operation: &'static str) -> impl FnOnce(StartError) -> Self {
        move |error| match error.stage {
            Stage::NotRunning => Self::NotRunning,
            _ => Self::Start {
                operation,
                cause: StartCause(error),
            },
        }
    }
}

/// The kernel's words as Go has them: lower case, no number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
