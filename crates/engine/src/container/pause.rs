//! Freezing and thawing.

use wharf_container_runtime::cgroup::Cgroup;
use wharf_fault::{Error, Result};

use super::live::Container;
use crate::Engine;

impl Engine {
    /// Freezes every process of a container.
    pub async fn container_pause(&self, reference: &str) -> Result<()> {
        let container = self.containers.find(reference)?;
        let _op = container.op.lock().await;
        let cgroup_path = {
            let cell = container.read();
            let state = &cell.record.state;
            if state.restarting {
                let id = &container.id;
                return Err(Error::conflict(format!(
                    "container {id} is restarting, wait until the container is running"
                )));
            }
            if state.paused {
                return Err(Error::conflict(format!(
                    "container {} is already paused",
                    container.id
                )));
            }
            match &cell.run {
                Some(run) => run.kept.cgroup_path.clone(),
                None => return Err(container.not_running()),
            }
        };
        if !self.freeze_by_program(&container, true).await? {
            if cgroup_path.is_empty() {
                return Err(Error::conflict(format!(
                    "cannot pause container {}: it has no cgroup, because none is delegated to this user",
                    container.id
                )));
            }
            freeze(&cgroup_path, true).await.map_err(|source| {
                Error::system(format!("cannot pause container {}", container.id)).caused_by(source)
            })?;
        }
        self.note_paused(&container, true);
        self.events.publish(
            "container",
            "pause",
            container.id.as_str(),
            container.event_attributes([]),
        );
        Ok(())
    }

    /// Lets a frozen container go on.
    pub async fn container_unpause(&self, reference: &str) -> Result<()> {
        let container = self.containers.find(reference)?;
        let _op = container.op.lock().await;
        let cgroup_path = {
            let cell = container.read();
            match &cell.run {
                Some(run) if cell.record.state.paused => run.kept.cgroup_path.clone(),
                _ => {
                    return Err(Error::conflict(format!(
                        "container {} is not paused",
                        container.id
                    )));
                }
            }
        };
        if !self.freeze_by_program(&container, false).await? {
            freeze(&cgroup_path, false).await.map_err(|source| {
                Error::system(format!("cannot unpause container {}", container.id))
                    .caused_by(source)
            })?;
        }
        self.note_paused(&container, false);
        self.events.publish(
            "container",
            "unpause",
            container.id.as_str(),
            container.event_attributes([]),
        );
        Ok(())
    }

    /// Books it, for the next daemon too.
    pub(super) fn note_paused(&self, container: &Container, paused: bool) {
        {
            let mut cell = container.write();
            cell.record.state.paused = paused;
            if let Some(run) = &mut cell.run {
                run.kept.paused = paused;
                if let Err(error) = run.kept.write(&run.run_dir) {
                    tracing::warn!(%error, container.id = %container.id, "cannot note that a container is paused");
                }
            }
        }
        self.containers.persist(container);
    }
}

/// Freezing waits for every process: not on a worker thread.
async fn freeze(path: &str, frozen: bool) -> std::io::Result<()> {
    let path = path.to_owned();
    let work = move || {
        let cgroup = Cgroup::at(&path)?;
        if frozen {
            cgroup.pause()
        } else {
            cgroup.resume()
        }
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}
