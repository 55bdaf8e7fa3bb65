//! Values as users write them on the command line: pure functions from text to data, without any
//! input or output. What reads files (`--env-file`) takes their content.

pub mod bind;
pub mod blkio;
pub mod csv;
pub mod device;
pub mod duration;
pub mod env;
pub mod image;
pub mod mount;
pub mod names;
pub mod network;
pub mod ports;
pub mod restart;
pub mod size;
pub mod timestamp;
pub mod ulimit;
