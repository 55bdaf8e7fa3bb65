//! The engine about itself: version, host and settings, disk usage.

mod disk_usage;
mod host;
mod info;

use std::collections::BTreeMap;

use wharf_api_types::ApiVersion;
use wharf_api_types::system::{Component, PlatformName, Version};
use wharf_fault::{Error, Result};
use wharf_ids::random_bytes;
use wharf_state::{Batch, Store};

use crate::Engine;
use crate::config::Reload;

pub use disk_usage::{DiskUsage, DiskUsageParts};

/// The Docker release whose behaviour Wharf has; clients compare it.
pub const COMPATIBLE_VERSION: &str = "29.7.2";
/// Wharf's own version.
pub const WHARF_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The oldest compiler that builds Wharf; in the field where Docker names its Go.
const COMPILER: &str = concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"));
const TABLE: &str = "engine";
const ID_KEY: &str = "id";

/// The id of a data root: made once, a version 4 UUID.
pub fn engine_id(store: &Store) -> Result<String> {
    if let Some(id) = store
        .get::<String>(TABLE, ID_KEY)
        .map_err(Error::from_fault)?
    {
        return Ok(id);
    }
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    );
    let mut batch = Batch::new();
    batch.put(TABLE, ID_KEY, &id);
    store.commit(batch).map_err(Error::from_fault)?;
    Ok(id)
}

impl Engine {
    /// Announces that the daemon's settings changed.
    pub(crate) fn announce_reload(&self, reload: &Reload) {
        let mut attributes = BTreeMap::from([("name".to_owned(), host::name())]);
        attributes.insert("changed".to_owned(), reload.changed.join(","));
        let id = engine_id(&self.store).unwrap_or_default();
        self.events.publish("daemon", "reload", &id, attributes);
    }
}

/// Answer of `GET /version`.
pub fn version(experimental: bool) -> Version {
    let kernel = host::kernel_version();
    let arch = host::go_architecture();
    let details = BTreeMap::from([
        ("ApiVersion".to_owned(), ApiVersion::NEWEST.to_string()),
        ("GoVersion".to_owned(), COMPILER.to_owned()),
        ("Arch".to_owned(), arch.to_owned()),
        ("Experimental".to_owned(), experimental.to_string()),
        ("GitCommit".to_owned(), WHARF_VERSION.to_owned()),
        ("KernelVersion".to_owned(), kernel.clone()),
        ("MinAPIVersion".to_owned(), ApiVersion::OLDEST.to_string()),
        ("Os".to_owned(), "linux".to_owned()),
    ]);
    let component = |name: &str, version: &str, details| Component {
        name: name.to_owned(),
        version: version.to_owned(),
        details,
    };
    Version {
        platform: PlatformName {
            name: format!("Wharf {WHARF_VERSION}"),
        },
        components: vec![
            component("Engine", COMPATIBLE_VERSION, details),
            component("wharf", WHARF_VERSION, BTreeMap::new()),
        ],
        version: COMPATIBLE_VERSION.to_owned(),
        api_version: ApiVersion::NEWEST.to_string(),
        min_api_version: ApiVersion::OLDEST.to_string(),
        git_commit: WHARF_VERSION.to_owned(),
        go_version: COMPILER.to_owned(),
        os: "linux".to_owned(),
        arch: arch.to_owned(),
        kernel_version: kernel,
        experimental,
        build_time: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb")).unwrap();
        let id = engine_id(&store).unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(engine_id(&store).unwrap(), id);
    }

    #[test]
    fn the_version_names_the_host() {
        let version = version(false);
        assert_eq!(
            (version.os.as_str(), version.api_version.as_str()),
            ("linux", "1.55")
        );
        assert!(!version.kernel_version.is_empty());
    }
}
