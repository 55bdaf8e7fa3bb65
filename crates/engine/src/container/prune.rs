//! Removing all stopped containers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wharf_api_types::Filters;
use wharf_api_types::container::ContainersPruned;
use wharf_api_types::time;
use wharf_fault::{Error, Result};

use crate::Engine;

impl Engine {
    /// Removes the stopped containers that match (`until`, `label`, `label!`).
    pub async fn container_prune(&self, filters: &Filters) -> Result<ContainersPruned> {
        filters
            .only(&["label", "label!", "until"])
            .map_err(|error| Error::invalid(error.to_string()))?;
        let until = match filters.get("until") {
            [] => None,
            [text] => Some(
                time::parse_reference(text, Timestamp::now())
                    .ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}'")))?,
            ),
            _ => return Err(Error::invalid("more than one until filter specified")),
        };
        let mut pruned = ContainersPruned::default();
        for container in self.containers.registry.all() {
            let wanted = {
                let cell = container.read();
                let labels = cell.record.config.labels.clone().unwrap_or_default();
                !cell.record.state.is_running()
                    && until.is_none_or(|until| cell.record.created_at < until)
                    && filters.matches_labels("label", &labels)
                    && filters.excludes_labels("label!", &labels)
            };
            if !wanted {
                continue;
            }
            let size = self
                .sizes(&container)
                .await
                .ok()
                .and_then(|(own, _)| own)
                .unwrap_or(0);
            match self
                .container_remove(container.id.as_str(), false, false)
                .await
            {
                Ok(()) => {
                    pruned
                        .containers_deleted
                        .get_or_insert_default()
                        .push(container.id.to_string());
                    pruned.space_reclaimed += u64::try_from(size).unwrap_or(0);
                }
                // Started or removed meanwhile.
                Err(error) => tracing::debug!(%error, container.id = %container.id, "not pruned"),
            }
        }
        let attributes =
            BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
        self.events.publish("container", "prune", "", attributes);
        Ok(pruned)
    }
}
