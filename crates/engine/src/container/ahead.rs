//! What is made for a container before anybody has asked for it: its directories, and its root,
//! mounted and attached nowhere.
//!
//! Whoever runs an image once often runs it again. On a disk an overlay costs more than anything
//! else of a short container's life, and none of it depends on more than the image:
//!
//! ```text
//! start of a --rm container ──a moment later──▶ kept, for the next one of its image
//! create ──the same image, --rm──▶ promised: the new container gets the directories
//! start  ──nothing has changed──▶ taken: the shim gets the root
//! ```
//!
//! Only for containers that are removed with their end: their overlays are `volatile`, so letting go
//! of one waits for no disk, however this process ends. What no container has got by then goes with
//! an orderly end, and is an orphan for the next start after any other; mounts end with this process.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use rustix::mount::MountAttrFlags;
use wharf_api_types::container::CreateContainer;
use wharf_fault::{Error, Result};
use wharf_ids::ContainerId;
use wharf_image_store::ContainerLayer;
use wharf_shim_protocol::Rootfs;
use wharf_sys::overlay::{Overlay, mount_detached};

use crate::Engine;

/// How many are kept, promised ones included.
const KEPT_MAX: usize = 8;

/// All that is made ahead, oldest first; nothing any more at this process's end.
#[derive(Debug)]
pub(super) struct Ahead(Mutex<Option<Vec<Made>>>);

impl Default for Ahead {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

/// One container's share.
#[derive(Debug)]
struct Made {
    /// As the last container's maker called it.
    image: String,
    layer: ContainerLayer,
    /// The container it is for, once there is one.
    promised: Option<ContainerId>,
    root: Root,
}

/// A root that is mounted.
#[derive(Debug)]
pub(super) struct Root {
    /// What it was made of, beside the container's own directories.
    pattern: Pattern,
    /// [`wharf_image_store::ImageStore::removed_layers`] at that time.
    removed_layers: u64,
    mount: OwnedFd,
}

/// What a container's root is made of that its image's next one can have ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    lower: Vec<PathBuf>,
    options: Vec<String>,
}

impl Ahead {
    /// What a new container gets, if something is there for it.
    pub(super) fn promise(
        &self,
        request: &CreateContainer,
        id: &ContainerId,
    ) -> Option<ContainerLayer> {
        if !request.host_config.auto_remove {
            return None;
        }
        let mut all = self.all();
        let made = all
            .iter_mut()
            .flatten()
            .find(|made| made.promised.is_none() && made.image == request.config.image)?;
        made.promised = Some(id.clone());
        Some(made.layer.clone())
    }

    /// What was promised to `id`, which nobody else gets.
    pub(super) fn take(&self, id: &ContainerId) -> Option<Root> {
        let mut all = self.all();
        let all = all.as_mut()?;
        let index = all
            .iter()
            .position(|made| made.promised.as_ref() == Some(id))?;
        Some(all.remove(index).root)
    }

    fn has_for(&self, image: &str, pattern: &Pattern, removed_layers: u64) -> bool {
        self.all().iter().flatten().any(|made| {
            let Root {
                pattern: known,
                removed_layers: at,
                ..
            } = &made.root;
            let fits = known == pattern && *at == removed_layers;
            made.promised.is_none() && made.image == image && fits
        })
    }

    /// Keeps `made`; returns what is too much, and what nobody can use any more.
    fn keep(&self, made: Made) -> Vec<Made> {
        let mut all = self.all();
        let Some(all) = all.as_mut() else {
            return vec![made];
        };
        let now = made.root.removed_layers;
        let mut surplus: Vec<Made> = all
            .extract_if(.., |other| {
                let same = other.image == made.image;
                other.promised.is_none() && (same || other.root.removed_layers != now)
            })
            .collect();
        all.push(made);
        if all.len() > KEPT_MAX {
            surplus.push(all.remove(0));
        }
        surplus
    }

