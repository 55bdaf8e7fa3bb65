//! Garbage collection: what no image name, no container and no lease needs goes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

use wharf_ids::Digest;
use wharf_oci::image::{Descriptor, Document};
use wharf_state::Batch;

use crate::error::ImageError;
use crate::record;
use crate::store::{ImageStore, chain_id};

/// Which boot of the machine the store was opened in last.
const BOOT_KEY: &str = "boot-id";

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs, complete and partial.
    pub blobs: usize,
    /// Unpacked layers.
    pub layers: usize,
    /// Bytes of the complete blobs and of the layers.
    pub bytes: u64,
}

impl ImageStore {
    /// Directories without a record and records without a directory: what a crash leaves.
    pub(crate) fn remove_orphans(&self) -> Result<(), ImageError> {
        let snapshots = &self.inner.snapshots;
        let on_disk: HashSet<Digest> = snapshots.list_layers()?.into_iter().collect();
        let mut batch = Batch::new();
        let mut catalog = self.catalog_mut();
        for orphan in on_disk
            .iter()
            .filter(|chain_id| !catalog.layers.contains_key(*chain_id))
        {
            snapshots.remove_layer(orphan)?;
        }
        catalog.layers.retain(|chain_id, _| {
            let present = on_disk.contains(chain_id);
            if !present {
                batch.delete(record::LAYERS, chain_id.to_string());
            }
            present
        });
        for id in snapshots.list_containers()? {
            if !catalog.containers.contains_key(&id) {
                snapshots.discard(&snapshots.container(&id))?;
            }
        }
        drop(catalog);
        self.inner.state.commit(batch)?;
        Ok(())
    }

