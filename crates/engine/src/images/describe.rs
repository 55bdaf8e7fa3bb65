//! An image in Docker's JSON.

use serde_json::{Map, Value};
use wharf_api_types::image::{
    Descriptor, GraphDriver, ImageDataSize, ImageInspect, ImageManifest, ImageManifestData,
    ImageManifestSize, ImageMetadata, ImageSummary, Platform, RootFs,
};
use wharf_api_types::time;
use wharf_image_store::Image;

/// What Docker calls our way of keeping layers.
pub(super) const GRAPH_DRIVER: &str = "overlay2";

pub(super) fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Everything about an image.
pub(super) fn inspect(image: &Image) -> ImageInspect {
    let config = &image.config;
    let last_step = config.history.last();
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags(),
        repo_digests: image.repo_digests(),
        parent: String::new(),
        comment: last_step
            .map(|step| step.comment.clone())
            .unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        docker_version: String::new(),
        author: config.author.clone(),
        config: defaults(image),
        architecture: config.platform.architecture.clone(),
        variant: config.platform.variant.clone(),
        os: config.platform.os.clone(),
        os_version: config.platform.os_version.clone(),
        size: as_i64(image.disk_bytes()),
        virtual_size: None,
        graph_driver: GraphDriver {
            data: None,
            name: GRAPH_DRIVER.to_owned(),
        },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: config
                .rootfs
                .diff_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
        },
        metadata: ImageMetadata {
            last_tag_time: image
                .tagged
                .map_or_else(|| time::ZERO.to_owned(), time::rfc3339_nano),
        },
        descriptor: Some(descriptor(&image.target)),
        manifests: None,
    }
}

/// The defaults for containers. Fields of older builders that concern no image are left out.
fn defaults(image: &Image) -> Value {
    let value = serde_json::to_value(&image.config.config).unwrap_or_default();
    let Value::Object(mut object) = value else {
        return Value::Object(Map::new());
    };
    for other in image.config.config.other.keys() {
        object.remove(other);
    }
    Value::Object(object)
}

/// A line of the list.
pub(super) fn summary(image: &Image) -> ImageSummary {
    let labels = &image.config.config.labels;
    ImageSummary {
        containers: -1,
        created: image.created().map_or(0, jiff::Timestamp::as_second),
        id: image.id.to_string(),
        labels: (!labels.is_empty()).then(|| labels.clone()),
        parent_id: String::new(),
        descriptor: Some(descriptor(&image.target)),
        manifests: None,
        repo_digests: image.repo_digests(),
        repo_tags: image.repo_tags(),
        shared_size: -1,
        size: as_i64(image.disk_bytes()),
        virtual_size: None,
    }
}

/// What is here of an image for its platform, and the containers made from it.
pub(super) fn manifest(image: &Image, containers: Vec<String>) -> ImageManifest {
    let offered = image
        .manifest
        .platform
        .as_ref()
        .unwrap_or(&image.config.platform);
    ImageManifest {
        id: image.manifest.digest.to_string(),
        descriptor: descriptor(&image.manifest),
        available: true,
        size: ImageManifestSize {
            total: as_i64(image.disk_bytes()),
            content: as_i64(image.content_bytes),
        },
        kind: "image".to_owned(),
        image_data: Some(ImageManifestData {
            platform: platform(offered),
            containers,
            size: ImageDataSize {
                unpacked: as_i64(image.unpacked_bytes),
            },
        }),
    }
}

pub(super) fn descriptor(descriptor: &wharf_oci::image::Descriptor) -> Descriptor {
    Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: as_i64(descriptor.size),
        annotations: descriptor.annotations.clone(),
        platform: descriptor.platform.as_ref().map(platform),
    }
}

pub(super) fn platform(platform: &wharf_oci::platform::Platform) -> Platform {
    Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
    }
}
