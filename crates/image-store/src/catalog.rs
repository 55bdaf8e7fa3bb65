//! The in-memory copy of the store's records and the rules by which a text names an image.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use wharf_ids::{Digest, ImageRef};

use crate::error::ImageError;
use crate::garbage::Needs;
use crate::image::Image;
use crate::record::{ContainerRecord, ContentRecord, ImageRecord, LayerRecord, given_name};

/// All records, and the images parsed so far.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Canonical name → target.
    pub(crate) images: BTreeMap<String, ImageRecord>,
    pub(crate) content: HashMap<Digest, ContentRecord>,
    pub(crate) layers: HashMap<Digest, LayerRecord>,
    pub(crate) containers: HashMap<String, ContainerRecord>,
    /// What documents say is needed, as far as a collection has read them.
    pub(crate) needs: HashMap<Digest, Arc<Needs>>,
    views: HashMap<ViewKey, Arc<Image>>,
    /// Counts changes, so that a view made from older records is not kept.
    generation: u64,
}

/// Image id and the platform asked for; `None` is the host's, or what there is.
type ViewKey = (Digest, Option<String>);

/// A text that may name an image: what Docker's rules say it can be.
#[derive(Debug)]
pub(crate) enum Query {
    /// A full digest.
    Id(Digest),
    /// A name; `hex` is set when the text could also be the beginning of an id.
    Name {
        reference: ImageRef,
        hex: Option<String>,
    },
}

impl Query {
    /// Reads a text a user typed where an image is expected.
    pub(crate) fn parse(text: &str) -> Result<Self, ImageError> {
        if let Ok(digest) = text.parse::<Digest>() {
            return Ok(Self::Id(digest));
        }
        if let Ok(digest) = format!("sha256:{text}").parse::<Digest>() {
            return Ok(Self::Id(digest));
        }
        Ok(Self::Name {
            reference: ImageRef::parse(text)?.or_latest(),
            hex: id_prefix(text).map(str::to_owned),
        })
    }

    /// Docker's answer when nothing is found.
    pub(crate) fn not_found(&self) -> ImageError {
        ImageError::NoSuchImage(match self {
            Self::Id(digest) => digest.to_string(),
            Self::Name { reference, .. } => reference.familiar(),
        })
    }
}

/// The hex digits, when `text` can be the beginning of an id.
fn id_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let valid = !hex.is_empty()
        && hex.len() <= 64
        && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then_some(hex)
}

/// Whether `text` is the beginning of the id, with or without `sha256:`.
pub(crate) fn is_id_prefix(id: &Digest, text: &str) -> bool {
    id.as_str().starts_with(text) || id.hex().starts_with(text)
}

impl Catalog {
    /// The record a text names: a name, a full id or an unambiguous beginning of one.
    pub(crate) fn find<'a>(
        &'a self,
        query: &Query,
    ) -> Result<(&'a str, &'a ImageRecord), ImageError> {
        match query {
            Query::Id(digest) => self
                .with_target(digest)
                .next()
                .ok_or_else(|| query.not_found()),
            Query::Name { reference, hex } => {
                if let Some(digest) = &reference.digest {
                    // `busybox@sha256:…` must not find `other@sha256:…` with the same content.
                    let repository = reference.name();
                    return self
                        .with_target(digest)
                        .find(|(name, _)| {
                            given_name(name).is_some_and(|named| named.name() == repository)
                        })
                        .ok_or_else(|| query.not_found());
                }
                if let Some((name, record)) = self.images.get_key_value(&reference.to_string()) {
                    return Ok((name, record));
                }
                let Some(hex) = hex else {
                    return Err(query.not_found());
                };
                let mut found: Option<(&str, &ImageRecord)> = None;
                for (name, record) in &self.images {
                    if record.target.digest.hex().starts_with(hex.as_str()) {
                        match found {
                            Some((_, first)) if first.target.digest != record.target.digest => {
                                return Err(ImageError::Ambiguous);
                            }
                            Some(_) => {}
                            None => found = Some((name, record)),
                        }
                    }
                }
                found.ok_or_else(|| query.not_found())
            }
        }
    }

    /// All names of an image.
    pub(crate) fn with_target<'a, 'b>(
        &'a self,
        id: &'b Digest,
    ) -> impl Iterator<Item = (&'a str, &'a ImageRecord)> + use<'a, 'b> {
        self.images
            .iter()
            .filter(move |(_, record)| record.target.digest == *id)
            .map(|(name, record)| (name.as_str(), record))
    }

    pub(crate) fn view(&self, id: &Digest, platform: Option<&str>) -> Option<Arc<Image>> {
        self.views
            .get(&(id.clone(), platform.map(str::to_owned)))
            .cloned()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Keeps a view made from the records of `generation`, unless they changed since.
    pub(crate) fn keep_view(
        &mut self,
        generation: u64,
        platform: Option<String>,
        image: &Arc<Image>,
    ) {
        if self.generation == generation {
            self.views
                .insert((image.id.clone(), platform), Arc::clone(image));
        }
    }

    /// To be called after a change of the names of these images.
    pub(crate) fn names_changed(&mut self, ids: &HashSet<Digest>) {
        self.generation += 1;
        self.views.retain(|(id, _), _| !ids.contains(id));
    }

    /// To be called after a change of `layers`.
    pub(crate) fn layers_changed(&mut self) {
        self.generation += 1;
        let Self { views, layers, .. } = self;
        let is_unpacked = |image: &Image| {
            image
                .layers
                .iter()
                .all(|layer| layers.contains_key(&layer.chain_id))
        };
        views.retain(|_, image| image.unpacked == is_unpacked(image));
    }

    /// Forgets parsed images that no name points to: those of a load that failed.
    pub(crate) fn forget_unnamed(&mut self) {
        let named: HashSet<&Digest> = self
            .images
            .values()
            .map(|record| &record.target.digest)
            .collect();
        self.views.retain(|(id, _), _| named.contains(id));
    }

    /// A chain id and all below it.
    pub(crate) fn chain<'a>(
        &'a self,
        top: Option<&'a Digest>,
    ) -> impl Iterator<Item = (&'a Digest, &'a LayerRecord)> {
        let mut next = top;
        std::iter::from_fn(move || {
            let id = next?;
            let record = self.layers.get(id)?;
            next = record.parent.as_ref();
            Some((id, record))
        })
    }
}
