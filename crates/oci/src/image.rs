//! Image documents: descriptors, manifests, indexes and image configurations.
//!
//! The types follow image-spec v1.1 and carry Docker's additions (health checks, on-build
//! triggers, shell, …) under Docker's media types as well as OCI's. Fields not known here are kept
//! in `other` and written back, so a document that passes through is not stripped.
//!
//! The bytes of a document, not its parsed form, are what a digest covers: nobody re-serialises a
//! document that came from outside.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use wharf_ids::Digest;

use crate::platform::Platform;

/// Media types of image documents and layers.
pub mod media_type {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, plain tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, plain tar.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer, zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// Whether this is an index (manifest list).
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_INDEX)
    }

    /// Whether this is an image manifest.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether this is an image configuration.
    pub fn is_config(media_type: &str) -> bool {
        matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
    }

    /// Whether this is a file system layer.
    pub fn is_layer(media_type: &str) -> bool {
        media_type.starts_with(OCI_LAYER)
            || media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
            || media_type.starts_with(DOCKER_LAYER)
            || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
    }

    /// Whether the layer may only be fetched from the URLs in its descriptor.
    pub fn is_nondistributable(media_type: &str) -> bool {
        media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

/// Most bytes a manifest or an index may have (the bound of the registries).
pub const MANIFEST_SIZE_MAX: u64 = 4 * 1024 * 1024;
/// Most bytes an image configuration may have.
pub const CONFIG_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// Most layers of one image: the kernel's bound on the lower directories of an overlay mount.
pub const LAYER_COUNT_MAX: usize = 500;
/// Most entries of one index.
pub const INDEX_ENTRY_COUNT_MAX: usize = 4096;

/// A document that is not what its media type says.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Longer than the bound.
    #[error("the {what} is larger than {max} bytes")]
    TooLarge {
        /// `manifest`, `index` or `image configuration`.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// No JSON, or the wrong fields.
    #[error("the {what} is not valid")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// `schemaVersion` is not 2.
    #[error("the {what} has schema version {version}; only 2 is supported")]
    SchemaVersion {
        /// Which document.
        what: &'static str,
        /// What it says.
        version: u64,
    },
    /// Fields of an index and of a manifest in one document (CVE-2021-41190).
    #[error("the document is both a manifest and an index")]
    Ambiguous,
    /// The media type inside differs from the one it was announced with.
    #[error("the document's media type is \"{found}\", \"{expected}\" was announced")]
    MediaType {
        /// In the document.
        found: String,
        /// In the descriptor or the response header.
        expected: String,
    },
    /// Not a kind of document that describes an image.
    #[error("media type \"{0}\" is not an image manifest or index")]
    UnknownMediaType(String),
    /// Too many layers or entries.
    #[error("the {what} lists {count} {items}; at most {max} are supported")]
    TooMany {
        /// Which document.
        what: &'static str,
        /// How many.
        count: usize,
        /// `layers` or `manifests`.
        items: &'static str,
        /// The bound.
        max: usize,
    },
}

/// A pointer to content: what it is, its digest and its size (image-spec descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the content is.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Other places the content can be fetched from.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What the image is for, in indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Kind of an artifact.
    #[serde(
        rename = "artifactType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor of plain content.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }
}

/// One image for one platform: its configuration and layers (image-spec manifest.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u64,
    /// OCI's or Docker's manifest type; may be missing in OCI documents.
    #[serde(
        rename = "mediaType",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub media_type: String,
    /// Kind of an artifact.
    #[serde(
        rename = "artifactType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// What this manifest refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Whether this describes a runnable image and not an attestation or another artifact.
    pub fn is_image(&self) -> bool {
        media_type::is_config(&self.config.media_type)
            && self
                .layers
                .iter()
                .all(|layer| media_type::is_layer(&layer.media_type))
    }
}

