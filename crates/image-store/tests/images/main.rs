//! The image store as the engine uses it, on real directories; needs root.

mod archives;
mod crash;
mod foreign;
mod lookup;
mod removal;
mod snapshots;
mod support;
