//! Where pulled blobs go and pushed blobs come from: the two seams to the image store.
//!
//! A pull asks [`BlobSink::has`] for each blob, opens the missing ones with [`BlobSink::begin`]
//! (which may find the first bytes of an interrupted pull) and ends with [`BlobWriter::commit`].
//! Manifests, indexes and configurations go the same way as layers. A writer that is dropped
//! keeps what it has, so that the next `begin` goes on from there.

use std::future::Future;

use bytes::Bytes;
use wharf_ids::Digest;

/// A failure of the store, passed on to the caller of the pull or push unchanged.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// What a blob is to the image it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobRole {
    /// An image index.
    Index,
    /// An image manifest.
    Manifest,
    /// The image configuration.
    Config,
    /// A file system layer.
    Layer,
}

/// A blob about to be stored.
#[derive(Debug, Clone)]
pub struct BlobInfo {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Length in bytes, as declared by its manifest.
    pub size: u64,
    /// Media type, as declared by its manifest.
    pub media_type: String,
    /// Its place in the image.
    pub role: BlobRole,
}

/// A content store that takes blobs.
pub trait BlobSink: Send + Sync {
    /// Takes the bytes of one blob.
    type Writer: BlobWriter;

    /// Whether the whole blob is there already.
    fn has(&self, blob: &BlobInfo) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Opens a blob for writing, going on after the bytes an earlier, cut pull left. `None` when
    /// the whole blob is there by now.
    fn begin(
        &self,
        blob: &BlobInfo,
    ) -> impl Future<Output = Result<Option<Self::Writer>, StoreError>> + Send;
}

/// Takes one blob. Dropping it keeps the bytes for a later resumption.
pub trait BlobWriter: Send {
    /// How many bytes there are; at [`BlobSink::begin`] those left by an earlier pull.
    fn offset(&self) -> u64;

    /// Appends bytes.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets all bytes: the server could not go on where we were.
    fn restart(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Checks the digest over all bytes and makes the blob visible. `Ok(false)` says that the
    /// digest is wrong; the bytes must be gone then.
    fn commit(self) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A content store that gives blobs.
pub trait BlobSource: Send + Sync {
    /// Gives the bytes of one blob.
    type Reader: BlobReader;

    /// Opens a blob for reading from its `offset`.
    fn open(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> impl Future<Output = Result<Self::Reader, StoreError>> + Send;
}

/// Gives one blob piece by piece.
pub trait BlobReader: Send {
    /// The next piece, at most some hundred kilobytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;
}
