//! Removing the volumes no container uses.

use std::collections::BTreeMap;

use wharf_api_types::Filters;
use wharf_api_types::filters::FilterError;
use wharf_api_types::volume::VolumesPruned;
use wharf_fault::{Error, Result};

use super::Volumes;
use crate::Engine;

impl Volumes {
    /// Removes volumes no container uses. Without `all` (the filter, or `all_by_default` for
    /// clients older than API 1.42) only anonymous ones.
    pub async fn prune(
        &self,
        engine: &Engine,
        filters: &Filters,
        all_by_default: bool,
    ) -> Result<VolumesPruned> {
        let invalid = |error: FilterError| Error::invalid(error.to_string());
        filters.only(&["all", "label", "label!"]).map_err(invalid)?;
        let all = filters.flag("all", all_by_default).map_err(invalid)?;
        let candidates: Vec<String> = {
            let state = self.lock();
            let wanted = |(name, record): (&String, &super::VolumeRecord)| {
                let none = BTreeMap::new();
                let labels = record.labels.as_ref().unwrap_or(&none);
                let matches = (all || record.is_anonymous())
                    && filters.matches_labels("label", labels)
                    && filters.excludes_labels("label!", labels);
                matches.then(|| name.clone())
            };
            state.records.iter().filter_map(wanted).collect()
        };
        let mut pruned = VolumesPruned::default();
        for name in candidates {
            let size = self.size(&name).await?;
            // One that is in use by now is left alone.
            if self.remove(engine, &name, false).await.is_ok() {
                pruned.space_reclaimed += size;
                pruned.volumes_deleted.push(name);
            }
        }
        let reclaimed =
            BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
        engine.events.publish("volume", "prune", "", reclaimed);
        Ok(pruned)
    }
}
