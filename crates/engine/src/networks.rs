//! Networks as the API shows them: the network crate's records in Docker's form, events, pruning.

mod describe;
mod prune;
mod request;

pub(crate) use prune::until;

use std::collections::BTreeMap;

use wharf_api_types::Filters;
use wharf_api_types::filters::FilterError;
use wharf_api_types::network::{Network as ApiNetwork, NetworkCreate, NetworkCreated};
use wharf_fault::{Error, Result};
use wharf_network::{NetworkView, Networks as Driver};
use wharf_state::Store;

use crate::{Engine, EngineConfig};

/// The networks of an engine.
#[derive(Debug, Clone)]
pub struct Networks {
    driver: Driver,
}

impl Networks {
    /// Opens the networks: the default bridge, the firewall's table, the records.
    pub async fn open(config: &EngineConfig, store: &Store) -> Result<Self> {
        let settings = request::driver_config(config)?;
        let runtime = tokio::runtime::Handle::current();
        let store = store.clone();
        let opened =
            tokio::task::spawn_blocking(move || Driver::open(store, settings, runtime)).await;
        let driver = opened
            .map_err(|source| Error::system("cannot open the networks").caused_by(source))?
            .map_err(Error::from_fault)?;
        Ok(Self { driver })
    }

    /// The network crate's handle, for everything about containers' endpoints.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Makes a network; it is durable when this returns.
    pub async fn create(&self, engine: &Engine, request: NetworkCreate) -> Result<NetworkCreated> {
        let spec = request::network_spec(request)?;
        let driver = self.driver.clone();
        let network = blocking(move || driver.create(spec).map_err(Error::from_fault)).await?;
        publish(
            engine,
            "create",
            &network.id,
            &network.name,
            network.driver.as_str(),
            None,
        );
        Ok(NetworkCreated {
            id: network.id,
            warning: String::new(),
        })
    }

    /// Removes a network by name, id or the beginning of an id.
    pub async fn remove(&self, engine: &Engine, reference: &str) -> Result<()> {
        let driver = self.driver.clone();
        let reference = reference.to_owned();
        let network =
            blocking(move || driver.remove(&reference).map_err(Error::from_fault)).await?;
        publish(
            engine,
            "destroy",
            &network.id,
            &network.name,
            network.driver.as_str(),
            None,
        );
        Ok(())
    }

    /// A network with its containers.
    pub fn inspect(&self, reference: &str) -> Result<ApiNetwork> {
        let view = self.driver.inspect(reference).map_err(Error::from_fault)?;
        Ok(describe::network(&view, true))
    }

    /// The networks that match, without their containers.
    pub fn list(&self, filters: &Filters) -> Result<Vec<ApiNetwork>> {
        let invalid = |error: FilterError| Error::invalid(error.to_string());
        filters
            .only(&["dangling", "driver", "id", "label", "name", "scope", "type"])
            .map_err(invalid)?;
        let dangling = if filters.contains("dangling") {
            Some(filters.flag("dangling", false).map_err(invalid)?)
        } else {
            None
        };
        if let Some(kind) = filters
            .get("type")
            .iter()
            .find(|kind| !matches!(kind.as_str(), "custom" | "builtin"))
        {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
        if let Some(scope) = filters
            .get("scope")
            .iter()
            .find(|scope| !matches!(scope.as_str(), "local" | "swarm" | "global"))
        {
            return Err(Error::invalid(format!("invalid filter: 'scope'='{scope}'")));
        }
        let matches = |view: &NetworkView| {
            let network = &view.network;
            let kind = if network.predefined {
                "builtin"
            } else {
                "custom"
            };
            filters.matches_exactly("driver", network.driver.as_str())
                && filters.matches_prefix("id", &network.id)
                && filters.matches_labels("label", &network.labels)
                && filters.matches_part("name", &network.name)
                && filters.matches_exactly("scope", "local")
                && filters.matches_exactly("type", kind)
                && dangling.is_none_or(|dangling| dangling == is_dangling(view))
        };
        Ok(self
            .driver
            .list()
            .iter()
            .filter(|view| matches(view))
            .map(|view| describe::network(view, false))
            .collect())
    }
}

/// Nobody uses it and it can be removed.
fn is_dangling(view: &NetworkView) -> bool {
    !view.network.predefined && view.endpoints.is_empty()
}

/// Announces something about a network; `container` is the one it happened to, if any.
pub(crate) fn publish(
    engine: &Engine,
    action: &str,
    id: &str,
    name: &str,
    driver: &str,
    container: Option<&str>,
) {
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), name.to_owned()),
        ("type".to_owned(), driver.to_owned()),
    ]);
    if let Some(container) = container {
        attributes.insert("container".to_owned(), container.to_owned());
    }
    engine.events.publish("network", action, id, attributes);
}

/// Runs `work`, which blocks, away from the async workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(source) => Err(Error::system("the engine failed on this request").caused_by(source)),
    }
}
