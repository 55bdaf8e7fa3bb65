//! What the state store keeps about images, layers and containers' file systems.
//!
//! ```text
//! table "images"     canonical name            → ImageRecord
//! table "content"    digest of a blob          → ContentRecord (facts its bytes do not tell)
//! table "layers"     chain id                  → LayerRecord
//! table "snapshots"  container id              → ContainerRecord
//! table "image-store"  "boot-id"               → the boot the store was opened in last
//! ```

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::Descriptor;

pub(crate) const IMAGES: &str = "images";
pub(crate) const CONTENT: &str = "content";
pub(crate) const LAYERS: &str = "layers";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const SETTINGS: &str = "image-store";

/// Name of an image that lost its last tag, followed by its id (containerd store's wording).
pub(crate) const DANGLING_PREFIX: &str = "moby-dangling@";

/// What a name points to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) target: Descriptor,
    /// When this name was last given to this target.
    pub(crate) updated: Timestamp,
}

/// What is known about a blob besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContentRecord {
    /// Digest of the uncompressed bytes, for layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) diff_id: Option<Digest>,
    /// Repositories (`registry/path`) that have the blob: a push to their registry can mount it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) sources: BTreeSet<String>,
}

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) diff_id: Digest,
    pub(crate) parent: Option<Digest>,
    /// The layer hides everything below it.
    pub(crate) opaque: bool,
    /// Bytes on disk.
    pub(crate) disk_bytes: u64,
}

/// A container's read-write layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// The topmost layer below it; `None` for an image without layers.
    pub(crate) chain: Option<Digest>,
}

pub(crate) fn dangling_name(id: &Digest) -> String {
    format!("{DANGLING_PREFIX}{id}")
}

pub(crate) fn is_dangling(name: &str) -> bool {
    name.starts_with(DANGLING_PREFIX)
}

/// The name a user gave; `None` for the one an image without names is kept by.
pub(crate) fn given_name(name: &str) -> Option<ImageRef> {
    if is_dangling(name) {
        None
    } else {
        ImageRef::parse(name).ok()
    }
}
