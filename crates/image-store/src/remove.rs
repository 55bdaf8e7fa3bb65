//! Removing names and images, with Docker's rules about what is in the way.
//!
//! A name given to `remove` is untagged; the image goes with its last name. An id removes the image
//! with all of its names. In the way are, in this order: a running container (nothing helps), a
//! stopped container (`force` helps), names in several repositories when an id was given (`force`
//! helps).

use wharf_ids::{Digest, ImageRef};

use crate::catalog::{Query, is_id_prefix};
use crate::error::ImageError;
use crate::record::{ImageRecord, dangling_name, given_name, is_dangling};
use crate::store::ImageStore;

/// A container made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUse {
    /// The container's id.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Remove also where a stopped container or another repository uses the image.
    pub force: bool,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone (familiar form).
    Untagged(String),
    /// An image is gone (its id).
    Deleted(String),
}

/// The caller's knowledge about containers: those made from an image.
pub(crate) type Usage<'a> = &'a dyn Fn(&Digest) -> Vec<ContainerUse>;

impl ImageStore {
    /// Removes a name or an image. `usage` tells the containers made from an image. Blobs and
    /// layers that nothing needs any more are gone afterwards.
    pub fn remove(
        &self,
        text: &str,
        options: RemoveOptions,
        usage: &dyn Fn(&Digest) -> Vec<ContainerUse>,
    ) -> Result<Vec<Removed>, ImageError> {
        let removed = self.remove_names(text, options, usage)?;
        self.collect_garbage()?;
        Ok(removed)
    }

    pub(crate) fn remove_names(
        &self,
        text: &str,
        options: RemoveOptions,
        usage: Usage<'_>,
    ) -> Result<Vec<Removed>, ImageError> {
        let query = Query::parse(text)?;
        let change = self.begin_change();
        let (id, named, all) = {
            let catalog = self.catalog();
            let (name, record) = catalog.find(&query)?;
            let id = record.target.digest.clone();
            let by_id = is_dangling(name) || is_id_prefix(&id, text);
            // A tag that looks like an id is a tag.
            let by_id = by_id
                && !matches!(&query, Query::Name { reference, .. } if reference.to_string() == name);
            let named = match &query {
                Query::Name { reference, .. } if !by_id => Some(reference.clone()),
                _ => None,
            };
            let all: Vec<String> = catalog
                .with_target(&id)
                .map(|(name, _)| name.to_owned())
                .collect();
            (id, named, all)
        };
        let containers = usage(&id);
        let result = match named {
            Some(named) => self.remove_named(&id, &named, &all, options, &containers),
            None => self.remove_all(&id, &id_short(&id), &all, options, &containers),
        };
        drop(change);
        result
    }

    fn remove_named(
        &self,
        id: &Digest,
        named: &ImageRef,
        all: &[String],
        options: RemoveOptions,
        containers: &[ContainerUse],
    ) -> Result<Vec<Removed>, ImageError> {
        let same = same_references(named, all);
        if same.len() < all.len() {
            return self.untag(&same);
        }
        if let Some(container) = containers.first() {
            if !options.force {
                return Err(ImageError::InUse {
                    reference: named.familiar(),
                    forceable: true,
                    message: format!(
                        "container {} is using its referenced image {}",
                        short(&container.id),
                        id_short(id)
                    ),
                });
            }
            if let Some(running) = containers.iter().find(|container| container.running) {
                return Err(running_conflict(id, running));
            }
            // Its content stays for the container, without a name.
            let target = self
                .catalog()
                .images
                .get(&all[0])
                .map(|record| record.target.clone());
            let mut changes: Vec<(String, Option<ImageRecord>)> =
                all.iter().map(|name| (name.clone(), None)).collect();
            if let Some(target) = target {
                changes.push((
                    dangling_name(id),
                    Some(ImageRecord {
                        target,
                        updated: jiff::Timestamp::now(),
                    }),
                ));
            }
            self.commit_images(changes)?;
            return Ok(vec![Removed::Untagged(named.familiar())]);
        }
        self.delete(id, all)
    }

