//! The id of the next container, chosen before there is one, so that its cgroup is there by the time
//! it starts: on split hierarchies that is a directory in each of them.
//!
//! ```text
//! a start ──a moment later──▶ noted in a file, made
//! create ──the engine's own cgroup parent──▶ given: the new container gets the id
//! start  ──succeeded──▶ used: the run's own record is about the cgroup now; the note goes
//! ```
//!
//! What is not used is removed: with its container, with an orderly end, or by the next engine, which
//! finds the note.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use wharf_api_types::container::CreateContainer;
use wharf_container_runtime::cgroup::Cgroup;
use wharf_fault::{Error, Result};
use wharf_ids::ContainerId;

use super::cgroups;
use crate::Engine;

/// How many are kept, given ones included: those of containers that are created and not started.
const KEPT_MAX: usize = 8;

/// The ids that have a cgroup and no run, oldest first; none any more at this process's end.
#[derive(Debug)]
pub(super) struct NextIds {
    /// A file for each, with its cgroup's path.
    notes: PathBuf,
    kept: Mutex<Option<Vec<Kept>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Kept {
    id: ContainerId,
    /// From the hierarchy's root.
    cgroup: String,
    /// Whether a container has it.
    given: bool,
}

impl NextIds {
    /// None yet. `notes` is a directory of the engine's own that goes with the machine's cgroups.
    pub(super) fn new(notes: PathBuf) -> Self {
        Self {
            notes,
            kept: Mutex::new(Some(Vec::new())),
        }
    }

    /// One for a new container.
    fn give(&self) -> Option<ContainerId> {
        let mut kept = self.kept();
        let next = kept.iter_mut().flatten().find(|kept| !kept.given)?;
        next.given = true;
        Some(next.id.clone())
    }

    /// Takes out what there is about `id`, for the caller to see to.
    pub(super) fn let_go(&self, id: &ContainerId) -> Option<Kept> {
        let mut kept = self.kept();
        let kept = kept.as_mut()?;
        let index = kept.iter().position(|kept| kept.id == *id)?;
        Some(kept.remove(index))
    }

    fn has_next(&self) -> bool {
        // At this process's end there is nothing to wait for.
        let kept = self.kept();
        kept.as_ref()
            .is_none_or(|kept| kept.iter().any(|kept| !kept.given))
    }

    /// Keeps `next`; returns what is too much.
    fn keep(&self, next: Kept) -> Option<Kept> {
        let mut kept = self.kept();
        let Some(kept) = kept.as_mut().filter(|kept| kept.iter().all(|it| it.given)) else {
            return Some(next);
        };
        kept.push(next);
        (kept.len() > KEPT_MAX).then(|| kept.remove(0))
    }

    /// Deletes the note about an id, whose cgroup is somebody else's care or gone.
    pub(super) fn forget(&self, used: &Kept) {
        forget(&self.notes.join(used.id.as_str()));
    }

    /// Removes a cgroup that has not been used.
    pub(super) fn discard(&self, unused: &Kept) {
        remove(&unused.cgroup);
        self.forget(unused);
    }

    fn make(&self, id: ContainerId, cgroup: String) -> Result<Kept> {
        let note = self.notes.join(id.as_str());
        std::fs::write(&note, &cgroup).map_err(|source| {
            Error::system(format!("cannot write {}", note.display())).caused_by(source)
        })?;
        let next = Kept {
            id,
            cgroup,
            given: false,
        };
        let made = Cgroup::at(&next.cgroup)
            .map_err(|source| {
                Error::system(format!("cannot look for the cgroup {}", next.cgroup))
                    .caused_by(source)
            })
            .and_then(|cgroup| cgroup.make_ahead().map_err(Error::from_fault));
        match made {
            Ok(()) => Ok(next),
            Err(error) => {
                self.discard(&next);
                Err(error)
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Vec<Kept>>> {
        self.kept
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

fn remove(cgroup: &str) {
    if let Ok(cgroup) = Cgroup::at(cgroup) {
        cgroup.remove_if_unused();
    }
}

fn forget(note: &Path) {
    if let Err(error) = std::fs::remove_file(note)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %note.display(), "cannot remove a note about a cgroup");
    }
}

impl Engine {
    /// The id of a container that is going to be made.
    pub(super) fn new_container_id(&self, request: &CreateContainer) -> ContainerId {
        let next = if request.host_config.cgroup_parent.is_empty() {
            self.containers.next_ids.give()
        } else {
            None
        };
        next.unwrap_or_else(ContainerId::random)
    }

    /// Chooses the next container's id and makes its cgroup. Blocks.
    pub(super) fn make_next_id(&self) -> Result<()> {
        let containers = &self.containers;
        // systemd makes scopes around processes only.
        if !containers.host.cgroups
            || self.config.daemon.systemd_cgroup
            || containers.next_ids.has_next()
        {
            return Ok(());
        }
        let id = ContainerId::random();
        let cgroup = cgroups::path(&containers.cgroup_parent, &id);
        let next = containers.next_ids.make(id, cgroup)?;
        if let Some(surplus) = containers.next_ids.keep(next) {
            containers.next_ids.discard(&surplus);
        }
        Ok(())
    }

    /// Removes a cgroup that was made for a container which does not use it.
    pub(super) fn discard_next_id(&self, id: &ContainerId) {
        let next_ids = &self.containers.next_ids;
        if let Some(unused) = next_ids.let_go(id) {
            next_ids.discard(&unused);
        }
    }

    /// Removes what nobody has used. Blocks.
    pub(super) fn end_next_ids(&self) {
        let next_ids = &self.containers.next_ids;
        let all = next_ids.kept().take();
        for unused in all.into_iter().flatten() {
            next_ids.discard(&unused);
        }
    }

    /// Removes what an engine before this one has left. To be called when it is known which
    /// containers run.
    pub(super) fn settle_next_ids(&self) {
        let notes = std::fs::read_dir(&self.containers.next_ids.notes);
        for note in notes.into_iter().flatten().flatten() {
            let id = note.file_name();
            let runs = id
                .to_str()
                .and_then(|id| self.containers.find(id).ok())
                .is_some_and(|container| container.read().run.is_some());
            // Not written yet: nothing had been made.
            if !runs && let Ok(cgroup) = std::fs::read_to_string(note.path()) {
                remove(&cgroup);
            }
            forget(&note.path());
        }
    }
}
