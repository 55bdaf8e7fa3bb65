//! An image as the start path sees it: everything parsed, nothing left to read from disk.

use std::path::PathBuf;

use jiff::Timestamp;
use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::{Descriptor, ImageConfig};

/// One image for one platform. Shared between all who use it; never changes (a new tag makes a
/// new one).
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Docker's image id: the digest of what the name points to, a manifest or an index.
    pub id: Digest,
    /// What the name points to.
    pub target: Descriptor,
    /// The manifest for the platform; the target itself when that is no index.
    pub manifest: Descriptor,
    /// The configuration's digest.
    pub config_digest: Digest,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// Names with a tag, sorted.
    pub tags: Vec<ImageRef>,
    /// Names with a digest: one for each repository that has a tag, and those given by digest.
    pub digests: Vec<ImageRef>,
    /// When a name was last given to the image.
    pub tagged: Option<Timestamp>,
    /// Bytes of the blobs that are here.
    pub content_bytes: u64,
    /// Bytes on disk of the unpacked layers; 0 while they are not unpacked.
    pub unpacked_bytes: u64,
    /// Whether containers can be made from it at once.
    pub unpacked: bool,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The blob.
    pub blob: Descriptor,
    /// Digest of the uncompressed bytes.
    pub diff_id: Digest,
    /// Digest of this and all layers below (image-spec config.md, "Layer ChainID").
    pub chain_id: Digest,
    /// Bytes on disk of the unpacked layer; 0 while it is not unpacked.
    pub disk_bytes: u64,
}

impl Image {
    /// `RepoTags` of Docker's API: `busybox:1.36`.
    pub fn repo_tags(&self) -> Vec<String> {
        self.tags.iter().map(ImageRef::familiar).collect()
    }

    /// `RepoDigests` of Docker's API: `busybox@sha256:…`.
    pub fn repo_digests(&self) -> Vec<String> {
        self.digests.iter().map(ImageRef::familiar).collect()
    }

    /// Whether no name with a tag or a digest points to it.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty() && self.digests.is_empty()
    }

    /// The topmost layer's chain id; `None` for an image without layers.
    pub fn chain(&self) -> Option<&Digest> {
        self.layers.last().map(|layer| &layer.chain_id)
    }

    /// When the image was made.
    pub fn created(&self) -> Option<Timestamp> {
        self.config
            .created
            .as_deref()
            .and_then(|text| text.parse().ok())
    }

    /// What an image takes on disk: blobs and unpacked layers.
    pub fn disk_bytes(&self) -> u64 {
        self.content_bytes + self.unpacked_bytes
    }
}

/// The directories a container's root is made of, as overlay mount options name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLayer {
    /// Read-only layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// The container's own changes.
    pub upper: PathBuf,
    /// Overlay's work directory, on the same file system as `upper`.
    pub work: PathBuf,
}
