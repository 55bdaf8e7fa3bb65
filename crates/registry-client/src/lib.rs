//! The client side of the OCI distribution protocol (distribution-spec v1.1): log in, pull, push.
//!
//! # In brief
//! ```text
//! let client = Client::new(Options::default())?;                        // one per daemon, shared
//! let login = client.login("registry.example", &credentials).await?;    // POST /auth
//! let name = ImageRef::parse("busybox:1.36")?;
//! let repository = client.repository(&name, credentials, Access::Pull);
//! let descriptor = repository.resolve(&Reference::of(&name)).await?;    // HEAD
//! let tags = repository.tags().await?;                                  // pull --all-tags
//! let request = PullRequest { reference: Reference::of(&name), platform, concurrency: 3 };
//! let pulled = pull(&repository, &request, &sink, &|event| …).await?;   // Pulled { target, manifest, image }
//! let pushed = push(&repository, &PushRequest { … }, &source, &|event| …).await?;
//! ```
//!
//! Dropping the future of a pull cancels it; the partial blobs stay in the sink and the next pull
//! goes on from there.
//!
//! # What it defends against
//! A registry is somebody else's machine. Every size is declared by a manifest and enforced,
//! documents are at most 4 MiB, headers 64 KiB, redirects five and never with our credentials to
//! another host nor from HTTPS to HTTP; connecting takes at most [`Options::connect_timeout`],
//! silence lasts at most [`Options::idle_timeout`]. Each document and blob is checked against its
//! digest.

mod answer;
mod auth;
mod blob_stream;
mod challenge;
mod client;
mod connection;
mod credentials;
mod endpoint;
mod error;
mod login;
mod options;
mod progress;
mod pull;
mod push;
mod repository;
mod sink;
mod target;
mod tls;
mod upload;

pub use blob_stream::BlobStream;
pub use client::Client;
pub use credentials::Credentials;
pub use error::Error;
pub use login::{Login, server_host};
pub use options::Options;
pub use progress::{Event, LayerStatus, Progress};
pub use pull::{PullRequest, Pulled, pull, pull_resolved};
pub use push::{PushLayer, PushManifest, PushRequest, push};
pub use repository::{Access, Fetched, Reference, Repository};
pub use sink::{BlobInfo, BlobReader, BlobRole, BlobSink, BlobSource, BlobWriter, StoreError};
