//! Between the registry client and the image store: blobs on their way in and out.
//!
//! The store's calls block, so each goes to a blocking thread; bytes are gathered first, so that
//! there is one such call for every [`GATHER_BYTES`].

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_ids::Digest;
use wharf_image_store::{BlobWriter as StoreWriter, ImageError, ImageStore, Layer, Lease};
use wharf_oci::image::Descriptor;
use wharf_registry_client::{
    BlobInfo, BlobReader, BlobRole, BlobSink, BlobSource, BlobWriter, StoreError,
};

const GATHER_BYTES: usize = 1024 * 1024;

/// Takes blobs into the store under one lease, and tells which layers can be unpacked already.
#[derive(Debug, Clone)]
pub(super) struct LeaseSink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lease: Arc<Lease>,
    arrived: Mutex<Arrived>,
    ready: mpsc::UnboundedSender<Layer>,
}

/// What has arrived so far.
#[derive(Debug, Default)]
struct Arrived {
    manifest: Option<Descriptor>,
    /// The image's layers, when its configuration is there.
    layers: Option<Vec<Layer>>,
    /// Blobs of layers that came before the configuration.
    waiting: Vec<Digest>,
}

impl LeaseSink {
    /// A sink, and the layers to unpack as they arrive. The stream ends with the sink.
    pub(super) fn new(lease: Arc<Lease>) -> (Self, mpsc::UnboundedReceiver<Layer>) {
        let (ready, layers) = mpsc::unbounded_channel();
        (
            Self {
                shared: Arc::new(Shared {
                    lease,
                    arrived: Mutex::default(),
                    ready,
                }),
            },
            layers,
        )
    }
}

impl Shared {
    /// Notes a blob that is in the store now. Reads documents: not for an async worker.
    fn arrived(&self, blob: &BlobInfo) {
        let mut arrived = self
            .arrived
            .lock()
            .expect("no code panics while it holds this lock");
        match blob.role {
            BlobRole::Index => {}
            BlobRole::Manifest => {
                arrived.manifest = Some(Descriptor::new(
                    &blob.media_type,
                    blob.digest.clone(),
                    blob.size,
                ));
            }
            BlobRole::Config => {
                let layers = arrived
                    .manifest
                    .as_ref()
                    .map(|manifest| self.lease.store().layers(manifest));
                // What is wrong with the documents is reported when the image as a whole is
                // unpacked.
                arrived.layers = layers.and_then(Result::ok);
                for digest in std::mem::take(&mut arrived.waiting) {
                    self.announce(&arrived, &digest);
                }
            }
            BlobRole::Layer if arrived.layers.is_none() => {
                arrived.waiting.push(blob.digest.clone())
            }
            BlobRole::Layer => self.announce(&arrived, &blob.digest),
        }
    }

    fn announce(&self, arrived: &Arrived, digest: &Digest) {
        for layer in arrived
            .layers
            .iter()
            .flatten()
            .filter(|layer| layer.blob.digest == *digest)
        {
            // Nobody unpacks any more when the pull was given up.
            let _ = self.ready.send(layer.clone());
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

impl BlobSink for LeaseSink {
    type Writer = SinkWriter;

    async fn has(&self, blob: &BlobInfo) -> Result<bool, StoreError> {
        let (shared, blob) = (Arc::clone(&self.shared), blob.clone());
        blocking(move || {
            let has = shared.lease.has_blob(&blob.digest);
            if has {
                shared.arrived(&blob);
            }
            Ok(has)
        })
        .await
    }

    async fn begin(&self, blob: &BlobInfo) -> Result<Option<SinkWriter>, StoreError> {
        let (shared, blob) = (Arc::clone(&self.shared), blob.clone());
        blocking(move || {
            let (digest, size) = (&blob.digest, Some(blob.size));
            let begun = match blob.role {
                BlobRole::Layer => shared.lease.begin_layer(digest, size)?,
                _ => shared.lease.begin_blob(digest, size)?,
            };
            match begun {
                Some(writer) => {
                    let offset = writer.offset();
                    Ok(Some(SinkWriter {
                        shared,
                        blob,
                        writer: Some(writer),
                        offset,
                        gathered: Vec::new(),
                    }))
                }
                None => {
                    shared.arrived(&blob);
                    Ok(None)
                }
            }
        })
        .await
    }
}

/// Takes one blob.
#[derive(Debug)]
pub(super) struct SinkWriter {
    shared: Arc<Shared>,
    blob: BlobInfo,
    /// Absent only while a blocking thread works on it, and after a call that was given up.
    writer: Option<StoreWriter>,
    /// What the store has and what is gathered.
    offset: u64,
    gathered: Vec<u8>,
}

impl SinkWriter {
    /// Runs `work` on the store's writer, after what was gathered is written.
    async fn with_writer(
        &mut self,
        work: impl FnOnce(&mut StoreWriter) -> Result<(), ImageError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let gathered = std::mem::take(&mut self.gathered);
        let mut writer = self.writer.take().ok_or("the blob was given up before")?;
        let writer = blocking(move || {
            writer.write(&gathered)?;
            work(&mut writer)?;
            Ok(writer)
        })
        .await?;
        self.writer = Some(writer);
        Ok(())
    }
}

impl BlobWriter for SinkWriter {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.offset += bytes.len() as u64;
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() < GATHER_BYTES {
            return Ok(());
        }
        self.with_writer(|_| Ok(())).await
    }

    async fn restart(&mut self) -> Result<(), StoreError> {
        self.gathered.clear();
        self.offset = 0;
        self.with_writer(StoreWriter::restart).await
    }

    async fn commit(mut self) -> Result<bool, StoreError> {
        // Not read again, and with it goes a megabyte.
        let gathered = std::mem::take(&mut self.gathered);
        let mut writer = self.writer.take().ok_or("the blob was given up before")?;
        let (shared, blob) = (Arc::clone(&self.shared), self.blob.clone());
        blocking(move || {
            writer.write(&gathered)?;
            match writer.commit() {
                Ok(()) => {
                    shared.arrived(&blob);
                    Ok(true)
                }
                Err(ImageError::DigestMismatch { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }
}

impl Drop for SinkWriter {
    /// What was gathered is kept, so that the next attempt goes on from there.
    fn drop(&mut self) {
        if let Some(mut writer) = self.writer.take()
            && !self.gathered.is_empty()
        {
            let gathered = std::mem::take(&mut self.gathered);
            let keep = move || drop(writer.write(&gathered));
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                drop(runtime.spawn_blocking(keep));
            }
        }
    }
}

/// Gives blobs of the store.
#[derive(Debug, Clone)]
pub(super) struct StoreSource(pub(super) ImageStore);

/// Gives one blob.
#[derive(Debug)]
pub(super) struct SourceReader(Option<std::fs::File>);

impl BlobSource for StoreSource {
    type Reader = SourceReader;

    async fn open(&self, digest: &Digest, offset: u64) -> Result<SourceReader, StoreError> {
        let (store, digest) = (self.0.clone(), digest.clone());
        let mut file = blocking(move || store.open_blob(&digest)).await?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(SourceReader(Some(file)))
    }
}

impl BlobReader for SourceReader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        /// One piece.
        const PIECE_BYTES: u64 = 256 * 1024;
        let Some(file) = self.0.take() else {
            return Ok(None);
        };
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            (&file).take(PIECE_BYTES).read_to_end(&mut piece)?;
            Ok::<_, std::io::Error>((file, piece))
        });
        let (file, piece) = read.await??;
        if piece.is_empty() {
            return Ok(None);
        }
        self.0 = Some(file);
        Ok(Some(piece.into()))
    }
}
