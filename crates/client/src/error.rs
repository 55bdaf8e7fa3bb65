//! What can go wrong between a front end and the engine, in the words Docker's client uses.

use std::io;

use wharf_fault::{Fault, Kind};

use crate::tls::TlsError;

/// The result of a client operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the address.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Connect {
        /// The address tried.
        host: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is there but not for this user.
    #[error("permission denied while trying to connect to the Docker daemon socket at {host}")]
    Permission {
        /// The address tried.
        host: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No daemon runs and none could be started.
    #[error("cannot start the daemon for {host}")]
    Autostart {
        /// The address that has no daemon.
        host: String,
        /// Why it could not be started.
        source: io::Error,
    },
    /// The `ssh` program could not be run or said no.
    #[error("cannot reach {host} through ssh")]
    Ssh {
        /// The address tried.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The TLS session could not be set up.
    #[error("error during connect")]
    Tls(#[from] TlsError),
    /// The engine answered with an error.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP status.
        status: u16,
        /// The `message` of the body.
        message: String,
    },
    /// The stream of a pull, push or load reported an error.
    #[error("{message}")]
    Stream {
        /// The message inside the stream.
        message: String,
        /// The exit code it carries, 0 when none.
        code: i32,
    },
    /// The connection broke in the middle.
    #[error("error during connect: {0}")]
    Http(#[source] hyper::Error),
    /// Reading or writing a hijacked stream failed.
    #[error("connection to the daemon failed: {0}")]
    Io(#[from] io::Error),
    /// The engine's answer is not what the API says.
    #[error("unexpected answer from the daemon: {0}")]
    Decode(String),
}

impl Error {
    /// The HTTP status the engine answered with, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Daemon { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether what does not exist is an image, as every version of Docker says it; a missing
    /// network, container or plugin is another matter.
    pub fn is_missing_image(&self) -> bool {
        match self {
            Self::Daemon {
                status: 404,
                message,
                ..
            } => message.to_ascii_lowercase().contains("no such image"),
            _ => false,
        }
    }

    /// Whether the engine said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Daemon { status, .. } => match status {
                304 => Kind::NotModified,
                400 => Kind::InvalidParameter,
                401 => Kind::Unauthorized,
                403 => Kind::Forbidden,
                404 => Kind::NotFound,
                409 => Kind::Conflict,
                501 => Kind::NotImplemented,
                503 => Kind::Unavailable,
                _ => Kind::System,
            },
            Self::Connect { .. } | Self::Autostart { .. } | Self::Ssh { .. } => Kind::Unavailable,
            Self::Permission { .. } => Kind::Forbidden,
            _ => Kind::System,
        }
    }
}
