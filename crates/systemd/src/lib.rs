//! The few things a container runtime asks of systemd: put a process into a scope of its own,
//! change that scope's settings, stop it.
//!
//! systemd answers on D-Bus. A whole D-Bus library would weigh more than the program that stays
//! with every container; this crate speaks as much of the protocol as these calls need, blocking,
//! with one connection per call.
//!
//! - [`unit`]: names of slices and scopes, and where their cgroups are. Pure.
//! - [`message`]: D-Bus messages to bytes and back. Pure.
//! - [`connection`]: a connection to a bus, or to systemd itself.
//! - [`manager`]: the calls.

pub mod connection;
pub mod manager;
pub mod message;
pub mod unit;

pub use connection::Bus;
pub use manager::Manager;
pub use message::Value;
pub use unit::Scope;

/// Why systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// There is no systemd to talk to.
    #[error("cannot connect to systemd at {address}")]
    Connect {
        /// The socket tried last.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The bus does not let us in.
    #[error("the D-Bus at {address} refused us: {answer}")]
    Refused {
        /// The socket.
        address: String,
        /// What it said.
        answer: String,
    },
    /// The connection broke, or nobody answered in time.
    #[error("no answer from systemd to {call}")]
    Silent {
        /// The call that waits.
        call: &'static str,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// systemd refused.
    #[error("systemd refused {call}: {message} ({name})")]
    Call {
        /// The call.
        call: &'static str,
        /// The error's D-Bus name.
        name: String,
        /// systemd's words.
        message: String,
    },
    /// A job that was accepted came to nothing.
    #[error("systemd could not finish the job for {unit}: {result}")]
    Job {
        /// The unit.
        unit: String,
        /// `failed`, `timeout`, `canceled`, `dependency`, ….
        result: String,
    },
    /// An answer that makes no sense.
    #[error("systemd gave a wrong answer to {call}")]
    Answer {
        /// The call.
        call: &'static str,
    },
}

impl SystemdError {
    /// Whether systemd's error has this name (without `org.freedesktop.systemd1.`).
    pub fn is(&self, short_name: &str) -> bool {
        matches!(self, Self::Call { name, .. } if name.rsplit('.').next() == Some(short_name))
    }
}
