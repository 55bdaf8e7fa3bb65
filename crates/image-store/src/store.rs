//! The handle everything goes through, and the lookup of images.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::{
    CONFIG_SIZE_MAX, Descriptor, Document, ImageConfig, MANIFEST_SIZE_MAX, Manifest,
};
use wharf_oci::platform::Platform;
use wharf_state::Store;

use crate::catalog::{Catalog, Query};
use crate::content::{Content, digest_of};
use crate::error::ImageError;
use crate::garbage::Collected;
use crate::image::{Image, Layer};
use crate::lease::Leases;
use crate::record;
use crate::snapshot::Snapshots;

/// The images of one data root. Clones share it.
#[derive(Debug, Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

/// Who takes several of the locks takes them in this order: `change`, `leases`, `catalog`.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: Store,
    pub(crate) content: Content,
    pub(crate) snapshots: Arc<Snapshots>,
    /// Directories made ahead, and the read-only ones they are for, by the container they are
    /// given to.
    pub(crate) assigned: Mutex<HashMap<String, (PathBuf, Vec<PathBuf>)>>,
    pub(crate) leases: Mutex<Leases>,
    catalog: RwLock<Catalog>,
    /// Held by whoever changes records, so that changes are made one after the other while
    /// readers only wait for the moment the new records are put in place.
    change: Mutex<()>,
    /// Blobs and layers someone is writing; others who want the same wait for them.
    pub(crate) busy: Busy,
}

impl ImageStore {
    /// Opens the image store below `data_root` with its records in `state`, and removes what an
    /// earlier daemon left unfinished.
    pub fn open(data_root: &Path, state: Store) -> Result<Self, ImageError> {
        let content = Content::open(data_root)?;
        let snapshots = Arc::new(Snapshots::open(data_root)?);
        let mut catalog = Catalog::default();
        catalog.images.extend(state.list(record::IMAGES)?);
        catalog.containers.extend(state.list(record::SNAPSHOTS)?);
        for (key, record) in state.list(record::CONTENT)? {
            catalog.content.insert(key.parse()?, record);
        }
        for (key, record) in state.list(record::LAYERS)? {
            catalog.layers.insert(key.parse()?, record);
        }
        let store = Self {
            inner: Arc::new(Inner {
                state,
                content,
                snapshots,
                assigned: Mutex::default(),
                leases: Mutex::default(),
                catalog: RwLock::new(catalog),
                change: Mutex::default(),
                busy: Busy::default(),
            }),
        };
        store.remove_orphans()?;
        store.remove_unflushed()?;
        store.inner.snapshots.empty_trash_later();
        Ok(store)
    }

