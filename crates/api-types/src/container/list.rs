//! What `list` answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::null_default;
use crate::endpoint::EndpointSettings;
use crate::mount::MountPoint;
use crate::port::PortSummary;
use crate::version::ApiVersion;

/// One line of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// Full id.
    pub id: String,
    /// Names, with leading slashes.
    #[serde(deserialize_with = "null_default")]
    pub names: Vec<String>,
    /// Image as the user named it.
    pub image: String,
    /// Image id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The manifest the container was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<serde_json::Value>,
    /// Program and arguments, joined.
    pub command: String,
    /// Unix seconds.
    pub created: i64,
    /// Ports.
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<PortSummary>,
    /// Bytes; only with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes; only with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
    /// As `State.Status` of inspect.
    pub state: String,
    /// For people: `Up 2 minutes (healthy)`.
    pub status: String,
    /// Health (API 1.52 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Host side.
    pub host_config: SummaryHostConfig,
    /// Networks.
    pub network_settings: SummaryNetworkSettings,
    /// Mounts.
    #[serde(deserialize_with = "null_default")]
    pub mounts: Vec<MountPoint>,
}

impl ContainerSummary {
    /// Takes out what `version` does not know.
    pub fn adapt(&mut self, version: ApiVersion) {
        if !version.at_least(52) {
            self.health = None;
        }
        if !version.at_least(48) {
            self.image_manifest_descriptor = None;
        }
        if !version.at_least(46) {
            self.host_config.annotations = None;
        }
    }
}

/// Part of [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthSummary {
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Consecutive failures.
    pub failing_streak: i64,
}

/// Part of [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHostConfig {
    /// Network mode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// OCI annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Part of [`ContainerSummary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryNetworkSettings {
    /// Endpoints by network name.
    #[serde(deserialize_with = "null_default")]
    pub networks: BTreeMap<String, EndpointSettings>,
}
