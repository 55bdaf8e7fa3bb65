//! The client side of the OCI distribution protocol (distribution-spec v1.1): log in, pull, push.
//!
//! # In brief
//! ```text
//! let client = Client::new(Options::default())?;                        // one per daemon, shared
//! let outcome = client.login("registry.example", &credentials).await?;  // POST /auth
//! let repository = client.repository("docker.io", "library/busybox", credentials);
//! let resolved = repository.resolve(&Reference::Tag("latest".into())).await?;
//! let tags = repository.tags().await?;                                  // pull --all-tags
//! let pulled = pull(&repository, &PullRequest { reference, platform, concurrency: 3 },
//!                   &sink, &|event| …).await?;                          // Pulled { target, index, manifest, config, layers }
//! let pushed = push(&repository, &PushRequest { … }, &source, &|event| …).await?;
//! ```
//!
//! Dropping the future of a pull cancels it; the partial blobs stay in the sink and the next pull
//! goes on from there.
//!
//! # What it defends against
//! A registry is somebody else's machine. Every size is declared by a manifest and enforced,
//! documents are at most 4 MiB, headers 64 KiB, redirects five and never with our credentials to
//! another host; connecting takes at most [`Options::connect_timeout`], silence lasts at most
//! [`Options::idle_timeout`]. Each document and blob is checked against its digest.

mod credentials;
mod error;
mod options;
mod progress;
mod sink;

pub use credentials::Credentials;
pub use error::Error;
pub use options::Options;
pub use progress::{Event, LayerStatus, Progress};
pub use sink::{BlobInfo, BlobReader, BlobRole, BlobSink, BlobSource, BlobWriter, StoreError};
