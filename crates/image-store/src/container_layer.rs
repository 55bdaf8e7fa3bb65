//! Containers' own read-write layers.
//!
//! ```text
//! <data-root>/containers-rw/<container-id>/upper    the container's changes
//! <data-root>/containers-rw/<container-id>/work     overlay's
//! ```
//!
//! The record of a container's layer is written together with the engine's record of the container:
//! the caller passes the batch it is going to commit. A directory without a record is an orphan of a
//! crash and removed by the next start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use wharf_ids::{ContainerId, Digest, hex_id};
use wharf_state::Batch;

use crate::error::ImageError;
use crate::image::{ContainerLayer, Image};
use crate::record::{self, ContainerRecord};
use crate::snapshot::{disk_bytes, open_dir};
use crate::store::ImageStore;

impl ImageStore {
    /// Makes a container's read-write layer on top of an image and adds its record to `batch`.
    /// The image's layers stay from now on, committed or not, until
    /// [`ImageStore::release_container`].
    pub fn prepare_container(
        &self,
        id: &ContainerId,
        image: &Image,
        batch: &mut Batch,
    ) -> Result<ContainerLayer, ImageError> {
        self.inner.snapshots.check_overlay()?;
        let chain = image.chain().cloned();
        {
            let mut catalog = self.catalog_mut();
            if let Some(chain) = &chain
                && !catalog.layers.contains_key(chain)
            {
                // Removed since it was looked up, or never unpacked here.
                let known = catalog.with_target(&image.id).next().is_some();
                return Err(match known {
                    true => ImageError::NotUnpacked(image.id.clone()),
                    false => ImageError::NoSuchImage(image.id.to_string()),
                });
            }
            if catalog.containers.contains_key(id.as_str()) {
                let path = self.inner.snapshots.container(id.as_str());
                return Err(ImageError::io("create", &path)(
                    std::io::ErrorKind::AlreadyExists.into(),
                ));
            }
            let record = ContainerRecord {
                chain: chain.clone(),
            };
            batch.put(record::SNAPSHOTS, id.as_str(), &record);
            catalog.containers.insert(id.to_string(), record);
        }
        let made = self.make_container_dirs(id, chain.as_ref());
        if made.is_err() {
            self.catalog_mut().containers.remove(id.as_str());
            self.inner
                .snapshots
                .discard(&self.inner.snapshots.container(id.as_str()))?;
        }
        made
    }

    fn make_container_dirs(
        &self,
        id: &ContainerId,
        chain: Option<&Digest>,
    ) -> Result<ContainerLayer, ImageError> {
        let path = self.inner.snapshots.container(id.as_str());
        let layer = self.container_dirs(id.as_str(), chain);
        let ahead = self.assigned().remove(id.as_str());
        if let Some((ready, lower)) = ahead {
            if lower == layer.lower {
                // No others in their place: what is mounted for the container is on these.
                std::fs::rename(&ready, &path).map_err(ImageError::io("create", &path))?;
                return Ok(layer);
            }
            // For what is another image by now.
            self.inner.snapshots.discard(&ready)?;
        }
        self.inner
            .snapshots
            .make_container(&path)
            .map_err(ImageError::io("create", &path))?;
        own_as_image(&layer)?;
        Ok(layer)
    }

    /// Makes the directories of a container on top of the read-only directories `lower`, before
    /// there is one. What [`ImageStore::assign`] gives to none is removed as an orphan is, by the
    /// next start of the store.
    pub fn make_ahead(&self, lower: &[PathBuf]) -> Result<ContainerLayer, ImageError> {
        let snapshots = &self.inner.snapshots;
        let path = snapshots.container(&format!("ready-{}", hex_id()));
        let layer = ContainerLayer {
            lower: lower.to_owned(),
            upper: path.join("upper"),
            work: path.join("work"),
        };
        let made = snapshots
            .make_directories(&path)
            .map_err(ImageError::io("create", &path))
            .and_then(|()| own_as_image(&layer));
        if let Err(error) = made {
            snapshots.discard(&path)?;
            return Err(error);
        }
        Ok(layer)
    }

    /// Gives what was made ahead to the container `id`, which is going to be made. If its image
    /// turns out to be another, it goes to the trash.
    pub fn assign(&self, id: &ContainerId, ahead: ContainerLayer) {
        if let Some(path) = ahead.upper.parent() {
            let ready = (path.to_owned(), ahead.lower);
            self.assigned().insert(id.to_string(), ready);
        }
    }

    /// Takes that back from a container that is not made after all.
    pub fn discard_assigned(&self, id: &ContainerId) -> Result<(), ImageError> {
        let ready = self.assigned().remove(id.as_str());
        match ready {
            Some((path, _)) => self.inner.snapshots.discard(&path).map(drop),
            None => Ok(()),
        }
    }

    /// Changes whenever a layer is removed. An overlay that was mounted under another number may
    /// show what is no longer there.
    pub fn removed_layers(&self) -> u64 {
        self.inner.snapshots.removed_layers()
    }