/// Several manifests, usually one for each platform (image-spec image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u64,
    /// OCI's or Docker's index type; may be missing in OCI documents.
    #[serde(
        rename = "mediaType",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub media_type: String,
    /// Kind of an artifact.
    #[serde(
        rename = "artifactType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    /// The entries.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// What this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The entry that serves `wanted` best, as [`Platform::rank`] says; attestations never do.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .filter(|entry| !is_attestation(entry))
            .filter_map(|entry| match &entry.platform {
                Some(platform) => wanted.rank(platform).map(|rank| (rank, entry)),
                // An entry without a platform may be for any: after all that say they fit.
                None => Some((u32::MAX, entry)),
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }
}

/// Whether an index entry is BuildKit's attestation of another entry.
pub fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(Platform::is_unknown)
}

/// What a tag can point to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "few exist at a time, and boxes would be in every match"
)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several images.
    Index(Index),
}

impl Document {
    /// Parses a manifest or an index. `announced` is the media type of the descriptor or of the
    /// response header that led here, empty when there was none.
    pub fn parse(bytes: &[u8], announced: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Shape<'a> {
            #[serde(rename = "schemaVersion", default)]
            schema_version: u64,
            #[serde(rename = "mediaType", default)]
            media_type: String,
            #[serde(borrow, default)]
            manifests: Option<&'a serde_json::value::RawValue>,
            #[serde(borrow, default)]
            layers: Option<&'a serde_json::value::RawValue>,
            #[serde(borrow, default)]
            config: Option<&'a serde_json::value::RawValue>,
        }
        let shape: Shape<'_> = parse_bounded("manifest", bytes, MANIFEST_SIZE_MAX)?;
        if shape.schema_version != 2 {
            return Err(DocumentError::SchemaVersion {
                what: "manifest",
                version: shape.schema_version,
            });
        }
        let has_manifests = shape.manifests.is_some();
        let has_layers = shape.layers.is_some() || shape.config.is_some();
        if has_manifests && has_layers {
            return Err(DocumentError::Ambiguous);
        }
        if !announced.is_empty() && !shape.media_type.is_empty() && announced != shape.media_type {
            return Err(DocumentError::MediaType {
                found: shape.media_type,
                expected: announced.to_owned(),
            });
        }
        let effective = if shape.media_type.is_empty() {
            announced
        } else {
            shape.media_type.as_str()
        };
        let is_index = match effective {
            "" => has_manifests,
            known if media_type::is_index(known) => true,
            known if media_type::is_manifest(known) => false,
            other => return Err(DocumentError::UnknownMediaType(other.to_owned())),
        };
        if is_index {
            let index: Index = parse_bounded("index", bytes, MANIFEST_SIZE_MAX)?;
            let count = index.manifests.len();
            if count > INDEX_ENTRY_COUNT_MAX {
                return Err(DocumentError::TooMany {
                    what: "index",
                    count,
                    items: "manifests",
                    max: INDEX_ENTRY_COUNT_MAX,
                });
            }
            return Ok(Self::Index(index));
        }
        let manifest: Manifest = parse_bounded("manifest", bytes, MANIFEST_SIZE_MAX)?;
        let count = manifest.layers.len();
        if count > LAYER_COUNT_MAX {
            return Err(DocumentError::TooMany {
                what: "manifest",
                count,
                items: "layers",
                max: LAYER_COUNT_MAX,
            });
        }
        Ok(Self::Manifest(manifest))
    }

    /// The media type to describe this document with.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) if manifest.media_type.is_empty() => media_type::OCI_MANIFEST,
            Self::Manifest(manifest) => &manifest.media_type,
            Self::Index(index) if index.media_type.is_empty() => media_type::OCI_INDEX,
            Self::Index(index) => &index.media_type,
        }
    }

    /// Everything the document points to.
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config)
                .chain(&manifest.layers)
                .collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }
}

