//! All containers in memory: by id, by name, by the beginning of an id.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use wharf_fault::{Error, Result};
use wharf_ids::{ContainerId, validate_container_name};

use super::live::Container;

/// The index of all containers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Also holds the names of containers that are just being made.
    names: HashMap<String, ContainerId>,
}

/// Docker's text for a reference that finds nothing.
pub(super) fn no_such_container(reference: &str) -> Error {
    Error::not_found(format!("No such container: {reference}"))
}

impl Registry {
    /// Finds a container by full id, name, or unique beginning of its id.
    pub(super) fn find(&self, reference: &str) -> Result<Arc<Container>> {
        if reference.is_empty() {
            return Err(Error::invalid("No container name or ID supplied"));
        }
        let maps = self.read();
        if let Some(container) = maps.by_id.get(reference) {
            return Ok(Arc::clone(container));
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(container) = maps
            .names
            .get(name)
            .and_then(|id| maps.by_id.get(id.as_str()))
        {
            return Ok(Arc::clone(container));
        }
        let mut matches = maps
            .by_id
            .range(reference.to_owned()..)
            .take_while(|(id, _)| id.starts_with(reference))
            .map(|(_, container)| container);
        match (matches.next(), matches.next()) {
            (Some(container), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {reference}"
            ))),
            (None, _) => Err(no_such_container(reference)),
        }
    }

    /// All containers, in the order of their ids.
    pub(super) fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Takes `name` for `id`, or says who has it.
    pub(super) fn reserve_name(&self, name: &str, id: &ContainerId) -> Result<()> {
        validate_container_name(name).map_err(|error| Error::invalid(error.to_string()))?;
        let mut maps = self.write();
        match maps.names.get(name) {
            Some(owner) => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            ))),
            None => {
                maps.names.insert(name.to_owned(), id.clone());
                Ok(())
            }
        }
    }

    /// Whether `name` is taken.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.read().names.contains_key(name)
    }

    /// Gives `name` back.
    pub(super) fn release_name(&self, name: &str) {
        self.write().names.remove(name);
    }

    /// Adds a container whose name is reserved.
    pub(super) fn insert(&self, container: Arc<Container>) {
        let name = container.name();
        let mut maps = self.write();
        maps.names.insert(name, container.id.clone());
        maps.by_id.insert(container.id.to_string(), container);
    }

    /// Forgets a container and its name.
    pub(super) fn remove(&self, container: &Container) {
        let name = container.name();
        let mut maps = self.write();
        maps.by_id.remove(container.id.as_str());
        if maps.names.get(&name) == Some(&container.id) {
            maps.names.remove(&name);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps
            .read()
            .expect("no code panics while it holds this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps
            .write()
            .expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::{ContainerRecord, ImageSource, State};

    fn add(registry: &Registry, id: &str, name: &str) {
        let id: ContainerId = format!("{id}{}", "0".repeat(64 - id.len()))
            .parse()
            .unwrap();
        registry.reserve_name(name, &id).unwrap();
        let record = ContainerRecord {
            id,
            name: name.to_owned(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            image: ImageSource::default(),
            manifest: None,
            path: String::new(),
            args: Vec::new(),
            config: Default::default(),
            host_config: Default::default(),
            networks: Default::default(),
            mounts: Vec::new(),
            id_maps: None,
            labels: Default::default(),
            state: State::default(),
        };
        registry.insert(Arc::new(Container::new(record)));
    }

    #[test]
    fn containers_are_found_by_id_name_and_prefix() {
        let registry = Registry::default();
        add(&registry, "abc1", "web");
        add(&registry, "abc2", "abc");
        assert_eq!(registry.find("abc1").unwrap().name(), "web");
        assert_eq!(registry.find("/web").unwrap().name(), "web");
        // A name is stronger than the beginning of an id.
        assert_eq!(registry.find("abc").unwrap().name(), "abc");
        assert_eq!(
            registry.find("ab").unwrap_err().to_string(),
            "multiple IDs found with provided prefix: ab"
        );
        assert_eq!(
            registry.find("x").unwrap_err().to_string(),
            "No such container: x"
        );
    }

    #[test]
    fn a_name_is_taken_once() {
        let registry = Registry::default();
        add(&registry, "abc1", "web");
        let error = registry
            .reserve_name("web", &ContainerId::random())
            .unwrap_err();
        assert_eq!(error.kind(), wharf_fault::Kind::Conflict);
        assert!(error.to_string().starts_with(
            "Conflict. The container name \"/web\" is already in use by container \"abc1"
        ));
        let container = registry.find("web").unwrap();
        registry.remove(&container);
        assert!(!registry.is_taken("web"));
    }
}
