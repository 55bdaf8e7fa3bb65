//! What a file of a container is, for `docker cp`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Sent base64-encoded in the header `X-Docker-Container-Path-Stat`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathStat {
    /// Last component of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode`.
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    /// For a link: the absolute path in the container it leads to.
    pub link_target: String,
}

impl PathStat {
    /// The header's value.
    pub fn to_header(&self) -> String {
        STANDARD
            .encode(serde_json::to_vec(self).expect("strings and numbers always have a JSON form"))
    }
}
