//! The documents of the Open Container Initiative and Docker's variants of them.

pub mod defaults;
pub mod image;
pub mod platform;
pub mod runtime;