    fn assigned(&self) -> MutexGuard<'_, HashMap<String, (PathBuf, Vec<PathBuf>)>> {
        self.inner
            .assigned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next [`ImageStore::prepare_container`] quicker; for whoever has time.
    pub fn get_ready(&self) -> Result<(), ImageError> {
        let snapshots = &self.inner.snapshots;
        snapshots
            .make_ready()
            .map_err(ImageError::io("create", &snapshots.container("")))
    }

    /// The directories of a container made by [`ImageStore::prepare_container`]; reads no disk.
    pub fn container_layer(&self, id: &ContainerId) -> Result<ContainerLayer, ImageError> {
        let chain = match self.catalog().containers.get(id.as_str()) {
            Some(record) => record.chain.clone(),
            None => return Err(ImageError::NoContainerLayer(id.to_string())),
        };
        Ok(self.container_dirs(id.as_str(), chain.as_ref()))
    }

    /// The read-only directories of an image, topmost first, to look into it without a container.
    pub fn image_layers(&self, image: &Image) -> Result<Vec<PathBuf>, ImageError> {
        if !image.unpacked {
            return Err(ImageError::NotUnpacked(image.id.clone()));
        }
        Ok(self.lower_dirs(image.chain()))
    }

    fn container_dirs(&self, id: &str, chain: Option<&Digest>) -> ContainerLayer {
        let path = self.inner.snapshots.container(id);
        let mut lower = self.lower_dirs(chain);
        lower.push(self.inner.snapshots.mount_points().to_owned());
        ContainerLayer {
            lower,
            upper: path.join("upper"),
            work: path.join("work"),
        }
    }

    pub(crate) fn lower_dirs(&self, chain: Option<&Digest>) -> Vec<PathBuf> {
        let catalog = self.catalog();
        let mut lower = Vec::new();
        for (id, layer) in catalog.chain(chain) {
            lower.push(self.inner.snapshots.layer(id));
            // Overlay knows no opaque root: what the layer hides is left out.
            if layer.opaque {
                break;
            }
        }
        lower
    }

    /// Adds the removal of a container's layer to `batch`. After the commit
    /// [`ImageStore::discard_container`] removes the directories.
    pub fn release_container(&self, id: &ContainerId, batch: &mut Batch) {
        batch.delete(record::SNAPSHOTS, id.as_str());
    }

    /// Moves a container's directories to the trash and lets go of its image's layers. To be called
    /// when the batch of [`ImageStore::release_container`] is committed, or when that of
    /// [`ImageStore::prepare_container`] was not.
    pub fn discard_container(&self, id: &ContainerId) -> Result<(), ImageError> {
        self.catalog_mut().containers.remove(id.as_str());
        self.inner
            .snapshots
            .discard(&self.inner.snapshots.container(id.as_str()))
            .map(drop)
    }

    /// Moves a directory of the same file system to the trash, if it is there.
    pub fn discard_directory(&self, path: &Path) -> Result<(), ImageError> {
        self.inner.snapshots.discard(path).map(drop)
    }

    /// Bytes on disk of a container's own changes (`SizeRw`).
    pub fn container_rw_bytes(&self, id: &ContainerId) -> Result<u64, ImageError> {
        let upper = self.container_layer(id)?.upper;
        let dir = open_dir(&upper)?;
        disk_bytes(&dir).map_err(ImageError::io("read", &upper))
    }

    /// Bytes on disk of a container's image and its own changes (`SizeRootFs`).
    pub fn container_root_bytes(&self, id: &ContainerId) -> Result<u64, ImageError> {
        let own = self.container_rw_bytes(id)?;
        let catalog = self.catalog();
        let chain = catalog
            .containers
            .get(id.as_str())
            .and_then(|record| record.chain.as_ref());
        Ok(own
            + catalog
                .chain(chain)
                .map(|(_, layer)| layer.disk_bytes)
                .sum::<u64>())
    }
}

/// Overlay shows the upper directory's owner and mode as the root's: they have to be the image's.
fn own_as_image(layer: &ContainerLayer) -> Result<(), ImageError> {
    let (mode, uid, gid) = match layer.lower.first() {
        Some(top) => {
            let stat = rustix::fs::lstat(top)
                .map_err(|errno| ImageError::io("read", top)(errno.into()))?;
            (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
        }
        None => (0o755, 0, 0),
    };
    let set =
        |errno: rustix::io::Errno| ImageError::io("set the owner of", &layer.upper)(errno.into());
    if (uid, gid) != (0, 0) {
        rustix::fs::chownat(
            CWD,
            &layer.upper,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::empty(),
        )
        .map_err(set)?;
    }
    rustix::fs::chmodat(
        CWD,
        &layer.upper,
        Mode::from_raw_mode(mode),
        AtFlags::empty(),
    )
    .map_err(set)?;
    Ok(())
}
