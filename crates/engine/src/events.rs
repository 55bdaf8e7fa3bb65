//! Owner: the server engineer. What `container` calls:
//!
//! ```ignore
//! pub struct Events; // Debug
//! impl Events {
//!     pub fn open(config: &EngineConfig, store: &Store) -> Result<Self>;
//!     /// kind: "container" | "image" | "network" | "volume" | …; returns at once.
//!     pub fn publish(&self, kind: &'static str, action: impl Into<String>, id: &str, attributes: BTreeMap<String, String>);
//! }
//! ```
