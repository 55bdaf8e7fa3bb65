//! Making an image of one layer from a root file system's archive.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Cursor, Read, Write as _};

use jiff::Timestamp;
use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::{Descriptor, History, ImageConfig, Manifest, RootFs, media_type};
use wharf_oci::platform::Platform;

use crate::changes::apply_changes;
use crate::compression::{Compression, read_start};
use crate::error::ImageError;
use crate::lease::Lease;
use crate::store::ImageStore;
use crate::tee::LayerTee;

const READ_BUFFER_BYTES: usize = 1024 * 1024;

/// What an imported image gets besides its files.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Its name; without one only the id names it.
    pub name: Option<ImageRef>,
    /// Comment of its only step.
    pub message: String,
    /// Instructions of a Dockerfile that change the configuration (`CMD`, `ENV`, …).
    pub changes: Vec<String>,
    /// What it is for; this machine's platform when not given.
    pub platform: Option<Platform>,
}

impl ImageStore {
    /// Imports a root file system (tar; plain, gzip or zstd) and returns the image's id.
    pub fn import(
        &self,
        source: impl Read + Send,
        options: &ImportOptions,
    ) -> Result<Digest, ImageError> {
        let lease = self.lease();
        let imported = lease.import(source, options);
        drop(lease);
        if imported.is_err() {
            self.collect_garbage()?;
            self.empty_trash()?;
        }
        imported
    }
}

impl Lease {
    fn import(
        &self,
        mut source: impl Read + Send,
        options: &ImportOptions,
    ) -> Result<Digest, ImageError> {
        // Wrong instructions are found before a gigabyte is read.
        let config = apply_changes(&options.changes)?;
        let start = read_start(&mut source, 512).map_err(ImageError::Read)?;
        let compression = Compression::detect(&start).map_err(ImageError::Read)?;
        let source = BufReader::with_capacity(READ_BUFFER_BYTES, Cursor::new(start).chain(source));
        let (layer, diff_id) = self.import_layer(source, compression)?;
        let created = Some(Timestamp::now().to_string());
        let config = ImageConfig {
            created: created.clone(),
            author: String::new(),
            platform: options.platform.clone().unwrap_or_else(Platform::host),
            config,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: vec![diff_id],
            },
            history: vec![History {
                created,
                comment: options.message.clone(),
                ..History::default()
            }],
            other: BTreeMap::new(),
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config: self.put_document(media_type::OCI_CONFIG, &config)?,
            layers: vec![layer],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let target = self.put_document(media_type::OCI_MANIFEST, &manifest)?;
        self.unpack(&target, None, &|_| {})?;
        match &options.name {
            Some(name) => self.store.set_image(name, &target)?,
            None => self.store.set_dangling(&target)?,
        }
        Ok(target.digest)
    }

    /// Stores the layer as it came and unpacks it on a second thread.
    fn import_layer(
        &self,
        mut source: BufReader<impl Read>,
        compression: Compression,
    ) -> Result<(Descriptor, Digest), ImageError> {
        let mut tee = LayerTee::begin(&self.store)?;
        let mut ingest = self.store.inner.content.begin(u64::MAX)?;
        loop {
            let piece = source.fill_buf().map_err(ImageError::Read)?;
            // When nobody unpacks any more, that side says what is wrong with the archive.
            if piece.is_empty() || !tee.write(piece) {
                break;
            }
            ingest.write_all(piece).map_err(ImageError::io(
                "write",
                &self.store.inner.content.path(&ingest.digest()),
            ))?;
            let length = piece.len();
            source.consume(length);
        }
        let unpacked = tee.finish()?;
        let (digest, size) = self.publish(ingest)?;
        let diff_id = unpacked.diff_id.clone().unwrap_or_else(|| digest.clone());
        self.staged.insert_unpacked(&digest, unpacked);
        let media_type = match compression {
            Compression::None => media_type::OCI_LAYER,
            Compression::Gzip => media_type::OCI_LAYER_GZIP,
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        };
        Ok((Descriptor::new(media_type, digest, size), diff_id))
    }
}
