//! Writing image archives, as Docker's containerd store does.
//!
//! ```text
//! blobs/sha256/<hex>    every document and layer, as stored
//! index.json            OCI index; names in annotations
//! manifest.json         the same for readers of Docker's older format
//! oci-layout
//! ```
//!
//! Records are sorted and carry no time, so the same images give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};

use serde::Serialize;
use wharf_ids::{Digest, ImageRef};
use wharf_oci::image::{Descriptor, Document, Index, media_type};
use wharf_oci::platform::Platform;

use crate::catalog::{Query, is_id_prefix};
use crate::error::ImageError;
use crate::lease::Lease;
use crate::record::given_name;
use crate::store::ImageStore;

const BLOCK_BYTES: usize = 512;
const COPY_BUFFER_BYTES: usize = 1024 * 1024;
const NAME_ANNOTATION: &str = "io.containerd.image.name";
const TAG_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// An entry of `manifest.json`.
#[derive(Debug, Serialize)]
struct DockerManifest {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// An archive decided upon: nothing about the images can be missing any more.
#[derive(Debug)]
pub struct Archive {
    lease: Lease,
    /// Size by digest.
    blobs: BTreeMap<Digest, u64>,
    documents: Vec<(&'static str, Vec<u8>)>,
}

impl ImageStore {
    /// Collects the images that `names` stand for: a name with a tag, all tags of a name without
    /// one, or an id. Errors come from here, before the first byte is written; the content stays
    /// until the archive is dropped.
    pub fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<Archive, ImageError> {
        let lease = self.lease();
        let mut chosen: Vec<(Descriptor, Option<ImageRef>)> = Vec::new();
        for text in names {
            self.choose(text, &mut chosen)?;
        }
        let mut blobs = BTreeMap::new();
        let mut entries = Vec::new();
        let mut docker: Vec<(Digest, DockerManifest)> = Vec::new();
        for (target, name) in chosen {
            let image = self
                .view(&target, platform)?
                .ok_or_else(|| match platform {
                    Some(platform) => ImageError::NoSuchPlatform {
                        reference: name
                            .as_ref()
                            .map_or_else(|| target.digest.to_string(), ImageRef::familiar),
                        platform: platform.to_string(),
                    },
                    None => ImageError::NotAnImage(target.digest.clone()),
                })?;
            let mut entry = if platform.is_some() {
                image.manifest.clone()
            } else {
                target
            };
            lease.collect(&entry, &mut blobs)?;
            for needed in std::iter::once(&image.config_digest)
                .chain(image.layers.iter().map(|layer| &layer.blob.digest))
            {
                if !blobs.contains_key(needed) {
                    return Err(ImageError::MissingContent(needed.clone()));
                }
            }
            entry.annotations.clear();
            if let Some(name) = &name {
                entry
                    .annotations
                    .insert(NAME_ANNOTATION.to_owned(), name.to_string());
                let tag = name
                    .tag
                    .clone()
                    .or_else(|| name.digest.as_ref().map(ToString::to_string));
                entry
                    .annotations
                    .extend(tag.map(|tag| (TAG_ANNOTATION.to_owned(), tag)));
            }
            entries.push(entry);
            let tag = name
                .filter(|name| name.tag.is_some())
                .map(|name| name.familiar());
            match docker
                .iter_mut()
                .find(|(digest, _)| *digest == image.manifest.digest)
            {
                Some((_, known)) => known.repo_tags.get_or_insert_default().extend(tag),
                None => docker.push((
                    image.manifest.digest.clone(),
                    DockerManifest {
                        config: blob_path(&image.config_digest),
                        repo_tags: tag.map(|tag| vec![tag]),
                        layers: image
                            .layers
                            .iter()
                            .map(|layer| blob_path(&layer.blob.digest))
                            .collect(),
                    },
                )),
            }
        }
        let index = Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            artifact_type: None,
            manifests: entries,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let docker: Vec<DockerManifest> =
            docker.into_iter().map(|(_, manifest)| manifest).collect();
        let documents = vec![
            ("index.json", json(&index)),
            ("manifest.json", json(&docker)),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ];
        Ok(Archive {
            lease,
            blobs,
            documents,
        })
    }

