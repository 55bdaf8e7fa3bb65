//! Giving a container another name.

use wharf_fault::{Error, Result};

use crate::Engine;

impl Engine {
    /// Renames; durable when this returns.
    pub async fn container_rename(&self, reference: &str, new_name: &str) -> Result<()> {
        if reference.is_empty() || new_name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.containers.find(reference)?;
        let new_name = new_name.strip_prefix('/').unwrap_or(new_name);
        let _op = container.op.lock().await;
        let old_name = container.name();
        if old_name == new_name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.containers
            .registry
            .reserve_name(new_name, &container.id)?;
        container.write().record.name = new_name.to_owned();
        if let Err(error) = self.containers.persist_now(&container).await {
            container.write().record.name = old_name;
            self.containers.registry.release_name(new_name);
            return Err(error);
        }
        self.containers.registry.release_name(&old_name);
        if container.read().run.is_some() {
            self.networks
                .driver()
                .rename(container.id.as_str(), new_name);
        }
        let attributes = container.event_attributes([("oldName", format!("/{old_name}"))]);
        self.events
            .publish("container", "rename", container.id.as_str(), attributes);
        Ok(())
    }
}
