//! Names and identifiers: parsed once, valid ever after.
//!
//! Owns the textual forms Docker uses for containers, networks, volumes, images and digests. No
//! other crate checks or splits these strings.

mod container;
mod digest;
mod random;
pub mod reference;

pub use container::{ContainerId, IdError, validate_container_name, validate_volume_name};
pub use digest::{Digest, DigestError};
pub use random::{hex_id, random_bytes};
pub use reference::{ImageRef, ReferenceError};
