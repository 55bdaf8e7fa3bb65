//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An image in `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Containers made from it; -1 when not counted.
    pub containers: i64,
    /// Unix seconds.
    pub created: i64,
    /// `sha256:…`.
    pub id: String,
    /// Labels; null when there are none.
    pub labels: Option<BTreeMap<String, String>>,
    /// The image it was built from; empty.
    pub parent_id: String,
    /// The manifest or index (API 1.48 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// What is here for each platform, when asked for (API 1.47 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ImageManifest>>,
    /// `repo@sha256:…`.
    pub repo_digests: Vec<String>,
    /// `repo:tag`.
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 when not counted.
    pub shared_size: i64,
    /// Bytes on disk.
    pub size: i64,
    /// The same, for API below 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
}

/// What is here of an image for one platform (API 1.47 and newer).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageManifest {
    /// Digest of the manifest.
    #[serde(rename = "ID")]
    pub id: String,
    /// The manifest.
    #[serde(rename = "Descriptor")]
    pub descriptor: Descriptor,
    /// Everything it needs is here.
    #[serde(rename = "Available")]
    pub available: bool,
    /// Room it takes.
    #[serde(rename = "Size")]
    pub size: ImageManifestSize,
    /// `image`, `attestation` or `unknown`.
    #[serde(rename = "Kind")]
    pub kind: String,
    /// For images.
    #[serde(rename = "ImageData", skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageManifestData>,
}

/// Room a manifest takes, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageManifestSize {
    /// Blobs and unpacked layers.
    pub total: i64,
    /// Blobs.
    pub content: i64,
}

/// A manifest that is an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageManifestData {
    /// What it runs on.
    pub platform: Platform,
    /// Containers made from it.
    pub containers: Vec<String>,
    /// Room it takes.
    pub size: ImageDataSize,
}

/// Room an image's file system takes, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageDataSize {
    /// Unpacked layers.
    pub unpacked: i64,
}

/// Answer of `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    /// `sha256:…`.
    pub id: String,
    /// `repo:tag`.
    pub repo_tags: Vec<String>,
    /// `repo@sha256:…`.
    pub repo_digests: Vec<String>,
    /// The image it was built from; empty.
    pub parent: String,
    /// Commit message.
    pub comment: String,
    /// RFC 3339.
    pub created: String,
    /// Version of the engine that built it.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// How containers run by default; Docker's own spelling of the OCI configuration.
    pub config: Value,
    /// `amd64`.
    pub architecture: String,
    /// `v8`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// `linux`.
    pub os: String,
    /// Empty on Linux.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes on disk.
    pub size: i64,
    /// The same, for API below 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// Which snapshotter keeps it.
    pub graph_driver: GraphDriver,
    /// Layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What the engine knows besides the image itself.
    pub metadata: ImageMetadata,
    /// The manifest or index (API 1.48 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// What is here for each platform, when asked for (API 1.48 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ImageManifest>>,
}

/// Which snapshotter keeps an image or a container's file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    /// Details; null when there are none.
    pub data: Option<BTreeMap<String, String>>,
    /// `overlay2`.
    pub name: String,
}

/// Layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Digests of the uncompressed layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What the engine knows of an image besides the image itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageMetadata {
    /// RFC 3339; Go's zero time when never tagged here.
    pub last_tag_time: String,
}

/// An OCI descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes.
    pub size: i64,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v8`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Empty on Linux.
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
}

/// An entry of `GET /images/{name}/history`, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageHistoryItem {
    /// What was said about it.
    pub comment: String,
    /// Unix seconds.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// The image id for the newest entry, `<missing>` for the others.
    pub id: String,
    /// Bytes.
    pub size: i64,
    /// Tags of the newest entry; null for the others.
    pub tags: Option<Vec<String>>,
}

/// What `DELETE /images/{name}` and pruning removed; one of the two fields is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageDeleted {
    /// A removed image or layer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
    /// A removed reference.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
}

/// Answer of `POST /images/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImagesPruned {
    /// What was removed; null when nothing was.
    pub images_deleted: Option<Vec<ImageDeleted>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// A result of `GET /images/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// Stars.
    pub star_count: i64,
    /// An official image.
    pub is_official: bool,
    /// Repository.
    pub name: String,
    /// Always false: no longer known.
    pub is_automated: bool,
    /// One line.
    pub description: String,
}

/// Credentials: `X-Registry-Auth`, body of `POST /auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub struct AuthConfig {
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `user:password` in base64, instead of the two.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// The registry.
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub server_address: String,
    /// A refresh token, instead of a password.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// A bearer token to send as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub registry_token: String,
}

impl std::fmt::Debug for AuthConfig {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl AuthConfig {
    /// Decodes an `X-Registry-Auth` header: base64url of JSON. As in Docker, a header that can not
    /// be decoded counts as no credentials.
    pub fn from_header(header: &str) -> Self {
        use base64::Engine as _;
        use base64::alphabet;
        use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
        let lenient =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let url_safe = header.replace('+', "-").replace('/', "_");
        let mut auth = GeneralPurpose::new(&alphabet::URL_SAFE, lenient)
            .decode(url_safe.trim())
            .ok()
            .and_then(|bytes| crate::go_json::from_slice::<Self>(&bytes).ok())
            .unwrap_or_default();
        if auth.username.is_empty()
            && let Ok(pair) =
                GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(auth.auth.trim())
            && let Ok(pair) = String::from_utf8(pair)
            && let Some((username, password)) = pair.split_once(':')
        {
            auth.username = username.to_owned();
            auth.password = password.trim_end_matches('\0').to_owned();
        }
        auth
    }

    /// The header's value.
    pub fn to_header(&self) -> String {
        use base64::Engine as _;
        let json = serde_json::to_vec(self).expect("strings always have a JSON form");
        base64::engine::general_purpose::URL_SAFE.encode(json)
    }
}

/// Answer of `POST /auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthResult {
    /// A refresh token to keep instead of the password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// `Login Succeeded`.
    pub status: String,
}

/// Answer of `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DistributionInspect {
    /// The manifest or index in the registry.
    pub descriptor: Descriptor,
    /// What it runs on.
    pub platforms: Vec<Platform>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_headers_round_trip_and_garbage_is_anonymous() {
        let auth = AuthConfig {
            username: "u".into(),
            password: "p?>".into(),
            ..AuthConfig::default()
        };
        assert_eq!(AuthConfig::from_header(&auth.to_header()), auth);
        for anonymous in ["", "e30=", "e30", "%%%", "bnVsbA=="] {
            assert_eq!(
                AuthConfig::from_header(anonymous),
                AuthConfig::default(),
                "{anonymous}"
            );
        }
        // {"auth":"dTpwOnE="}
        let pair = AuthConfig::from_header("eyJhdXRoIjoiZFRwd09uRT0ifQ==");
        assert_eq!(
            (pair.username.as_str(), pair.password.as_str()),
            ("u", "p:q")
        );
        assert!(!format!("{auth:?}").contains("p?>"));
    }
}