/// An image configuration (image-spec config.md and Docker's additions).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Processor, operating system and variant.
    #[serde(flatten)]
    pub platform: Platform,
    /// Defaults for containers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ContainerDefaults,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
    /// How each layer came to be.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// Fields not known here, as they came.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// Parses a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let config: Self = parse_bounded("image configuration", bytes, CONFIG_SIZE_MAX)?;
        let count = config.rootfs.diff_ids.len();
        if count > LAYER_COUNT_MAX {
            return Err(DocumentError::TooMany {
                what: "image configuration",
                count,
                items: "layers",
                max: LAYER_COUNT_MAX,
            });
        }
        Ok(config)
    }
}

/// The layers of an image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// Who.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// Whether the step left no layer.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// The empty object that stands for presence in Go's maps (`{"80/tcp": {}}`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {}

/// What an image says about the containers made from it: the `config` object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerDefaults {
    /// `user[:group]`, names or numbers.
    #[serde(
        rename = "User",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `80/tcp` → {}.
    #[serde(
        rename = "ExposedPorts",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Present>,
    /// `NAME=value`.
    #[serde(
        rename = "Env",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// What is run; `None` when not set.
    #[serde(
        rename = "Entrypoint",
        default,
        deserialize_with = "words_or_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what is run without an entry point; `None` when not set.
    #[serde(
        rename = "Cmd",
        default,
        deserialize_with = "words_or_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub cmd: Option<Vec<String>>,
    /// Paths that get an anonymous volume.
    #[serde(
        rename = "Volumes",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Present>,
    /// Working directory.
    #[serde(
        rename = "WorkingDir",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Free text by key.
    #[serde(
        rename = "Labels",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the container to end.
    #[serde(
        rename = "StopSignal",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL.
    #[serde(
        rename = "StopTimeout",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub stop_timeout_secs: Option<i64>,
    /// How to ask whether the container works.
    #[serde(
        rename = "Healthcheck",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds on top of this image.
    #[serde(
        rename = "OnBuild",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// Shell of shell-form instructions.
    #[serde(
        rename = "Shell",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
    /// Windows only: the command is already escaped.
    #[serde(
        rename = "ArgsEscaped",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// Fields not known here, as they came (`Hostname`, `Tty`, … of older builders).
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// How to ask whether a container works. Times are nanoseconds; 0 means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`; empty inherits.
    #[serde(
        rename = "Test",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Time between two probes.
    #[serde(rename = "Interval", default, skip_serializing_if = "is_zero")]
    pub interval_nanos: i64,
    /// Longest time of one probe.
    #[serde(rename = "Timeout", default, skip_serializing_if = "is_zero")]
    pub timeout_nanos: i64,
    /// Time in which failures do not count.
    #[serde(rename = "StartPeriod", default, skip_serializing_if = "is_zero")]
    pub start_period_nanos: i64,
    /// Time between two probes in the start period.
    #[serde(rename = "StartInterval", default, skip_serializing_if = "is_zero")]
    pub start_interval_nanos: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(rename = "Retries", default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn parse_bounded<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
    max: u64,
) -> Result<T, DocumentError> {
    if bytes.len() as u64 > max {
        return Err(DocumentError::TooLarge { what, max });
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })
}

