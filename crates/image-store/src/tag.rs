//! Giving names to images.

use std::collections::HashSet;
use std::sync::MutexGuard;

use jiff::Timestamp;
use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::Descriptor;
use wharf_state::Batch;

use crate::catalog::Query;
use crate::error::ImageError;
use crate::record::{self, ImageRecord, dangling_name, is_dangling};
use crate::store::ImageStore;

impl ImageStore {
    /// Points a name (with a tag or a digest) to a manifest or index that is in the store. What it
    /// pointed to before stays as an image without a name. Everything written so far is durable
    /// when this returns.
    pub fn set_image(&self, name: &ImageRef, target: &Descriptor) -> Result<(), ImageError> {
        self.inner.snapshots.sync()?;
        self.set_record(
            &self.begin_change(),
            &name.clone().or_latest().to_string(),
            target,
        )
    }

    /// Keeps an image without a name.
    pub fn set_dangling(&self, target: &Descriptor) -> Result<(), ImageError> {
        self.inner.snapshots.sync()?;
        let change = self.begin_change();
        if self.catalog().with_target(&target.digest).next().is_some() {
            return Ok(());
        }
        self.set_record(&change, &dangling_name(&target.digest), target)
    }

    /// Gives an image another name; returns the image's id.
    pub fn tag(&self, source: &str, target: &ImageRef) -> Result<Digest, ImageError> {
        if target.digest.is_some() {
            return Err(ImageError::TagWithDigest);
        }
        let query = Query::parse(source)?;
        // Found and named under one lock: in between, another caller could remove it for good.
        let change = self.begin_change();
        let descriptor = self.catalog().find(&query)?.1.target.clone();
        self.set_record(
            &change,
            &target.clone().or_latest().to_string(),
            &descriptor,
        )?;
        Ok(descriptor.digest)
    }

    fn set_record(
        &self,
        _change: &MutexGuard<'_, ()>,
        name: &str,
        target: &Descriptor,
    ) -> Result<(), ImageError> {
        // Annotations of the place it came from (a name in somebody's index) are not the image's.
        let target = Descriptor {
            annotations: Default::default(),
            ..target.clone()
        };
        if !self.has_blob(&target.digest) {
            return Err(ImageError::MissingContent(target.digest));
        }
        let now = Timestamp::now();
        let mut changes: Vec<(String, Option<ImageRecord>)> = Vec::new();
        {
            let catalog = self.catalog();
            if let Some(old) = catalog.images.get(name)
                && old.target.digest != target.digest
                && catalog.with_target(&old.target.digest).count() == 1
            {
                let record = ImageRecord {
                    target: old.target.clone(),
                    updated: now,
                };
                changes.push((dangling_name(&old.target.digest), Some(record)));
            }
            let dangling = dangling_name(&target.digest);
            if !is_dangling(name) && catalog.images.contains_key(&dangling) {
                changes.push((dangling, None));
            }
            changes.push((
                name.to_owned(),
                Some(ImageRecord {
                    target,
                    updated: now,
                }),
            ));
        }
        self.commit_images(changes)
    }

    /// Writes changes of names and shows them to everybody. The caller holds the change lock.
    pub(crate) fn commit_images(
        &self,
        changes: Vec<(String, Option<ImageRecord>)>,
    ) -> Result<(), ImageError> {
        let mut batch = Batch::new();
        for (name, record) in &changes {
            match record {
                Some(record) => batch.put(record::IMAGES, name, record),
                None => batch.delete(record::IMAGES, name),
            };
        }
        self.inner.state.commit(batch)?;
        let mut catalog = self.catalog_mut();
        let mut ids = HashSet::new();
        for (name, record) in changes {
            ids.extend(record.as_ref().map(|record| record.target.digest.clone()));
            let before = match record {
                Some(record) => catalog.images.insert(name, record),
                None => catalog.images.remove(&name),
            };
            ids.extend(before.map(|before| before.target.digest));
        }
        catalog.names_changed(&ids);
        Ok(())
    }
}
