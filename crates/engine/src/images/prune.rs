//! Removing the images no container uses.

use std::collections::BTreeMap;

use wharf_api_types::Filters;
use wharf_api_types::image::ImagesPruned;
use wharf_fault::{Error, Result};
use wharf_ids::Digest;
use wharf_image_store::PruneFilters;

use super::{Images, container_use, deleted};
use crate::Engine;
use crate::networks::{blocking, until};

impl Images {
    /// Removes images no container uses: those without a name, or all with `dangling=false`.
    pub async fn prune(&self, engine: &Engine, filters: &Filters) -> Result<ImagesPruned> {
        let invalid =
            |error: wharf_api_types::filters::FilterError| Error::invalid(error.to_string());
        filters
            .only(&["dangling", "label", "label!", "until"])
            .map_err(invalid)?;
        let wanted = PruneFilters {
            all: !filters.flag("dangling", true).map_err(invalid)?,
            until: until(filters)?,
            labels: filters.get("label").to_vec(),
            labels_not: filters.get("label!").to_vec(),
        };
        let (store, containers) = (self.store.clone(), engine.clone());
        let pruned = blocking(move || {
            let usage = |id: &Digest| container_use(&containers, id);
            store.prune(&wanted, &usage).map_err(Error::from_fault)
        })
        .await?;
        self.announce_removal(engine, "", &pruned.removed);
        self.empty_trash_later();
        let reclaimed =
            BTreeMap::from([("reclaimed".to_owned(), pruned.reclaimed_bytes.to_string())]);
        engine.events.publish("image", "prune", "", reclaimed);
        let removed: Vec<_> = pruned.removed.into_iter().map(deleted).collect();
        Ok(ImagesPruned {
            images_deleted: (!removed.is_empty()).then_some(removed),
            space_reclaimed: pruned.reclaimed_bytes,
        })
    }
}