    /// Blobs get their name before they are flushed, records only after: so after the machine went
    /// down, and only then, a blob no record needs may be damaged and must not be taken for whole.
    pub(crate) fn remove_unflushed(&self) -> Result<(), ImageError> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = std::fs::read_to_string(path).map_err(ImageError::io("read", path))?;
        if self
            .inner
            .state
            .get::<String>(record::SETTINGS, BOOT_KEY)?
            .as_ref()
            == Some(&boot)
        {
            return Ok(());
        }
        self.collect_garbage()?;
        let mut batch = Batch::new();
        batch.put(record::SETTINGS, BOOT_KEY, &boot);
        Ok(self.inner.state.commit(batch)?)
    }

    /// The caller holds the change lock: names and layers stay as they are.
    pub(crate) fn sweep(&self, _change: &MutexGuard<'_, ()>) -> Result<Collected, ImageError> {
        // Held to the end: who asks for a blob meanwhile waits and then finds out whether it stayed.
        let leases = self.leases();
        let mut keep_blobs = HashSet::new();
        let mut keep_layers = HashSet::new();
        let targets: Vec<Descriptor> = self
            .catalog()
            .images
            .values()
            .map(|record| record.target.clone())
            .collect();
        for target in &targets {
            self.mark(
                &target.digest,
                &target.media_type,
                &mut keep_blobs,
                &mut keep_layers,
            )?;
        }
        let held = leases.all();
        let mut batch = Batch::new();
        let mut collected = Collected::default();
        let mut catalog = self.catalog_mut();
        for record in catalog.containers.values() {
            keep_layers.extend(
                catalog
                    .chain(record.chain.as_ref())
                    .map(|(id, _)| id.clone()),
            );
        }
        for id in &held {
            keep_layers.extend(catalog.chain(Some(id)).map(|(id, _)| id.clone()));
        }

        let unused: Vec<Digest> = catalog
            .layers
            .keys()
            .filter(|id| !keep_layers.contains(*id))
            .cloned()
            .collect();
        for id in &unused {
            batch.delete(record::LAYERS, id.to_string());
        }
        let forgotten: Vec<Digest> = catalog
            .content
            .keys()
            .filter(|digest| !keep_blobs.contains(*digest) && !held.contains(*digest))
            .cloned()
            .collect();
        for digest in &forgotten {
            batch.delete(record::CONTENT, digest.to_string());
        }
        // Records first: a crash in between leaves orphans, never a record of something missing.
        if !unused.is_empty() || !forgotten.is_empty() {
            self.inner.state.commit(batch)?;
        }
        for digest in &forgotten {
            catalog.content.remove(digest);
        }
        for id in &unused {
            if let Some(layer) = catalog.layers.remove(id) {
                collected.bytes += layer.disk_bytes;
            }
            self.inner.snapshots.remove_layer(id)?;
            collected.layers += 1;
        }
        if !unused.is_empty() {
            catalog.layers_changed();
        }
        catalog.forget_unnamed();
        catalog
            .needs
            .retain(|digest, _| keep_blobs.contains(digest));
        drop(catalog);

        let content = &self.inner.content;
        for digest in content.list()? {
            if !keep_blobs.contains(&digest) && !leases.holds(&digest) {
                collected.bytes += content.size(&digest).unwrap_or(0);
                content.remove(&digest)?;
                collected.blobs += 1;
            }
        }
        for digest in content.list_partial()? {
            if !leases.holds(&digest) {
                content.remove_partial(&digest)?;
                collected.blobs += 1;
            }
        }
        Ok(collected)
    }

    /// Everything a target needs.
    fn mark(
        &self,
        target: &Digest,
        media_type: &str,
        blobs: &mut HashSet<Digest>,
        layers: &mut HashSet<Digest>,
    ) -> Result<(), ImageError> {
        if !blobs.insert(target.clone()) || !self.has_blob(target) {
            return Ok(());
        }
        let known = self.catalog().needs.get(target).cloned();
        let needs = match known {
            Some(needs) => needs,
            None => {
                let (needs, complete) =
                    self.read_needs(&Descriptor::new(media_type, target.clone(), 0))?;
                let needs = Arc::new(needs);
                // A configuration that is missing now may come with the next pull.
                if complete {
                    self.catalog_mut()
                        .needs
                        .insert(target.clone(), Arc::clone(&needs));
                }
                needs
            }
        };
        blobs.extend(needs.blobs.iter().cloned());
        layers.extend(needs.layers.iter().cloned());
        for (child, media_type) in &needs.manifests {
            self.mark(child, media_type, blobs, layers)?;
        }
        Ok(())
    }

    /// What a document needs, and whether that is all of it.
    fn read_needs(&self, target: &Descriptor) -> Result<(Needs, bool), ImageError> {
        let mut needs = Needs::default();
        let mut complete = true;
        match readable(self.document(target))? {
            Some(Document::Index(index)) => {
                needs.manifests = index
                    .manifests
                    .into_iter()
                    .map(|child| (child.digest, child.media_type))
                    .collect();
            }
            Some(Document::Manifest(manifest)) => {
                needs
                    .blobs
                    .extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
                needs.blobs.push(manifest.config.digest.clone());
                if manifest.is_image() {
                    let config = readable(self.config(&manifest.config.digest))?;
                    complete = config.is_some();
                    for diff_id in config.iter().flat_map(|config| &config.rootfs.diff_ids) {
                        needs.layers.push(chain_id(needs.layers.last(), diff_id));
                    }
                }
            }
            None => complete = false,
        }
        Ok((needs, complete))
    }
}

/// What a document says is needed. It never changes: the digest covers it.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Entries of an index with their media types.
    manifests: Vec<(Digest, String)>,
    /// Layers and configuration of a manifest.
    blobs: Vec<Digest>,
    /// Unpacked layers, by chain id.
    layers: Vec<Digest>,
}

/// `None` for a document that is damaged or missing: it keeps nothing but itself, and the image it
/// belongs to says so when it is used. Any other failure ends the collection: what can not be read
/// just now may be all that an image has.
fn readable<T>(result: Result<T, ImageError>) -> Result<Option<T>, ImageError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            error @ (ImageError::MissingContent(_)
            | ImageError::DigestMismatch { .. }
            | ImageError::Document { .. }),
        ) => {
            tracing::debug!(
                error = wharf_fault::chain(&error),
                "not a readable image document"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
