//! A content store in memory that keeps partial blobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wharf_ids::Digest;
use wharf_registry_client::{BlobInfo, BlobReader, BlobSink, BlobSource, BlobWriter, StoreError};

pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

#[derive(Debug, Default)]
pub struct Memory {
    pub whole: Mutex<HashMap<Digest, Bytes>>,
    pub partial: Arc<Mutex<HashMap<Digest, Vec<u8>>>>,
}

impl Memory {
    pub fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.whole.lock().unwrap().get(digest).cloned()
    }

    pub fn put(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        self.whole.lock().unwrap().insert(digest.clone(), bytes);
        digest
    }
}

/// A handle, so that writers can outlive borrows.
#[derive(Debug, Clone, Default)]
pub struct Store(pub Arc<Memory>);

impl std::ops::Deref for Store {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.0
    }
}

#[derive(Debug)]
pub struct Writer {
    store: Store,
    digest: Digest,
    bytes: Vec<u8>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if !bytes.is_empty() {
            self.store
                .partial
                .lock()
                .unwrap()
                .insert(self.digest.clone(), bytes);
        }
    }
}

impl BlobSink for Store {
    type Writer = Writer;

    async fn has(&self, blob: &BlobInfo) -> Result<bool, StoreError> {
        Ok(self.get(&blob.digest).is_some())
    }

    async fn begin(&self, blob: &BlobInfo) -> Result<Option<Writer>, StoreError> {
        let bytes = self
            .partial
            .lock()
            .unwrap()
            .remove(&blob.digest)
            .unwrap_or_default();
        Ok(Some(Writer {
            store: self.clone(),
            digest: blob.digest.clone(),
            bytes,
        }))
    }
}

impl BlobWriter for Writer {
    fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), StoreError> {
        self.bytes.clear();
        Ok(())
    }

    async fn commit(mut self) -> Result<bool, StoreError> {
        let bytes = std::mem::take(&mut self.bytes);
        if digest_of(&bytes) != self.digest {
            return Ok(false);
        }
        self.store.put(bytes);
        Ok(true)
    }
}

#[derive(Debug)]
pub struct Reader(Bytes);

impl BlobSource for Store {
    type Reader = Reader;

    async fn open(&self, digest: &Digest, offset: u64) -> Result<Reader, StoreError> {
        let mut bytes = self.get(digest).ok_or("no such blob")?;
        Ok(Reader(bytes.split_off(usize::try_from(offset)?)))
    }
}

impl BlobReader for Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let length = self.0.len().min(64 << 10);
        Ok(Some(self.0.split_to(length)))
    }
}
