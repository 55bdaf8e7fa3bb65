//! Leases: what unfinished work holds against garbage collection.

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use wharf_ids::Digest;

use crate::store::ImageStore;
use crate::unpack::StagedLayers;

/// What all leases hold. Blobs and layers (by chain id) share one space: both are digests.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    next: u64,
    held: HashMap<u64, HashSet<Digest>>,
}

impl Leases {
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.held.values().any(|held| held.contains(digest))
    }

    pub(crate) fn all(&self) -> HashSet<Digest> {
        self.held.values().flatten().cloned().collect()
    }
}

/// Holds every blob and layer that is brought in or asked for through it until it is dropped.
/// By then an image name should point to them.
#[derive(Debug)]
pub struct Lease {
    pub(crate) store: ImageStore,
    id: u64,
    /// Layers unpacked under this lease that have no name yet.
    pub(crate) staged: StagedLayers,
}

impl ImageStore {
    /// A lease on nothing yet.
    pub fn lease(&self) -> Lease {
        let mut leases = self.leases();
        let id = leases.next;
        leases.next += 1;
        leases.held.insert(id, HashSet::new());
        drop(leases);
        Lease {
            store: self.clone(),
            id,
            staged: StagedLayers::default(),
        }
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.inner
            .leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Keeps a blob or layer, whether it is there already or not.
    ///
    /// Garbage collection runs under the same lock, so what is found after this call stays.
    pub fn hold(&self, digest: &Digest) {
        if let Some(held) = self.store.leases().held.get_mut(&self.id) {
            held.insert(digest.clone());
        }
    }

    /// Whether there is a blob; it is held from now on.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.hold(digest);
        self.store.has_blob(digest)
    }

    /// The store the lease belongs to.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.leases().held.remove(&self.id);
    }
}