    fn choose(
        &self,
        text: &str,
        chosen: &mut Vec<(Descriptor, Option<ImageRef>)>,
    ) -> Result<(), ImageError> {
        let query = Query::parse(text)?;
        let catalog = self.catalog();
        let found = catalog
            .find(&query)
            .map(|(_, record)| record.target.clone());
        let typed = ImageRef::parse(text).ok();
        let is_id = found
            .as_ref()
            .is_ok_and(|target| is_id_prefix(&target.digest, text))
            || typed.as_ref().is_some_and(|name| name.digest.is_some());
        let add = |chosen: &mut Vec<(Descriptor, Option<ImageRef>)>,
                   target: Descriptor,
                   name: Option<ImageRef>| {
            if !chosen
                .iter()
                .any(|(known, known_name)| known.digest == target.digest && *known_name == name)
            {
                chosen.push((target, name));
            }
        };
        if let Some(name) = typed
            && !is_id
        {
            if name.tag.is_some() {
                add(chosen, found?, Some(name));
                return Ok(());
            }
            let repository = name.name();
            let mut any = false;
            for (stored, record) in &catalog.images {
                let Some(stored) = given_name(stored) else {
                    continue;
                };
                if stored.name() == repository && stored.tag.is_some() {
                    add(chosen, record.target.clone(), Some(stored));
                    any = true;
                }
            }
            return if any { Ok(()) } else { Err(query.not_found()) };
        }
        add(chosen, found?, None);
        Ok(())
    }
}

impl Lease {
    /// Holds and lists everything below a target that is here.
    fn collect(
        &self,
        target: &Descriptor,
        blobs: &mut BTreeMap<Digest, u64>,
    ) -> Result<(), ImageError> {
        if !self.has_blob(&target.digest) {
            return Err(ImageError::MissingContent(target.digest.clone()));
        }
        if blobs.contains_key(&target.digest) {
            return Ok(());
        }
        let document = self.store.document(target)?;
        blobs.insert(target.digest.clone(), target.size);
        for child in document.children() {
            if !self.has_blob(&child.digest) {
                continue;
            }
            match &document {
                Document::Index(_) => self.collect(child, blobs)?,
                // Layers under a licence that forbids to pass them on stay where they are.
                Document::Manifest(_) if media_type::is_nondistributable(&child.media_type) => {}
                Document::Manifest(_) => {
                    let size = self
                        .store
                        .inner
                        .content
                        .size(&child.digest)
                        .unwrap_or(child.size);
                    blobs.insert(child.digest.clone(), size);
                }
            }
        }
        Ok(())
    }
}

impl Archive {
    /// Bytes [`Archive::write`] is going to write.
    pub fn size_bytes(&self) -> u64 {
        let record =
            |size: u64| BLOCK_BYTES as u64 + size.div_ceil(BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
        let blobs: u64 = self.blobs.values().map(|size| record(*size)).sum();
        let documents: u64 = self
            .documents
            .iter()
            .map(|(_, bytes)| record(bytes.len() as u64))
            .sum();
        // Two directories and the two empty blocks at the end.
        blobs + documents + 4 * BLOCK_BYTES as u64
    }

    /// Writes the archive.
    pub fn write(&self, mut target: impl Write) -> Result<(), ImageError> {
        for path in ["blobs/", "blobs/sha256/"] {
            target
                .write_all(&header(path, 0, tar::EntryType::Directory))
                .map_err(ImageError::Save)?;
        }
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        for (digest, size) in &self.blobs {
            self.write_blob(digest, *size, &mut buffer, &mut target)?;
        }
        for (path, bytes) in &self.documents {
            write_document(path, bytes, &mut target).map_err(ImageError::Save)?;
        }
        target
            .write_all(&[0; 2 * BLOCK_BYTES])
            .and_then(|()| target.flush())
            .map_err(ImageError::Save)
    }

    fn write_blob(
        &self,
        digest: &Digest,
        size: u64,
        buffer: &mut [u8],
        target: &mut impl Write,
    ) -> Result<(), ImageError> {
        let mut blob = self.lease.store().open_blob(digest)?;
        let path = self.lease.store().inner.content.path(digest);
        let head = header(&blob_path(digest), size, tar::EntryType::Regular);
        target.write_all(&head).map_err(ImageError::Save)?;
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            // A blob that became shorter is damaged: the header has promised its size.
            blob.read_exact(&mut buffer[..length])
                .map_err(ImageError::io("read", &path))?;
            target
                .write_all(&buffer[..length])
                .map_err(ImageError::Save)?;
            left -= length as u64;
        }
        target
            .write_all(&[0; BLOCK_BYTES][..padding(size)])
            .map_err(ImageError::Save)
    }
}

fn write_document(path: &str, bytes: &[u8], target: &mut impl Write) -> io::Result<()> {
    target.write_all(&header(path, bytes.len() as u64, tar::EntryType::Regular))?;
    target.write_all(bytes)?;
    target.write_all(&[0; BLOCK_BYTES][..padding(bytes.len() as u64)])
}

fn header(path: &str, size: u64, kind: tar::EntryType) -> [u8; BLOCK_BYTES] {
    let mut header = tar::Header::new_ustar();
    header
        .set_path(path)
        .expect("our paths are short and relative");
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory {
        0o755
    } else {
        0o444
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    *header.as_bytes()
}

fn padding(size: u64) -> usize {
    (BLOCK_BYTES - (size % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("our documents have string keys and finite numbers")
}