    fn remove_all(
        &self,
        id: &Digest,
        reference: &str,
        all: &[String],
        options: RemoveOptions,
        containers: &[ContainerUse],
    ) -> Result<Vec<Removed>, ImageError> {
        if let Some(running) = containers.iter().find(|container| container.running) {
            return Err(running_conflict(id, running));
        }
        let conflict = |message: String| ImageError::InUse {
            reference: reference.to_owned(),
            forceable: true,
            message,
        };
        if !options.force {
            if let Some(stopped) = containers.first() {
                return Err(conflict(format!(
                    "image is being used by stopped container {}",
                    short(&stopped.id)
                )));
            }
            let repositories: std::collections::BTreeSet<String> = all
                .iter()
                .filter_map(|name| given_name(name))
                .map(|name| name.name())
                .collect();
            if repositories.len() > 1 {
                return Err(conflict(
                    "image is referenced in multiple repositories".to_owned(),
                ));
            }
        }
        self.delete(id, all)
    }

    fn untag(&self, names: &[String]) -> Result<Vec<Removed>, ImageError> {
        self.commit_images(names.iter().map(|name| (name.clone(), None)).collect())?;
        Ok(untagged(names))
    }

    fn delete(&self, id: &Digest, all: &[String]) -> Result<Vec<Removed>, ImageError> {
        let mut removed = self.untag(all)?;
        removed.push(Removed::Deleted(id.to_string()));
        Ok(removed)
    }
}

fn untagged(names: &[String]) -> Vec<Removed> {
    names
        .iter()
        .filter_map(|name| given_name(name))
        .map(|name| Removed::Untagged(name.familiar()))
        .collect()
}

/// The names that go when `named` goes: the name itself, names by digest of the same repository
/// when no other tag is left there, and every tag of the repository when it was given by digest.
fn same_references(named: &ImageRef, all: &[String]) -> Vec<String> {
    let parsed = || {
        all.iter()
            .filter_map(|text| given_name(text).map(|name| (text, name)))
    };
    let repository = named.name();
    let in_repository = |name: &ImageRef| name.name() == repository;
    if named.digest.is_some() {
        return parsed()
            .filter(|(_, name)| in_repository(name))
            .map(|(text, _)| text.clone())
            .collect();
    }
    let other_tag = parsed()
        .any(|(_, name)| in_repository(&name) && name.tag.is_some() && name.tag != named.tag);
    all.iter()
        .filter(|text| match given_name(text) {
            Some(name) if in_repository(&name) && name.tag.is_some() => name.tag == named.tag,
            Some(name) => in_repository(&name) && !other_tag,
            None => true,
        })
        .cloned()
        .collect()
}

fn running_conflict(id: &Digest, container: &ContainerUse) -> ImageError {
    ImageError::InUse {
        reference: id_short(id),
        forceable: false,
        message: format!(
            "image is being used by running container {}",
            short(&container.id)
        ),
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn id_short(id: &Digest) -> String {
    id.short().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";

    #[test]
    fn a_tag_takes_digest_names_of_its_repository_along_unless_another_tag_is_left() {
        let by_digest = format!("docker.io/library/a@sha256:{HEX}");
        let named = ImageRef::parse("a:1").unwrap();
        let all = vec!["docker.io/library/a:1".to_owned(), by_digest.clone()];
        assert_eq!(same_references(&named, &all), all);
        let all = vec![
            "docker.io/library/a:1".to_owned(),
            "docker.io/library/a:2".to_owned(),
            by_digest,
        ];
        assert_eq!(same_references(&named, &all), ["docker.io/library/a:1"]);
        let all = vec![
            "docker.io/library/a:1".to_owned(),
            "docker.io/library/b:1".to_owned(),
        ];
        assert_eq!(same_references(&named, &all), ["docker.io/library/a:1"]);
    }
}