/// Go writes `null` for empty lists, maps and pointers.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Images from before 2015 may have one string where today's have a list of words.
fn words_or_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Words(Vec<String>),
        Text(String),
    }
    Ok(
        Option::<Either>::deserialize(deserializer)?.map(|either| match either {
            Either::Words(words) => words,
            Either::Text(text) => vec![text],
        }),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";

    fn manifest_json(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"sha256:{HEX}","size":2}},"layers":[{{"mediaType":"{}","digest":"sha256:{HEX}","size":3}}]{extra}}}"#,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_CONFIG,
            media_type::DOCKER_LAYER_GZIP,
        )
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let Document::Manifest(manifest) =
            Document::parse(manifest_json("").as_bytes(), "").unwrap()
        else {
            panic!("a manifest")
        };
        assert!(manifest.is_image());
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[
              {{"mediaType":"m","digest":"sha256:{HEX}","size":1,"platform":{{"os":"linux","architecture":"arm64"}}}},
              {{"mediaType":"m","digest":"sha256:{HEX}","size":2,"platform":{{"os":"linux","architecture":"amd64"}}}},
              {{"mediaType":"m","digest":"sha256:{HEX}","size":3,"platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#
        );
        let Document::Index(index) =
            Document::parse(index.as_bytes(), media_type::OCI_INDEX).unwrap()
        else {
            panic!("an index")
        };
        let wanted = Platform::parse("linux/amd64").unwrap();
        assert_eq!(index.select(&wanted).unwrap().size, 2);
        assert!(
            index
                .select(&Platform::parse("linux/s390x").unwrap())
                .is_none()
        );
    }

    #[test]
    fn ambiguous_and_mislabelled_documents_are_refused() {
        let both = manifest_json(r#","manifests":[]"#);
        assert!(matches!(
            Document::parse(both.as_bytes(), ""),
            Err(DocumentError::Ambiguous)
        ));
        let plain = manifest_json("");
        assert!(matches!(
            Document::parse(plain.as_bytes(), media_type::OCI_MANIFEST),
            Err(DocumentError::MediaType { .. })
        ));
        assert!(matches!(
            Document::parse(br#"{"schemaVersion":1}"#, ""),
            Err(DocumentError::SchemaVersion { version: 1, .. })
        ));
        let long = vec![b' '; MANIFEST_SIZE_MAX as usize + 1];
        assert!(matches!(
            Document::parse(&long, ""),
            Err(DocumentError::TooLarge { .. })
        ));
    }

    #[test]
    fn configurations_keep_what_they_do_not_know() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","docker_version":"20.10",
            "config":{{"Hostname":"x","Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":null,"ExposedPorts":{{"80/tcp":{{}}}},
            "Healthcheck":{{"Test":["CMD","true"],"Interval":1000}},"OnBuild":null,"StopTimeout":3}},
            "history":[{{"created_by":"x","empty_layer":true}}],"rootfs":{{"type":"layers","diff_ids":["sha256:{HEX}"]}}}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform.to_string(), "linux/amd64");
        assert_eq!(config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(config.config.entrypoint, None);
        assert_eq!(
            config.config.healthcheck.as_ref().unwrap().interval_nanos,
            1000
        );
        let back: Value = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(back["docker_version"], "20.10");
        assert_eq!(back["config"]["Hostname"], "x");
        assert_eq!(back["architecture"], "amd64");
        assert_eq!(back["config"]["StopTimeout"], 3);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-8000_i32..8000).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            "[a-z]{0,4}|linux|sha256:[0-9a-f]{64}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((any_key(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    fn any_key() -> impl Strategy<Value = String> {
        let known = [
            "os",
            "architecture",
            "variant",
            "os.features",
            "config",
            "rootfs",
            "history",
            "created",
            "author",
            "type",
            "diff_ids",
            "Env",
            "Cmd",
            "Labels",
            "Healthcheck",
            "Test",
            "Interval",
            "ExposedPorts",
            "other",
            "User",
        ];
        prop::sample::select(known.to_vec()).prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn configurations_are_written_as_they_were_read(pairs in proptest::collection::vec((any_key(), any_value()), 0..8)) {
            let mut object: serde_json::Map<String, Value> = pairs.into_iter().collect();
            if !object.get("rootfs").is_some_and(Value::is_object) {
                object.insert("rootfs".to_owned(), serde_json::json!({"type": "layers", "diff_ids": null}));
            }
            if let Ok(config) = ImageConfig::parse(Value::Object(object).to_string().as_bytes()) {
                let again = serde_json::to_string(&config).unwrap();
                prop_assert_eq!(ImageConfig::parse(again.as_bytes()).unwrap(), config);
            }
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(Document::parse(&bytes, ""));
            drop(ImageConfig::parse(&bytes));
        }
    }
}
