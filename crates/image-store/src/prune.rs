//! Removing images nobody uses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wharf_ids::Digest;

use crate::error::ImageError;
use crate::remove::{ContainerUse, RemoveOptions, Removed};
use crate::store::ImageStore;

/// Which images to remove.
#[derive(Debug, Clone, Default)]
pub struct PruneFilters {
    /// Also images with a name (`dangling=false`, `--all`).
    pub all: bool,
    /// Only images made before this.
    pub until: Option<Timestamp>,
    /// Only images with all of these labels, `key` or `key=value`.
    pub labels: Vec<String>,
    /// Only images without any of these.
    pub labels_not: Vec<String>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The lines of the answer.
    pub removed: Vec<Removed>,
    /// Bytes freed.
    pub reclaimed_bytes: u64,
}

impl ImageStore {
    /// Removes images without containers, by default those without a name.
    pub fn prune(
        &self,
        filters: &PruneFilters,
        usage: &dyn Fn(&Digest) -> Vec<ContainerUse>,
    ) -> Result<Pruned, ImageError> {
        let mut pruned = Pruned::default();
        for image in self.list() {
            let young = filters
                .until
                .is_some_and(|until| image.created().is_none_or(|created| created >= until));
            let labels = &image.config.config.labels;
            let fits = filters
                .labels
                .iter()
                .all(|filter| has_label(labels, filter))
                && !filters
                    .labels_not
                    .iter()
                    .any(|filter| has_label(labels, filter));
            if (!filters.all && !image.is_dangling())
                || young
                || !fits
                || !usage(&image.id).is_empty()
            {
                continue;
            }
            // All names at once: with force only for the names, containers were asked above and are
            // asked again.
            let names: Vec<String> = image.tags.iter().map(ToString::to_string).collect();
            let texts = if names.is_empty() {
                vec![image.id.to_string()]
            } else {
                names
            };
            for text in texts {
                match self.remove_names(&text, RemoveOptions { force: false }, usage) {
                    Ok(removed) => pruned.removed.extend(removed),
                    // A container or another removal was faster.
                    Err(ImageError::InUse { .. } | ImageError::NoSuchImage(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        pruned.reclaimed_bytes = self.collect_garbage()?.bytes;
        Ok(pruned)
    }
}

fn has_label(labels: &BTreeMap<String, String>, filter: &str) -> bool {
    match filter.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|label| label == value),
        None => labels.contains_key(filter),
    }
}