    /// The image a text names (`busybox`, `busybox:1.36`, `busybox@sha256:…`, an id or the
    /// beginning of one), for this machine's platform, or for whichever there is when none fits.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, ImageError> {
        self.resolve_platform(text, None)
    }

    /// The same for exactly this platform (`None`: as [`ImageStore::resolve`]).
    pub fn resolve_platform(
        &self,
        text: &str,
        platform: Option<&Platform>,
    ) -> Result<Arc<Image>, ImageError> {
        let query = Query::parse(text)?;
        let target = self.catalog().find(&query)?.1.target.clone();
        self.view(&target, platform)?.ok_or_else(|| match platform {
            Some(platform) => ImageError::NoSuchPlatform {
                reference: text.to_owned(),
                platform: platform.to_string(),
            },
            None => query.not_found(),
        })
    }

    /// The image with this id for this machine's platform.
    pub fn by_id(&self, id: &Digest) -> Result<Arc<Image>, ImageError> {
        self.resolve(id.as_str())
    }

    /// Whether there is a blob, without protecting it from garbage collection (see
    /// [`Lease::has_blob`](crate::Lease::has_blob)).
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.inner.content.size(digest).is_some()
    }

    /// A blob's bytes, for a push.
    pub fn open_blob(&self, digest: &Digest) -> Result<std::fs::File, ImageError> {
        self.inner.content.open_blob(digest)
    }

    /// A manifest or index that is in the store.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Document, ImageError> {
        let bytes = self
            .inner
            .content
            .read_bounded(&descriptor.digest, MANIFEST_SIZE_MAX)?;
        check_digest(&descriptor.digest, &bytes)?;
        Document::parse(&bytes, &descriptor.media_type).map_err(|source| ImageError::Document {
            digest: descriptor.digest.clone(),
            source,
        })
    }

    /// What a name points to: a manifest or an index, for a push.
    pub fn target(&self, name: &ImageRef) -> Result<Descriptor, ImageError> {
        let query = Query::parse(&name.to_string())?;
        Ok(self.catalog().find(&query)?.1.target.clone())
    }

    pub(crate) fn config(&self, digest: &Digest) -> Result<ImageConfig, ImageError> {
        let bytes = self.inner.content.read_bounded(digest, CONFIG_SIZE_MAX)?;
        check_digest(digest, &bytes)?;
        ImageConfig::parse(&bytes).map_err(|source| ImageError::Document {
            digest: digest.clone(),
            source,
        })
    }

    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.inner
            .catalog
            .read()
            .expect("no code panics while it holds this lock")
    }

    pub(crate) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.inner
            .catalog
            .write()
            .expect("no code panics while it holds this lock")
    }

    pub(crate) fn begin_change(&self) -> MutexGuard<'_, ()> {
        self.inner
            .change
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The parsed image behind a target; `None` when it has none for the platform.
    pub(crate) fn view(
        &self,
        target: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<Option<Arc<Image>>, ImageError> {
        let key = platform.map(ToString::to_string);
        let generation = {
            let catalog = self.catalog();
            if let Some(image) = catalog.view(&target.digest, key.as_deref()) {
                return Ok(Some(image));
            }
            catalog.generation()
        };
        let Some(image) = self.load_view(target, platform)? else {
            return Ok(None);
        };
        let image = Arc::new(image);
        self.catalog_mut().keep_view(generation, key, &image);
        Ok(Some(image))
    }

    fn load_view(
        &self,
        target: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<Option<Image>, ImageError> {
        let document = self.document(target)?;
        let candidates: Vec<Descriptor> = match &document {
            Document::Manifest(_) => vec![target.clone()],
            Document::Index(index) => index.manifests.clone(),
        };
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let mut best: Option<(u32, Descriptor, Manifest, ImageConfig)> = None;
        for candidate in candidates {
            // Entries for other platforms usually were not pulled.
            if !self.has_blob(&candidate.digest) {
                continue;
            }
            let Document::Manifest(manifest) = self.document(&candidate)? else {
                continue;
            };
            if !manifest.is_image() || !self.has_blob(&manifest.config.digest) {
                continue;
            }
            let config = self.config(&manifest.config.digest)?;
            let offered = candidate
                .platform
                .as_ref()
                .filter(|p| !p.os.is_empty())
                .unwrap_or(&config.platform);
            let rank = match (wanted.rank(offered), platform) {
                // What a processor runs besides its own is only for those who did not ask.
                (Some(rank), Some(_)) if rank >= Platform::FOREIGN_RANK => continue,
                (Some(rank), _) => rank,
                (None, Some(_)) => continue,
                (None, None) => u32::MAX,
            };
            if best.as_ref().is_none_or(|(found, ..)| rank < *found) {
                best = Some((rank, candidate, manifest, config));
            }
        }
        match best {
            Some((_, descriptor, manifest, config)) => self
                .assemble(target, &document, descriptor, &manifest, config)
                .map(Some),
            None => Ok(None),
        }
    }

    fn assemble(
        &self,
        target: &Descriptor,
        document: &Document,
        descriptor: Descriptor,
        manifest: &Manifest,
        config: ImageConfig,
    ) -> Result<Image, ImageError> {
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(ImageError::LayerCount {
                manifest: descriptor.digest,
                layers,
                diff_ids,
            });
        }
        let content_bytes = self.content_bytes(target, document);
        let catalog = self.catalog();
        let mut unpacked = true;
        let mut chain: Option<Digest> = None;
        let layers: Vec<Layer> = manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(blob, diff_id)| {
                let chain_id = chain_id(chain.as_ref(), diff_id);
                chain = Some(chain_id.clone());
                let record = catalog.layers.get(&chain_id);
                unpacked &= record.is_some();
                Layer {
                    blob: blob.clone(),
                    diff_id: diff_id.clone(),
                    chain_id,
                    disk_bytes: record.map_or(0, |record| record.disk_bytes),
                }
            })
            .collect();
        let mut tags = Vec::new();
        let mut digests = HashSet::new();
        let mut tagged = None;
        for (name, record) in catalog.with_target(&target.digest) {
            tagged = tagged.max(Some(record.updated));
            let Some(name) = record::given_name(name) else {
                continue;
            };
            digests.insert(name.with_digest(target.digest.clone()));
            if name.tag.is_some() {
                tags.push(name);
            }
        }
        let mut digests: Vec<ImageRef> = digests.into_iter().collect();
        digests.sort();
        Ok(Image {
            id: target.digest.clone(),
            target: target.clone(),
            config_digest: manifest.config.digest.clone(),
            manifest: descriptor,
            unpacked_bytes: layers.iter().map(|layer| layer.disk_bytes).sum(),
            config,
            layers,
            tags,
            digests,
            tagged,
            content_bytes,
            unpacked,
        })
    }

    /// Bytes of all blobs of a target that are here.
    fn content_bytes(&self, target: &Descriptor, document: &Document) -> u64 {
        let mut seen = HashSet::from([target.digest.clone()]);
        let mut bytes = target.size;
        for child in document.children() {
            if !seen.insert(child.digest.clone()) {
                continue;
            }
            let Some(size) = self.inner.content.size(&child.digest) else {
                continue;
            };
            bytes += size;
            if matches!(document, Document::Index(_))
                && let Ok(Document::Manifest(manifest)) = self.document(child)
            {
                let children = std::iter::once(&manifest.config).chain(&manifest.layers);
                for grandchild in
                    children.filter(|grandchild| seen.insert(grandchild.digest.clone()))
                {
                    bytes += self.inner.content.size(&grandchild.digest).unwrap_or(0);
                }
            }
        }
        bytes
    }

    /// Removes blobs, layers and directories that nothing needs.
    pub fn collect_garbage(&self) -> Result<Collected, ImageError> {
        let change = self.begin_change();
        let collected = self.sweep(&change);
        drop(change);
        collected
    }

    /// Deletes what was moved to the trash. Removal of images and containers only moves; this
    /// does the slow part and belongs on a background thread.
    pub fn empty_trash(&self) -> Result<(), ImageError> {
        self.inner.snapshots.empty_trash()
    }
}

