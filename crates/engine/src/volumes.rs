//! Owner: the server engineer. What `container` calls:
//!
//! ```ignore
//! impl Volumes {
//!     pub fn open(config: &EngineConfig, store: &Store) -> Result<Self>;
//!     /// Existing or new; None name = anonymous (64 hex, label com.docker.volume.anonymous="").
//!     /// Returns (volume, created). Durable when it returns.
//!     pub async fn ensure(&self, engine_events.., name: Option<&str>, driver: &str, options, labels) -> Result<(Volume, bool)>;
//!     pub fn get(&self, name: &str) -> Option<Volume>;
//!     pub fn path(&self, name) -> PathBuf;                 // <data-root>/volumes/<name>/_data
//!     pub async fn remove(&self, name: &str, force: bool) -> Result<()>;
//! }
//! ```
//! "In use" is answered by `engine.containers.using_volume(name) -> Vec<ContainerId>`.
