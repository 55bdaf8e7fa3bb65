//! Unpacking a layer's tar stream into a directory, safe against hostile archives.
//!
//! Nothing outside of the directory is ever read or written: see the `tree` module for how paths
//! are found. Inside it the result is what Docker's overlay snapshotter makes of the same archive:
//!
//! - `.wh.NAME` becomes overlay's whiteout, `.wh..wh..opq` makes its directory opaque; neither
//!   touches what the same archive has under that name.
//! - Overlay's own attributes (`trusted.overlay.*`, `user.overlay.*`) in the archive are left out:
//!   they would redirect files into other layers.
//! - Owner, mode (after the owner, which clears set-user-id), extended attributes (after the owner,
//!   which clears `security.capability`) and times are kept; times last.
//! - Directories that only show in the paths of other entries get owner and mode of the same
//!   directory in the layers below, see [`inherit`].

mod entry;
mod inherit;
mod tree;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::archive::TarReader;
use crate::compression::Compression;
use crate::error::ImageError;
use crate::snapshot::open_dir;
use entry::Applier;

const READ_BUFFER_BYTES: usize = 1024 * 1024;

/// What unpacking a layer brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records of the archive.
    pub entries: u64,
    /// Bytes on disk, as full blocks of 4 KiB.
    pub disk_bytes: u64,
    /// The layer hides everything below it.
    pub opaque: bool,
    /// Directories without an entry of their own.
    pub(crate) implicit: Vec<Vec<u8>>,
}

/// Unpacks a layer (plain, gzip or zstd) into an existing directory.
pub fn apply_layer(source: impl Read + Send, directory: &Path) -> Result<Applied, ImageError> {
    let source = BufReader::with_capacity(READ_BUFFER_BYTES, source);
    let (_, plain) = Compression::decoder(source).map_err(ImageError::Read)?;
    let root = open_dir(directory)?;
    apply(BufReader::with_capacity(READ_BUFFER_BYTES, plain), &root)
}

/// Unpacks a plain tar stream below `root` and reads the stream to its end.
pub(crate) fn apply(source: impl BufRead, root: &OwnedFd) -> Result<Applied, ImageError> {
    let mut reader = TarReader::new(source);
    let mut applier = Applier::new(root);
    while let Some(entry) = reader.next_entry()? {
        applier.entry(&entry, &mut reader)?;
    }
    let applied = applier.finish()?;
    reader.drain()?;
    Ok(applied)
}

pub(crate) use tree::{clean as clean_path, split as split_path};

/// Gives implicit directories the attributes they have in the layers below (topmost first).
pub(crate) fn inherit_directories(
    root: &OwnedFd,
    implicit: &[Vec<u8>],
    lower: &[PathBuf],
) -> Result<(), ImageError> {
    inherit::directories(root, implicit, lower)
}

#[cfg(test)]
mod tests;
