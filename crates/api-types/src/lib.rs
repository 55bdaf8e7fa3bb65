//! The JSON of the Docker Engine API: what requests carry and what answers contain.
//!
//! Types have the shape of the newest API version; differences to older versions are small
//! functions beside the types, applied by the server. Requests are decoded with [`go_json`], which
//! accepts what Go's decoder accepts (nulls, any letter case in keys).

pub mod archive;
pub mod checkpoint;
pub mod container;
pub mod decode;
pub mod endpoint;
pub mod error_body;
pub mod event;
pub mod exec;
pub mod filters;
pub mod go_json;
pub mod image;
pub mod json_stream;
pub mod mount;
pub mod network;
pub mod port;
pub mod stats;
pub mod system;
pub mod time;
pub mod version;
pub mod volume;

pub use error_body::ErrorBody;
pub use filters::Filters;
pub use json_stream::StreamMessage;
pub use version::ApiVersion;
