//! Removing the networks no container uses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wharf_api_types::Filters;
use wharf_api_types::network::NetworksPruned;
use wharf_api_types::time::parse_reference;
use wharf_fault::{Error, Result};

use super::{Networks, is_dangling};
use crate::Engine;

impl Networks {
    /// Removes user-defined networks without containers.
    pub async fn prune(&self, engine: &Engine, filters: &Filters) -> Result<NetworksPruned> {
        filters
            .only(&["label", "label!", "until"])
            .map_err(|error| Error::invalid(error.to_string()))?;
        let until = until(filters)?;
        let mut deleted = Vec::new();
        for view in self.driver.list() {
            let network = &view.network;
            let made_before = |until: Timestamp| {
                network
                    .created
                    .parse::<Timestamp>()
                    .is_ok_and(|made| made <= until)
            };
            let matches = is_dangling(&view)
                && filters.matches_labels("label", &network.labels)
                && filters.excludes_labels("label!", &network.labels)
                && until.is_none_or(made_before);
            // One that is in use by now is left alone.
            if matches && self.remove(engine, &network.id).await.is_ok() {
                deleted.push(network.name.clone());
            }
        }
        engine.events.publish(
            "network",
            "prune",
            "",
            BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]),
        );
        Ok(NetworksPruned {
            networks_deleted: (!deleted.is_empty()).then_some(deleted),
        })
    }
}

/// The `until` filter of prunes: at most one point in time.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    match filters.get("until") {
        [] => Ok(None),
        [text] => match parse_reference(text, Timestamp::now()) {
            Some(until) => Ok(Some(until)),
            None => Err(Error::invalid(format!("invalid filter 'until={text}'"))),
        },
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}
