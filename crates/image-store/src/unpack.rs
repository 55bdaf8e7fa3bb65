//! From layer blobs to layer directories.
//!
//! Layers are unpacked in any order and at the same time, each into a directory of its own, as soon
//! as its blob is there ([`Lease::unpack_layer`]). [`Lease::unpack`] unpacks the rest, gives the
//! directories their names from the lowest to the topmost, flushes once and writes the records.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use wharf_ids::Digest;
use wharf_oci::image::{Descriptor, Document};
use wharf_oci::platform::Platform;
use wharf_state::Batch;

use crate::apply::{Applied, apply, inherit_directories};
use crate::compression::Compression;
use crate::content::finish;
use crate::error::ImageError;
use crate::image::{Image, Layer};
use crate::lease::Lease;
use crate::pipe::{PipeReader, pipe};
use crate::record::{self, LayerRecord};
use crate::snapshot::Staging;
use crate::store::{ImageStore, chain_id};
use crate::tee::Unpacked;

const READ_BUFFER_BYTES: usize = 1024 * 1024;
/// Layers of one image unpacked at the same time.
const WORKER_COUNT_MAX: usize = 3;

/// How far the unpacking of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackProgress {
    /// The layer's blob.
    pub layer: Digest,
    /// Bytes of the blob done.
    pub done: u64,
    /// Bytes of the blob.
    pub total: u64,
    /// The layer is unpacked, or was already.
    pub complete: bool,
}

/// Receives progress; called from several threads.
pub(crate) type OnUnpack<'a> = &'a (dyn Fn(UnpackProgress) + Sync);

/// How an unpacked layer is found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum StagedKey {
    /// Its place in an image is known.
    Chain(Digest),
    /// Only its content is.
    Diff(Digest),
}

/// The layers unpacked under a lease that have no name yet. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StagedLayers(Arc<Mutex<HashMap<StagedKey, StagedLayer>>>);

/// An unpacked layer without a name.
#[derive(Debug)]
pub(crate) struct StagedLayer {
    staging: Staging,
    applied: Applied,
}

