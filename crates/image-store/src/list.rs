//! All images.

use std::sync::Arc;

use wharf_oci::image::Descriptor;

use crate::image::Image;
use crate::store::ImageStore;

impl ImageStore {
    /// All images, newest first, each with all of its names. An image that can not be read is left
    /// out and logged: it must not hide the others.
    pub fn list(&self) -> Vec<Arc<Image>> {
        let mut targets: Vec<Descriptor> = self
            .catalog()
            .images
            .values()
            .map(|record| record.target.clone())
            .collect();
        targets.sort_by(|a, b| a.digest.cmp(&b.digest));
        targets.dedup_by(|a, b| a.digest == b.digest);
        let mut images: Vec<Arc<Image>> = targets
            .iter()
            .filter_map(|target| match self.view(target, None) {
                Ok(image) => image,
                Err(error) => {
                    tracing::warn!(image.id = %target.digest, error = wharf_fault::chain(&error), "unreadable image");
                    None
                }
            })
            .collect();
        images.sort_by(|a, b| b.created().cmp(&a.created()).then_with(|| a.id.cmp(&b.id)));
        images
    }
}
