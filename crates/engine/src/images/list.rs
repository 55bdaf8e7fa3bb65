//! Lists of images.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api_types::Filters;
use wharf_api_types::filters::FilterError;
use wharf_api_types::image::ImageSummary;
use wharf_fault::{Error, Result};
use wharf_ids::{Digest, ImageRef};
use wharf_image_store::Image;

use super::{Images, describe, glob};
use crate::Engine;
use crate::networks::{blocking, until};

/// What a list shall contain besides the images.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Which images.
    pub filters: Filters,
    /// How much each shares with others.
    pub shared_size: bool,
    /// How many containers use each.
    pub containers: bool,
    /// What is here for each platform.
    pub manifests: bool,
}

impl Images {
    /// The images that match, newest first.
    pub async fn list(&self, engine: &Engine, options: ListOptions) -> Result<Vec<ImageSummary>> {
        let invalid = |error: FilterError| Error::invalid(error.to_string());
        let filters = &options.filters;
        filters
            .only(&[
                "before",
                "containers",
                "dangling",
                "isdeprecated",
                "label",
                "label!",
                "reference",
                "since",
                "until",
            ])
            .map_err(invalid)?;
        for unsupported in ["containers", "isdeprecated"] {
            if filters.contains(unsupported) {
                return Err(Error::not_implemented(format!(
                    "filtering images by {unsupported} is not supported by this version of Wharf"
                )));
            }
        }
        let dangling = match filters.contains("dangling") {
            true => Some(filters.flag("dangling", false).map_err(invalid)?),
            false => None,
        };
        let until = until(filters)?;
        let before = self.bound(filters, "before").await?;
        let since = self.bound(filters, "since").await?;
        let store = self.store.clone();
        let all = blocking(move || Ok(store.list())).await?;
        let mut summaries = Vec::new();
        for image in &all {
            let made = image.created();
            let matches = dangling.is_none_or(|dangling| dangling == image.is_dangling())
                && filters.matches_labels("label", &image.config.config.labels)
                && filters.excludes_labels("label!", &image.config.config.labels)
                && until.is_none_or(|until| made.is_some_and(|made| made < until))
                && before.is_none_or(|before| made < before)
                && since.is_none_or(|since| made > since);
            if !matches {
                continue;
            }
            let mut summary = describe::summary(image);
            if filters.contains("reference") {
                let wanted = |name: &&ImageRef| matches_reference(filters.get("reference"), name);
                summary.repo_tags = image
                    .tags
                    .iter()
                    .filter(wanted)
                    .map(ImageRef::familiar)
                    .collect();
                summary.repo_digests = image
                    .digests
                    .iter()
                    .filter(wanted)
                    .map(ImageRef::familiar)
                    .collect();
                if summary.repo_tags.is_empty() && summary.repo_digests.is_empty() {
                    continue;
                }
            }
            if options.manifests {
                let users = super::container_use(engine, &image.id);
                let users = users.into_iter().map(|user| user.id).collect();
                summary.manifests = Some(vec![describe::manifest(image, users)]);
            }
            if options.containers {
                let users = super::container_use(engine, &image.id);
                summary.containers = i64::try_from(users.len()).unwrap_or(i64::MAX);
            }
            summaries.push(summary);
        }
        if options.shared_size {
            let shared = shared_bytes(&all);
            for summary in &mut summaries {
                let bytes = shared
                    .iter()
                    .find(|(id, _)| id.as_str() == summary.id)
                    .map_or(0, |(_, bytes)| *bytes);
                summary.shared_size = describe::as_i64(bytes);
            }
        }
        Ok(summaries)
    }

    /// When the image of a `before` or `since` filter was made.
    async fn bound(&self, filters: &Filters, name: &str) -> Result<Option<Option<Timestamp>>> {
        match filters.get(name) {
            [] => Ok(None),
            [reference] => Ok(Some(self.find(reference, None).await?.created())),
            _ => Err(Error::invalid(format!(
                "can't use more than one {name} filter"
            ))),
        }
    }

    /// All images with what they share and who uses them, and what all of them take on disk.
    pub async fn usage(&self, engine: &Engine) -> Result<(Vec<ImageSummary>, i64)> {
        let options = ListOptions {
            shared_size: true,
            containers: true,
            ..ListOptions::default()
        };
        let images = self.list(engine, options).await?;
        let store = self.store.clone();
        let total = blocking(move || Ok(total_bytes(&store.list()))).await?;
        Ok((images, describe::as_i64(total)))
    }
}

fn matches_reference(patterns: &[String], name: &ImageRef) -> bool {
    patterns.iter().any(|pattern| {
        glob::matches(pattern, &name.familiar()) == Some(true)
            || glob::matches(pattern, &name.familiar_name()) == Some(true)
    })
}

/// How many images have a layer, and the bytes of it.
fn layers(images: &[Arc<Image>]) -> HashMap<&Digest, (usize, u64)> {
    let mut layers: HashMap<&Digest, (usize, u64)> = HashMap::new();
    for layer in images.iter().flat_map(|image| &image.layers) {
        let entry = layers
            .entry(&layer.chain_id)
            .or_insert((0, layer.disk_bytes));
        entry.0 += 1;
    }
    layers
}

/// Bytes of the layers that an image has in common with others.
fn shared_bytes(images: &[Arc<Image>]) -> Vec<(Digest, u64)> {
    let layers = layers(images);
    let shared = |image: &Arc<Image>| {
        let of_layer = |chain: &Digest| match layers.get(chain) {
            Some((users, bytes)) if *users > 1 => *bytes,
            _ => 0,
        };
        (
            image.id.clone(),
            image
                .layers
                .iter()
                .map(|layer| of_layer(&layer.chain_id))
                .sum(),
        )
    };
    images.iter().map(shared).collect()
}

/// Bytes of all images; what they share counts once.
fn total_bytes(images: &[Arc<Image>]) -> u64 {
    let unpacked: u64 = layers(images).values().map(|(_, bytes)| bytes).sum();
    unpacked + images.iter().map(|image| image.content_bytes).sum::<u64>()
}
