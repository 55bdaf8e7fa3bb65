//! Image references: `[registry/]path[:tag][@digest]`, normalised as Docker does.

use crate::Digest;

/// A string that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Docker's wording.
    #[error("invalid reference format")]
    Format,
    /// Docker's wording.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
}

/// A normalised image reference: `busybox` is `docker.io/library/busybox`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    /// Registry host with optional port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Repository path inside the registry: `library/busybox`.
    pub path: String,
    /// Tag, when given.
    pub tag: Option<String>,
    /// Digest, when given.
    pub digest: Option<Digest>,
}
