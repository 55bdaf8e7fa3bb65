//! Trees as a user namespace shows them, for programs that make a container's mounts themselves:
//! other runtimes get what they cannot map, or not yet.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use wharf_sys::mount::{AttributeChange, change_attributes, clone_tree};

use crate::config::RootFilesystem;
use crate::error::{Stage, StartError};
use crate::id_map::IdMaps;
use crate::prepared::c_path;
use crate::supplies;
use crate::user_namespace::{self, Mapped};

/// A user namespace and its mapping.
#[derive(Debug)]
pub struct Shown(Mapped);

impl Shown {
    /// As `namespace` shows things, whose mapping is `maps`.
    pub fn in_namespace(namespace: OwnedFd, maps: IdMaps) -> Self {
        Self(Mapped { maps, namespace })
    }

    /// As a namespace with this mapping would show things.
    pub fn by(maps: IdMaps) -> Result<Self, StartError> {
        let namespace = user_namespace::create(&maps)?;
        Ok(Self::in_namespace(namespace, maps))
    }

    /// Makes the namespace's root the owner of those streams that were made for it (pipes), so that
    /// a runtime can give them to the program's user, who opens them again.
    pub fn give_streams(&self, streams: &[OwnedFd; 3]) -> Result<(), StartError> {
        user_namespace::give_streams(streams, &self.0.maps)
    }

    /// A container's root file system, mounted nowhere yet.
    pub fn root(&self, rootfs: &RootFilesystem) -> Result<OwnedFd, StartError> {
        supplies::root(rootfs, false, &self.0)
    }

    /// A bind's source, with what is mounted below it if `recursive`, all of which is mapped if
    /// `map_below`; mounted nowhere yet.
    pub fn bind(
        &self,
        source: &Path,
        recursive: bool,
        map_below: bool,
    ) -> Result<OwnedFd, StartError> {
        let tree = c_path(source)
            .and_then(|path| clone_tree(CWD, &path, recursive))
            .map_err(|errno| StartError::new(Stage::Rootfs, errno, source.display().to_string()))?;
        let change = AttributeChange {
            id_mapping: Some(self.0.namespace.as_fd()),
            ..AttributeChange::default()
        };
        change_attributes(&tree, c"", map_below, change)
            .map_err(|errno| user_namespace::no_mapping(source, errno))?;
        Ok(tree)
    }
}
