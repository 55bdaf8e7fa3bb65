//! What a pull or push reports while it works.

use wharf_ids::Digest;

/// Takes reports; called from many tasks, must not block.
pub type Progress<'a> = &'a (dyn Fn(Event) + Send + Sync);

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The tag or digest was found in the registry.
    Resolved {
        /// Digest of the index or manifest.
        digest: Digest,
    },
    /// Something happened to a layer.
    Layer {
        /// Which one.
        digest: Digest,
        /// What happened.
        status: LayerStatus,
    },
}

/// The life of a layer in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerStatus {
    /// Pull: the layer is needed.
    PullingFsLayer,
    /// Pull and push: other layers go first.
    Waiting,
    /// Pull: bytes arrive.
    Downloading {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Pull: all bytes are there, the digest is computed.
    VerifyingChecksum,
    /// Pull: the blob is in the store.
    DownloadComplete,
    /// Pull: the blob was in the store before.
    AlreadyExists,
    /// Push: the layer is looked at.
    Preparing,
    /// Push: bytes leave.
    Pushing {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Push: the registry has the layer now.
    Pushed,
    /// Push: the registry had the layer before.
    LayerAlreadyExists,
    /// Push: the registry took the layer from another of its repositories.
    MountedFrom(
        /// The other repository.
        String,
    ),
}

impl LayerStatus {
    /// Docker's text for the `status` field of a progress message.
    pub fn text(&self) -> String {
        match self {
            Self::PullingFsLayer => "Pulling fs layer".to_owned(),
            Self::Waiting => "Waiting".to_owned(),
            Self::Downloading { .. } => "Downloading".to_owned(),
            Self::VerifyingChecksum => "Verifying Checksum".to_owned(),
            Self::DownloadComplete => "Download complete".to_owned(),
            Self::AlreadyExists => "Already exists".to_owned(),
            Self::Preparing => "Preparing".to_owned(),
            Self::Pushing { .. } => "Pushing".to_owned(),
            Self::Pushed => "Pushed".to_owned(),
            Self::LayerAlreadyExists => "Layer already exists".to_owned(),
            Self::MountedFrom(repository) => format!("Mounted from {repository}"),
        }
    }
}