/// The id of a layer together with all layers below it (image-spec config.md, "Layer ChainID").
pub(crate) fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        Some(parent) => digest_of(format!("{parent} {diff_id}").as_bytes()),
        None => diff_id.clone(),
    }
}

/// Documents are small: they are checked again on every read, so a damaged disk is noticed.
fn check_digest(expected: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
    let found = digest_of(bytes);
    if found == *expected {
        return Ok(());
    }
    Err(ImageError::DigestMismatch {
        expected: expected.clone(),
        found,
    })
}

/// The keys someone works on; others who want the same one wait.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    keys: Mutex<HashSet<PathBuf>>,
    freed: Condvar,
}

/// Holds one key until it is dropped.
#[derive(Debug)]
pub(crate) struct BusyKey {
    store: ImageStore,
    key: PathBuf,
}

impl ImageStore {
    /// Waits until nobody else works on `key` and takes it.
    pub(crate) fn take_busy(&self, key: PathBuf) -> BusyKey {
        let busy = &self.inner.busy;
        let mut keys = busy
            .keys
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        while keys.contains(&key) {
            keys = busy
                .freed
                .wait(keys)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        keys.insert(key.clone());
        BusyKey {
            store: self.clone(),
            key,
        }
    }
}

impl Drop for BusyKey {
    fn drop(&mut self) {
        let busy = &self.store.inner.busy;
        busy.keys
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(&self.key);
        busy.freed.notify_all();
    }
}