impl ImageStore {
    /// The layers of a manifest whose configuration is in the store, lowest first.
    pub fn layers(&self, manifest: &Descriptor) -> Result<Vec<Layer>, ImageError> {
        let Document::Manifest(document) = self.document(manifest)? else {
            return Err(ImageError::NotAnImage(manifest.digest.clone()));
        };
        let config = self.config(&document.config.digest)?;
        let diff_ids = config.rootfs.diff_ids;
        if document.layers.len() != diff_ids.len() {
            return Err(ImageError::LayerCount {
                manifest: manifest.digest.clone(),
                layers: document.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let catalog = self.catalog();
        let mut chain: Option<Digest> = None;
        Ok(document
            .layers
            .into_iter()
            .zip(diff_ids)
            .map(|(blob, diff_id)| {
                let chain_id = chain_id(chain.as_ref(), &diff_id);
                chain = Some(chain_id.clone());
                let disk_bytes = catalog
                    .layers
                    .get(&chain_id)
                    .map_or(0, |layer| layer.disk_bytes);
                Layer {
                    blob,
                    diff_id,
                    chain_id,
                    disk_bytes,
                }
            })
            .collect())
    }

    /// The image with its layers unpacked, unpacking them where they are not.
    pub fn ensure_unpacked(&self, image: &Arc<Image>) -> Result<Arc<Image>, ImageError> {
        if image.unpacked {
            return Ok(Arc::clone(image));
        }
        let lease = self.lease();
        lease.unpack_layers(&image.layers, &|_| {})?;
        let platform = Platform::clone(
            image
                .manifest
                .platform
                .as_ref()
                .unwrap_or(&image.config.platform),
        );
        self.resolve_platform(image.id.as_str(), Some(&platform))
    }
}

impl Lease {
    /// Unpacks what a manifest, or an index's manifest for `platform` (`None`: this machine's),
    /// needs. The blobs have to be in the store.
    pub fn unpack(
        &self,
        target: &Descriptor,
        platform: Option<&Platform>,
        progress: &(dyn Fn(UnpackProgress) + Sync),
    ) -> Result<(), ImageError> {
        // What was parsed of an index before this machine's manifest arrived may be another one.
        let host = Platform::host();
        let image = match (
            self.store.view(target, Some(platform.unwrap_or(&host)))?,
            platform,
        ) {
            (None, None) => self.store.view(target, None)?,
            (image, _) => image,
        };
        let image = image.ok_or_else(|| ImageError::NotAnImage(target.digest.clone()))?;
        for blob in [
            &image.target.digest,
            &image.manifest.digest,
            &image.config_digest,
        ] {
            self.hold(blob);
        }
        self.unpack_layers(&image.layers, progress)
    }

    fn unpack_layers(&self, layers: &[Layer], progress: OnUnpack<'_>) -> Result<(), ImageError> {
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<ImageError>> = Mutex::new(None);
        let work = || {
            while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.unpack_layer(layer, progress) {
                    failure
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(error);
                    // The others stop at their next layer.
                    next.store(layers.len(), Ordering::Relaxed);
                }
            }
        };
        let helpers = layers.len().saturating_sub(1).min(WORKER_COUNT_MAX - 1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        self.publish_layers(layers)
    }

    /// Unpacks one layer whose blob is in the store; it gets its name with [`Lease::unpack`]. May
    /// be called for several layers at the same time.
    pub fn unpack_layer(
        &self,
        layer: &Layer,
        progress: &(dyn Fn(UnpackProgress) + Sync),
    ) -> Result<(), ImageError> {
        self.hold(&layer.blob.digest);
        self.hold(&layer.chain_id);
        let total = layer.blob.size;
        let report = |done, complete| {
            progress(UnpackProgress {
                layer: layer.blob.digest.clone(),
                done,
                total,
                complete,
            });
        };
        if self.store.catalog().layers.contains_key(&layer.chain_id) || self.staged.find(layer) {
            report(total, true);
            return Ok(());
        }
        let blob = self.store.open_blob(&layer.blob.digest)?;
        let staging = self.store.inner.snapshots.begin_layer()?;
        let mut done = 0;
        let counted = Counted {
            source: blob,
            seen: |bytes| {
                done += bytes as u64;
                report(done, false);
            },
        };
        let source = BufReader::with_capacity(READ_BUFFER_BYTES, counted);
        let (found, applied) = apply_blob(source, &layer.blob.digest, &staging)?;
        if found != layer.diff_id {
            return Err(ImageError::DiffIdMismatch {
                layer: layer.blob.digest.clone(),
                expected: layer.diff_id.clone(),
                found,
            });
        }
        self.staged
            .insert(StagedKey::Chain(layer.chain_id.clone()), staging, applied);
        report(total, true);
        Ok(())
    }

    fn publish_layers(&self, layers: &[Layer]) -> Result<(), ImageError> {
        let store = &self.store;
        let snapshots = &store.inner.snapshots;
        let _change = store.begin_change();
        let mut batch = Batch::new();
        let mut published: Vec<(Digest, LayerRecord)> = Vec::new();
        // What is below the current layer, topmost last.
        let mut below: Vec<(PathBuf, bool)> = Vec::new();
        let mut parent = None;
        for layer in layers {
            let known = store
                .catalog()
                .layers
                .get(&layer.chain_id)
                .map(|record| record.opaque);
            let opaque = match known {
                Some(opaque) => opaque,
                None => {
                    let staged = self.staged.take(&layer.chain_id);
                    let staged = staged
                        .ok_or_else(|| ImageError::MissingContent(layer.blob.digest.clone()))?;
                    let lower = visible(&below);
                    inherit_directories(&staged.staging.root, &staged.applied.implicit, &lower)?;
                    let record = LayerRecord {
                        diff_id: layer.diff_id.clone(),
                        parent: parent.clone(),
                        opaque: staged.applied.opaque,
                        disk_bytes: staged.applied.disk_bytes,
                    };
                    staged.staging.publish(&layer.chain_id)?;
                    snapshots.mark_dirty();
                    batch.put(record::LAYERS, layer.chain_id.to_string(), &record);
                    let opaque = record.opaque;
                    published.push((layer.chain_id.clone(), record));
                    opaque
                }
            };
            below.push((snapshots.layer(&layer.chain_id), opaque));
            parent = Some(layer.chain_id.clone());
        }
        snapshots.sync()?;
        if published.is_empty() {
            return Ok(());
        }
        for layer in layers
            .iter()
            .filter(|layer| layer.diff_id != layer.blob.digest)
        {
            let known = store
                .catalog()
                .content
                .get(&layer.blob.digest)
                .cloned()
                .unwrap_or_default();
            if known.diff_id.is_none() {
                let record = record::ContentRecord {
                    diff_id: Some(layer.diff_id.clone()),
                    ..known
                };
                batch.put(record::CONTENT, layer.blob.digest.to_string(), &record);
                store
                    .catalog_mut()
                    .content
                    .insert(layer.blob.digest.clone(), record);
            }
        }
        store.inner.state.commit(batch)?;
        let mut catalog = store.catalog_mut();
        catalog.layers.extend(published);
        catalog.layers_changed();
        Ok(())
    }
}

impl StagedLayers {
    fn lock(&self) -> MutexGuard<'_, HashMap<StagedKey, StagedLayer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, key: StagedKey, staging: Staging, applied: Applied) {
        self.lock().insert(key, StagedLayer { staging, applied });
    }

    /// Takes what was unpacked from a blob's stream.
    pub(crate) fn insert_unpacked(&self, blob: &Digest, unpacked: Unpacked) {
        let diff_id = unpacked.diff_id.unwrap_or_else(|| blob.clone());
        self.insert(StagedKey::Diff(diff_id), unpacked.staging, unpacked.applied);
    }

    /// Whether the layer is unpacked already, perhaps before its place in an image was known.
    fn find(&self, layer: &Layer) -> bool {
        let mut staged = self.lock();
        let key = StagedKey::Chain(layer.chain_id.clone());
        if staged.contains_key(&key) {
            return true;
        }
        match staged.remove(&StagedKey::Diff(layer.diff_id.clone())) {
            Some(found) => staged.insert(key, found).is_none(),
            None => false,
        }
    }

    fn take(&self, chain_id: &Digest) -> Option<StagedLayer> {
        self.lock().remove(&StagedKey::Chain(chain_id.clone()))
    }
}

/// Lower directories, topmost first, down to the first that hides the rest.
fn visible(below: &[(PathBuf, bool)]) -> Vec<PathBuf> {
    let mut lower = Vec::new();
    for (path, opaque) in below.iter().rev() {
        lower.push(path.clone());
        if *opaque {
            break;
        }
    }
    lower
}

/// Unpacks a blob and tells its diff id. Plain bytes were hashed when they came in; compressed ones
/// are decompressed and hashed on a second thread while this one creates the files.
fn apply_blob(
    mut source: impl BufRead + Send,
    digest: &Digest,
    staging: &Staging,
) -> Result<(Digest, Applied), ImageError> {
    let compression = Compression::detect(source.fill_buf().map_err(ImageError::Read)?)
        .map_err(ImageError::Read)?;
    if compression == Compression::None {
        return Ok((digest.clone(), apply(source, &staging.root)?));
    }
    let (mut writer, reader) = pipe();
    std::thread::scope(|scope| {
        let hashing = scope.spawn(move || -> Digest {
            let mut hash = Sha256::new();
            let result = Compression::decoder(source).and_then(|(_, mut plain)| {
                writer.copy_from(&mut plain, |chunk| hash.update(chunk))
            });
            writer.finish(result);
            finish(hash)
        });
        let applied = apply(reader, &staging.root);
        let found = hashing
            .join()
            .map_err(|_| ImageError::ThreadLost("decompression"))?;
        Ok((found, applied?))
    })
}

/// Unpacks a layer that arrives through a pipe, plain or compressed, and tells its diff id when the
/// bytes were compressed (`None`: it is the digest of what went through the pipe).
pub(crate) fn apply_stream(
    source: PipeReader,
    staging: &Staging,
) -> Result<(Option<Digest>, Applied), ImageError> {
    let unknown = crate::content::digest_of(b"");
    let mut source = source;
    let plain = Compression::detect(source.fill_buf().map_err(ImageError::Read)?)
        .map_err(ImageError::Read)?
        == Compression::None;
    let (found, applied) = apply_blob(source, &unknown, staging)?;
    Ok((if plain { None } else { Some(found) }, applied))
}

/// Tells how much was read.
struct Counted<R, F> {
    source: R,
    seen: F,
}

impl<R: Read, F: FnMut(usize)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(buffer)?;
        (self.seen)(n);
        Ok(n)
    }
}
