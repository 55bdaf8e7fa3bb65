//! How a command ends: the text on standard error and the exit status.

use wharf_client::Error;
use wharf_fault::chain;

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What goes to standard error; nothing when everything has been said.
    pub(crate) message: Option<String>,
    /// The exit status of the program.
    pub(crate) status: u8,
    /// The HTTP status, when the engine refused.
    pub(crate) http_status: Option<u16>,
}

impl Failure {
    /// A failure with a message and the ordinary exit status.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            status: 1,
            http_status: None,
        }
    }

    /// An exit status with nothing more to say.
    pub(crate) fn status(status: u8) -> Self {
        Self {
            message: None,
            status,
            http_status: None,
        }
    }

    /// The same with another exit status.
    #[must_use]
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// The message, empty when there is none.
    pub(crate) fn text(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Whether the engine said that the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.http_status == Some(404)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = match &error {
            // Docker's client keeps the cause of a refused connection to itself.
            Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                error.to_string()
            }
            Error::Connect { source, .. }
                if source.kind() == std::io::ErrorKind::ConnectionRefused =>
            {
                error.to_string()
            }
            _ => chain(&error),
        };
        let status = match &error {
            Error::Stream { code, .. } => u8::try_from(*code)
                .ok()
                .filter(|code| *code != 0)
                .unwrap_or(1),
            _ => 1,
        };
        Self {
            message: Some(message),
            status,
            http_status: error.status(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever read our output has gone: nothing is left to say, as after SIGPIPE.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::status(141);
        }
        Self::new(error.to_string())
    }
}

impl From<wharf_go_template::Error> for Failure {
    fn from(error: wharf_go_template::Error) -> Self {
        Self::new(error.to_string())
    }
}