    fn all(&self) -> MutexGuard<'_, Option<Vec<Made>>> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl Pattern {
    /// That of a container with this root.
    pub(super) fn of(rootfs: &Rootfs) -> Option<Self> {
        match rootfs {
            Rootfs::Overlay { lower, options, .. } => Some(Self {
                lower: lower.clone(),
                options: options.clone(),
            }),
            Rootfs::Directory { .. } => None,
        }
    }
}

impl Root {
    /// The mount, if it is what a container needs now.
    pub(super) fn fitting(self, rootfs: &Rootfs, removed_layers: u64) -> Option<OwnedFd> {
        let fits = Pattern::of(rootfs).as_ref() == Some(&self.pattern)
            && self.removed_layers == removed_layers;
        fits.then_some(self.mount)
    }
}

impl Engine {
    /// Makes what the next container of `image` needs. Blocks.
    pub(super) fn make_ahead(&self, image: String, pattern: Pattern) -> Result<()> {
        let (ahead, store) = (&self.containers.ahead, self.images.store());
        let removed_layers = store.removed_layers();
        if ahead.has_for(&image, &pattern, removed_layers) {
            return Ok(());
        }
        let layer = store
            .make_ahead(&pattern.lower)
            .map_err(Error::from_fault)?;
        let overlay = Overlay {
            lower: &layer.lower,
            writable: Some((&layer.upper, &layer.work)),
            options: &pattern.options,
        };
        let mount = match mount_detached(&overlay, MountAttrFlags::empty()) {
            Ok(mount) => mount,
            Err(source) => {
                self.discard_ahead(&layer);
                return Err(
                    Error::system("cannot mount the next container's root").caused_by(source)
                );
            }
        };
        let surplus = ahead.keep(Made {
            image,
            layer,
            promised: None,
            root: Root {
                pattern,
                removed_layers,
                mount,
            },
        });
        for Made {
            layer,
            promised,
            root,
            ..
        } in surplus
        {
            drop(root);
            // A container's directories are the container's.
            if promised.is_some() {
                continue;
            }
            if ahead.all().is_some() {
                self.discard_ahead(&layer);
            } else {
                remove(&layer);
            }
        }
        Ok(())
    }

    /// Gives a container that is going to be made what is there for it.
    pub(super) fn promise_ahead(&self, request: &CreateContainer, id: &ContainerId) {
        if let Some(layer) = self.containers.ahead.promise(request, id) {
            self.images.store().assign(id, layer);
        }
    }

    /// Lets go of what was promised to a container that is not made after all.
    pub(super) fn forget_ahead(&self, id: &ContainerId) {
        drop(self.containers.ahead.take(id));
        if let Err(error) = self.images.store().discard_assigned(id) {
            tracing::warn!(error = %wharf_fault::chain(&error), container.id = %id, "cannot discard directories made ahead");
        }
    }

    /// Removes what no container has got. Blocks.
    pub(super) fn end_ahead(&self) {
        let all = self.containers.ahead.all().take();
        for Made {
            layer,
            root,
            promised,
            ..
        } in all.into_iter().flatten()
        {
            drop(root);
            if promised.is_some() {
                continue;
            }
            remove(&layer);
        }
    }

    fn discard_ahead(&self, layer: &ContainerLayer) {
        let discarded = layer
            .upper
            .parent()
            .map(|path| self.images.store().discard_directory(path));
        if let Some(Err(error)) = discarded {
            tracing::warn!(error = %wharf_fault::chain(&error), path = %layer.upper.display(), "cannot discard directories made ahead");
        }
    }
}

/// Not by way of the trash, which at the end nobody empties any more. There is next to nothing in it.
fn remove(layer: &ContainerLayer) {
    if let Some(path) = layer.upper.parent()
        && let Err(error) = std::fs::remove_dir_all(path)
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove directories made ahead");
    }
}
