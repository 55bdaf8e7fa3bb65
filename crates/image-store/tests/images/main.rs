//! The image store as the engine uses it, on real directories; needs root.

#![allow(clippy::unwrap_used, reason = "a step that fails fails its test")]

mod archives;
mod crash;
mod foreign;
mod killed;
mod lookup;
mod removal;
mod snapshots;
mod support;
mod together;
