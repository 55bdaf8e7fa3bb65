//! Writing blobs into the content store under a lease.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::Descriptor;
use wharf_state::Batch;

use crate::content::{Ingest, digest_of};
use crate::error::ImageError;
use crate::lease::Lease;
use crate::record::{self, ContentRecord};
use crate::store::{BusyKey, ImageStore};
use crate::tee::LayerTee;
use crate::unpack::StagedLayers;

const COPY_BUFFER_BYTES: usize = 1024 * 1024;

/// A blob on its way in. Dropped before [`BlobWriter::commit`] the bytes so far stay, and the next
/// [`Lease::begin_blob`] for the same digest goes on behind them.
#[derive(Debug)]
pub struct BlobWriter {
    store: ImageStore,
    digest: Digest,
    size: Option<u64>,
    ingest: Ingest,
    /// Of a layer that is unpacked while it comes in.
    tee: Option<Tee>,
    /// Behind `ingest`: a discarded file is gone before others may begin theirs.
    _busy: BusyKey,
}

/// The second way a layer's bytes go.
#[derive(Debug)]
struct Tee {
    unpacking: LayerTee,
    staged: StagedLayers,
}

impl Lease {
    /// As [`Lease::begin_blob`], for a layer: it is unpacked while it comes in, and
    /// [`Lease::unpack_layer`] finds it done.
    pub fn begin_layer(
        &self,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Option<BlobWriter>, ImageError> {
        let Some(mut writer) = self.begin_blob(digest, size)? else {
            return Ok(None);
        };
        if !self.is_unpacked_somewhere(digest) {
            let tee = Tee {
                unpacking: LayerTee::begin(&self.store)?,
                staged: self.staged.clone(),
            };
            writer.unpack(tee)?;
        }
        Ok(Some(writer))
    }

    /// Whether a blob is known to be a layer that is unpacked for some image.
    pub(crate) fn is_unpacked_somewhere(&self, digest: &Digest) -> bool {
        let catalog = self.store.catalog();
        let diff_id = catalog
            .content
            .get(digest)
            .and_then(|record| record.diff_id.as_ref())
            .unwrap_or(digest);
        catalog
            .layers
            .values()
            .any(|layer| layer.diff_id == *diff_id)
    }

    /// Begins or resumes a blob; `None` when it is there already. Waits while another lease is
    /// writing the same blob. `size` is what the descriptor says, when there is one.
    pub fn begin_blob(
        &self,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Option<BlobWriter>, ImageError> {
        self.hold(digest);
        let busy = self.store.take_busy(PathBuf::from(digest.hex()));
        if self.store.has_blob(digest) {
            return Ok(None);
        }
        let mut ingest = self.store.inner.content.resume(digest)?;
        // More than the whole can not be its beginning.
        if size.is_some_and(|size| ingest.len() > size) {
            ingest.restart()?;
        }
        Ok(Some(BlobWriter {
            store: self.store.clone(),
            digest: digest.clone(),
            size,
            ingest,
            tee: None,
            _busy: busy,
        }))
    }

    /// Stores a small blob that is in memory, and checks it when its digest is known.
    pub fn put_blob(&self, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest, ImageError> {
        let found = digest_of(bytes);
        if let Some(expected) = expected
            && *expected != found
        {
            return Err(ImageError::DigestMismatch {
                expected: expected.clone(),
                found,
            });
        }
        if let Some(mut writer) = self.begin_blob(&found, Some(bytes.len() as u64))? {
            writer.restart()?;
            writer.write(bytes)?;
            writer.commit()?;
        }
        Ok(found)
    }

    /// Stores a JSON document and describes it.
    pub(crate) fn put_document<T: serde::Serialize>(
        &self,
        media_type: &str,
        document: &T,
    ) -> Result<Descriptor, ImageError> {
        let bytes = serde_json::to_vec(document)
            .expect("our documents have string keys and finite numbers");
        let digest = self.put_blob(&bytes, None)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    /// Moves an ingest whose digest its bytes told to its place.
    pub(crate) fn publish(&self, mut ingest: Ingest) -> Result<(Digest, u64), ImageError> {
        let digest = ingest.digest();
        self.hold(&digest);
        let content = &self.store.inner.content;
        if content.size(&digest).is_none() {
            content.publish(&mut ingest, &digest)?;
            self.store.inner.snapshots.mark_dirty();
        }
        Ok((digest, ingest.len()))
    }
}

impl BlobWriter {
    /// How many bytes are here already: where the source has to go on.
    pub fn offset(&self) -> u64 {
        self.ingest.len()
    }

    /// Forgets the bytes of earlier attempts, for a source that can only begin at the beginning.
    pub fn restart(&mut self) -> Result<(), ImageError> {
        if let Some(tee) = self.tee.take() {
            let unpacking = LayerTee::begin(&self.store)?;
            self.tee = Some(Tee {
                unpacking,
                staged: tee.staged,
            });
        }
        self.ingest.restart()
    }

    /// Unpacks what is here already and all that follows.
    fn unpack(&mut self, mut tee: Tee) -> Result<(), ImageError> {
        let path = self.store.inner.content.path(&self.digest);
        let failed = ImageError::io("read", &path);
        let pass_on = |tee: &mut Tee, file: &mut std::fs::File| -> std::io::Result<()> {
            let mut buffer = vec![0; COPY_BUFFER_BYTES];
            loop {
                let n = file.read(&mut buffer)?;
                if n == 0 || !tee.unpacking.write(&buffer[..n]) {
                    return Ok(());
                }
            }
        };
        if self.ingest.len() > 0 {
            let mut file = self.ingest.reopen()?;
            pass_on(&mut tee, &mut file).map_err(failed)?;
        }
        self.tee = Some(tee);
        Ok(())
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let length = self.ingest.len() + bytes.len() as u64;
        if let Some(expected) = self.size
            && length > expected
        {
            self.ingest.discard();
            return Err(ImageError::SizeMismatch {
                digest: self.digest.clone(),
                expected,
                found: length,
            });
        }
        if let Some(tee) = &mut self.tee
            && !tee.unpacking.write(bytes)
        {
            // Whoever needs the layer unpacks it from the blob and hears what is wrong with it.
            self.tee = None;
        }
        let path = self.store.inner.content.path(&self.digest);
        self.ingest
            .write_all(bytes)
            .map_err(ImageError::io("write", &path))
    }

    /// Checks length and digest and puts the blob in its place. Wrong bytes are thrown away.
    pub fn commit(mut self) -> Result<(), ImageError> {
        let found = self.ingest.len();
        if let Some(expected) = self.size
            && found != expected
        {
            // Short is resumable, long never becomes right.
            if found > expected {
                self.ingest.discard();
            }
            return Err(ImageError::SizeMismatch {
                digest: self.digest.clone(),
                expected,
                found,
            });
        }
        let found = self.ingest.digest();
        if found != self.digest {
            self.ingest.discard();
            return Err(ImageError::DigestMismatch {
                expected: self.digest.clone(),
                found,
            });
        }
        self.store
            .inner
            .content
            .publish(&mut self.ingest, &self.digest)?;
        self.store.inner.snapshots.mark_dirty();
        if let Some(tee) = self.tee.take()
            && let Ok(unpacked) = tee.unpacking.finish()
        {
            tee.staged.insert_unpacked(&self.digest, unpacked);
        }
        Ok(())
    }
}

impl ImageStore {
    /// Remembers that a repository has a blob, so that a push to the same registry can mount it.
    pub fn add_source(&self, digest: &Digest, repository: &ImageRef) -> Result<(), ImageError> {
        let name = repository.name();
        self.update_content(digest, |record| {
            record.sources.insert(name);
        })
    }

    /// The repositories (`registry/path`) known to have a blob.
    pub fn sources(&self, digest: &Digest) -> BTreeSet<String> {
        self.catalog()
            .content
            .get(digest)
            .map(|record| record.sources.clone())
            .unwrap_or_default()
    }

    pub(crate) fn update_content(
        &self,
        digest: &Digest,
        change: impl FnOnce(&mut ContentRecord),
    ) -> Result<(), ImageError> {
        let _change = self.begin_change();
        let before = self
            .catalog()
            .content
            .get(digest)
            .cloned()
            .unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(record::CONTENT, digest.to_string(), &after);
        self.inner.state.commit(batch)?;
        self.catalog_mut().content.insert(digest.clone(), after);
        Ok(())
    }
}
