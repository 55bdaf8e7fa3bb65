//! Removing containers and links.

use std::sync::Arc;

use wharf_fault::{Error, Kind, Result};
use wharf_shim_protocol::SignalOrigin;
use wharf_state::Batch;

use super::exit::TIDY_AFTER;
use super::live::Container;
use super::record::{Phase, TABLE};
use super::registry::no_such_container;
use super::signal;
use super::stop::KILL_PATIENCE;
use super::validate::parse_link;
use super::volume_intent;
use crate::Engine;

impl Engine {
    /// Removes a container; durable when this returns. `volumes` takes its anonymous volumes along.
    pub async fn container_remove(
        &self,
        reference: &str,
        force: bool,
        volumes: bool,
    ) -> Result<()> {
        let container = self.containers.find(reference)?;
        // Set before the lock is free, so that a second caller hears of the first.
        {
            let mut cell = container.write();
            if cell.record.state.removing || cell.gone {
                return Err(Error::conflict(format!(
                    "removal of container {} is already in progress",
                    container.id
                )));
            }
            let state = &cell.record.state;
            if state.is_running() && !force {
                let (name, status) = (&cell.record.name, state.status());
                let hint = if state.paused {
                    format!("container is {status} and must be unpaused first")
                } else {
                    format!(
                        "container is {status}: stop the container before removing or force remove"
                    )
                };
                return Err(Error::conflict(format!(
                    "cannot remove container \"/{name}\": {hint}"
                )));
            }
            cell.record.state.removing = true;
        }
        // At once: whoever holds the lock may be waiting for a slow stop.
        let killed = if container.read().run.is_some() {
            self.kill_for_removal(&container).await
        } else {
            Ok(())
        };
        let removed = {
            let _op = container.op.lock().await;
            match killed {
                Ok(()) => self.kill_and_remove(&container, volumes).await,
                Err(error) => Err(error),
            }
        };
        if removed.is_err() {
            container.write().record.state.removing = false;
        }
        removed.map_err(|error| {
            let text = wharf_fault::chain(&error);
            Error::new(
                error.kind(),
                format!("cannot remove container \"/{}\": {text}", container.name()),
            )
        })
    }

    async fn kill_and_remove(&self, container: &Arc<Container>, volumes: bool) -> Result<()> {
        if container.read().gone {
            return Err(no_such_container(container.id.as_str()));
        }
        if container.read().record.state.is_running() {
            if container.read().run.is_none() {
                self.cancel_restart(container);
            } else {
                self.kill_for_removal(container).await?;
            }
        }
        self.remove_locked(container, volumes).await
    }

    async fn kill_for_removal(&self, container: &Arc<Container>) -> Result<()> {
        let mut watch = container.watch();
        {
            let mut cell = container.write();
            if let Some(run) = &mut cell.run {
                run.kept.stop_requested = true;
                // `--rm` would remove a second time.
                run.keep_on_exit = true;
            }
        }
        match self
            .signal_main(container, signal::KILL, SignalOrigin::Remove, true)
            .await
        {
            Ok(()) => {}
            // It ended by itself meanwhile.
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) => return Err(error),
        }
        let ended = watch.wait_for(|watched| !watched.running);
        match tokio::time::timeout(KILL_PATIENCE, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::system(
                "could not kill container: tried to kill container, but did not receive an exit event",
            )),
        }
    }

    /// Removes a stopped container; the caller holds `op`.
    pub(super) async fn remove_locked(
        &self,
        container: &Arc<Container>,
        volumes: bool,
    ) -> Result<()> {
        let id = &container.id;
        {
            let mut cell = container.write();
            if cell.gone {
                return Ok(());
            }
            cell.gone = true;
            cell.record.state.removing = true;
        }
        let mut batch = container.read().record.batch();
        batch.delete(TABLE, id.as_str());
        self.images.store().release_container(id, &mut batch);
        let (auto_remove, anonymous) = {
            let record = &container.read().record;
            let anonymous: Vec<String> = record.anonymous_volumes().map(str::to_owned).collect();
            (record.host_config.auto_remove, anonymous)
        };
        let (anonymous, kept) = if volumes {
            (anonymous, Vec::new())
        } else {
            (Vec::new(), anonymous)
        };
        // Theirs are noted since they were made.
        if !auto_remove {
            for volume in &anonymous {
                volume_intent::note(&mut batch, volume);
            }
        }
        let committed = async {
            if auto_remove {
                self.forget_volume_notes(&kept).await?;
            }
            super::commit(&self.store, batch).await
        };
        if let Err(error) = committed.await {
            let mut cell = container.write();
            cell.gone = false;
            cell.record.state.removing = false;
            cell.record.state.phase = Phase::Dead;
            return Err(error);
        }
        // From here on the container is gone whatever happens; leftovers go with the next start.
        let attributes = container.event_attributes([]);
        self.containers.registry.remove(container);
        self.forget_execs(container);
        drop(self.containers.ahead.take(id));
        self.discard_next_id(id);
        let images = self.images.store().clone();
        let exit = self.containers.exits.join(id.as_str());
        let discarded = [
            images.discard_container(id),
            images.discard_directory(&self.containers.directory(id)),
        ];
        for error in discarded.into_iter().filter_map(std::result::Result::err) {
            tracing::warn!(error = %wharf_fault::chain(&error), container.id = %id, "cannot discard a container's directories");
        }
        if auto_remove
            && let Err(error) = std::fs::remove_dir_all(&exit)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %exit.display(), "cannot remove a container's exit record");
        }
        self.remove_anonymous_volumes(&anonymous).await;
        self.events
            .publish("container", "destroy", id.as_str(), attributes);
        container.announce(|watched| watched.removed = true);
        // Deleting files takes longer than anybody wants to wait.
        let sweep = move || {
            if let Err(error) = images.empty_trash() {
                tracing::warn!(error = %wharf_fault::chain(&error), "cannot empty the trash");
            }
        };
        tokio::spawn(async move {
            tokio::time::sleep(TIDY_AFTER).await;
            drop(tokio::task::spawn_blocking(sweep).await);
        });
        Ok(())
    }

    /// Volumes that stay although their container goes.
    async fn forget_volume_notes(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for name in names {
            volume_intent::forget(&mut batch, name);
        }
        super::commit(&self.store, batch).await
    }

    async fn remove_anonymous_volumes(&self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let mut batch = Batch::new();
        for name in names {
            volume_intent::forget(&mut batch, name);
            match self.volumes.remove(self, name, true).await {
                Ok(()) => {}
                // Another container took it over with `--volumes-from`.
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => {
                    tracing::warn!(%error, volume = %name, "cannot remove an anonymous volume");
                }
            }
        }
        self.store.commit_then(batch, drop);
    }

    /// `rm --link parent/alias`: forgets a legacy link.
    pub async fn container_remove_link(&self, reference: &str) -> Result<()> {
        let path = reference.strip_prefix('/').unwrap_or(reference);
        let Some((parent, alias)) = path.split_once('/') else {
            return Err(Error::conflict(
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        let container = self.containers.find(parent)?;
        let _op = container.op.lock().await;
        {
            let mut cell = container.write();
            let links = cell.record.host_config.links.get_or_insert_default();
            let before = links.len();
            links.retain(|link| {
                parse_link(link)
                    .map(|(_, known)| known != alias)
                    .unwrap_or(true)
            });
            if links.len() == before {
                return Err(Error::not_found(format!("No such link: {reference}")));
            }
        }
        self.containers.persist_now(&container).await
    }
}
