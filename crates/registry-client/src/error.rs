//! What can go wrong between us and a registry, in Docker's words where it has some.

use wharf_fault::{Fault, Kind};

use crate::sink::StoreError;

/// A failed request to a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry has no such manifest. `reference` as the user wrote it (`busybox:nope`).
    #[error("manifest for {reference} not found: {detail}")]
    ManifestUnknown {
        /// `repository:tag` in familiar form.
        reference: String,
        /// `manifest unknown: manifest unknown` or the registry's own text.
        detail: String,
    },
    /// The registry has no such repository, and says so.
    #[error("repository {repository} not found: {detail}")]
    RepositoryUnknown {
        /// The repository in familiar form.
        repository: String,
        /// `name unknown: repository name not known to registry` or the registry's own text.
        detail: String,
    },
    /// Not there, or not for us.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {detail}"
    )]
    PullDenied {
        /// The repository in familiar form.
        repository: String,
        /// `denied: requested access to the resource is denied` or the registry's own text.
        detail: String,
    },
    /// The registry does not let us write.
    #[error("{detail}")]
    PushDenied {
        /// `denied: requested access to the resource is denied` or the registry's own text.
        detail: String,
    },
    /// Wrong name or password, or none where some are needed.
    #[error("{0}")]
    Unauthorized(String),
    /// The same as the outcome of a login.
    #[error("{0}")]
    LoginFailed(String),
    /// The registry answered with an error; the text is `code: message`.
    #[error("{message}")]
    Registry {
        /// HTTP status.
        status: u16,
        /// Text made of the answer's `errors` list.
        message: String,
    },
    /// No answer: `Get "https://…/v2/": dial tcp 127.0.0.1:5000: connect: connection refused`.
    #[error("{method} \"{url}\": {cause}")]
    Transport {
        /// `Get`, `Head`, `Post`, … as Go writes them.
        method: String,
        /// The address asked for.
        url: String,
        /// What happened, in Go's words where users know them.
        cause: String,
    },
    /// An answer that no honest registry gives.
    #[error("invalid answer from registry: {0}")]
    Protocol(String),
    /// The index has nothing for the wanted platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoPlatform {
        /// `linux/arm64/v8`.
        platform: String,
    },
    /// A manifest or index that is none, or of a type nobody can run.
    #[error("invalid manifest")]
    Document(#[source] wharf_oci::image::DocumentError),
    /// Something that is no image: a chart, a signature, an attestation.
    #[error("{reference} is not an image: its configuration has media type {media_type}")]
    NotAnImage {
        /// `repository:tag` in familiar form.
        reference: String,
        /// Type of its configuration.
        media_type: String,
    },
    /// The bytes are not those the digest names.
    #[error("filesystem layer verification failed for digest {0}")]
    DigestMismatch(wharf_ids::Digest),
    /// A setting or argument is not usable.
    #[error("{0}")]
    Invalid(String),
    /// The local store failed.
    #[error("image store")]
    Store(#[source] StoreError),
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::ManifestUnknown { .. }
            | Self::RepositoryUnknown { .. }
            | Self::PullDenied { .. }
            | Self::NoPlatform { .. } => Kind::NotFound,
            Self::PushDenied { .. } => Kind::Forbidden,
            Self::LoginFailed(_) => Kind::Unauthorized,
            // Not `Unauthorized`: Docker's client answers that by asking the user for a password.
            Self::Unauthorized(_) => Kind::System,
            Self::Invalid(_) => Kind::InvalidParameter,
            Self::NotAnImage { .. } => Kind::NotImplemented,
            Self::Registry { .. }
            | Self::Transport { .. }
            | Self::Protocol(_)
            | Self::Document(_)
            | Self::DigestMismatch(_)
            | Self::Store(_) => Kind::System,
        }
    }
}
