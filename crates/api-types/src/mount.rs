//! Mounts on the wire: `--mount` in a request, and what `inspect` lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{is_default, null_default};

/// A mount asked for with `--mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe`, `cluster`.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub r#type: String,
    /// Host path, volume or image; nothing for a tmpfs.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub source: String,
    /// Path in the container.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub target: String,
    /// Read-only.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Only for other platforms.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub consistency: String,
    /// Only with `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// Only with `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Only with `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// Only with `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    /// Only with `cluster`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_options: Option<serde_json::Value>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub propagation: String,
    /// Without the mounts below the source.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub non_recursive: bool,
    /// Make the source where it does not exist.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub create_mountpoint: bool,
    /// Mounts below the source stay writable.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub read_only_non_recursive: bool,
    /// Fail where the kernel cannot make mounts below read-only.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub read_only_force_recursive: bool,
    /// Map the ids of files, Wharf's own: `container` for the container's mapping, or
    /// `uids=DISK-HOST-SIZE#…;gids=…`.
    #[serde(
        rename = "IDMap",
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub id_map: String,
}

/// Options of a volume mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Do not fill a new volume from the image.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub no_copy: bool,
    /// Labels of a new volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Mount only this folder of the volume.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub subpath: String,
    /// Driver of a new volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<VolumeDriverConfig>,
}

/// Driver of a new volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeDriverConfig {
    /// Driver name.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub name: String,
    /// Driver options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<BTreeMap<String, String>>,
}

/// Options of an image mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// Mount only this folder of the image.
    #[serde(
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Bytes; 0 is the kernel's default.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub size_bytes: i64,
    /// Permission bits.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub mode: u32,
    /// More options, `[name]` or `[name, value]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<Vec<String>>>,
}

/// A mount as `inspect` lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Volume name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Host path.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Volume driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Mode as given, `z,ro`.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Mount propagation.
    pub propagation: String,
}
