//! Images on this machine: their blobs, their unpacked layers and their names.
//!
//! ```text
//! <data-root>/content/…               blobs by digest, see the `content` module
//! <data-root>/layers/<chain-id>/fs    unpacked layers, lower directories of overlay mounts
//! <data-root>/containers-rw/<id>/     a container's `upper` and `work`
//! <data-root>/unpacking/              layers on their way in
//! <data-root>/trash/                  on its way out
//! ```
//!
//! An [`ImageStore`] is a cheap handle; all of its calls block and may come from any thread. Names
//! and records live in the state store and in memory, so [`ImageStore::resolve`] reads no disk once
//! an image was used. Ids follow Docker's containerd store: an image's id is the digest of the
//! manifest or index its name points to.
//!
//! Anything that brings content in (pull, load, import) holds a [`Lease`]; garbage collection
//! keeps what an image name, a container or a lease needs and removes the rest. Whatever a crash
//! leaves behind is removed by the next [`ImageStore::open`] or [`ImageStore::collect_garbage`].
//!
//! ```no_run
//! use wharf_ids::{Digest, ImageRef};
//! use wharf_image_store::{ImageError, ImageStore};
//! use wharf_oci::image::Descriptor;
//!
//! fn pull(store: &ImageStore, name: &ImageRef, manifest: &Descriptor, layer: &[u8], digest: &Digest) -> Result<(), ImageError> {
//!     let lease = store.lease();
//!     // … the manifest's and the configuration's bytes with `lease.put_blob` …
//!     if let Some(mut blob) = lease.begin_blob(digest, Some(layer.len() as u64))? {
//!         let offset = blob.offset() as usize; // what an earlier attempt already brought
//!         blob.write(&layer[offset..])?;
//!         blob.commit()?;
//!     }
//!     lease.unpack(manifest, None, &|_| {})?;
//!     store.set_image(name, manifest)
//! }
//! ```

mod apply;
mod archive;
mod blob;
mod catalog;
mod changes;
mod compression;
mod container_layer;
mod content;
mod direct;
mod error;
mod garbage;
mod history;
mod image;
mod import;
mod lease;
mod list;
mod load;
mod pipe;
mod prune;
mod record;
mod remove;
mod save;
mod snapshot;
mod sparse;
mod store;
mod tag;
mod tee;
mod unpack;

pub use apply::{Applied, apply_layer};
pub use blob::BlobWriter;
pub use error::{ArchiveProblem, EntryProblem, ImageError};
pub use garbage::Collected;
pub use history::HistoryEntry;
pub use image::{ContainerLayer, Image, Layer};
pub use import::ImportOptions;
pub use lease::Lease;
pub use load::{LoadProgress, Loaded};
pub use prune::{PruneFilters, Pruned};
pub use remove::{ContainerUse, RemoveOptions, Removed};
pub use save::Archive;
pub use store::ImageStore;
pub use unpack::UnpackProgress;
