//! How much room a volume takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use wharf_api_types::volume::{Volume, VolumeUsage};
use wharf_fault::{Error, Result};

use super::Volumes;
use crate::Engine;

impl Volumes {
    /// All volumes with their size and the number of containers that use them. Reads every
    /// directory.
    pub async fn usage(&self, engine: &Engine) -> Result<Vec<Volume>> {
        let mut volumes: Vec<Volume> = {
            let state = self.lock();
            state
                .records
                .iter()
                .map(|(name, record)| self.describe(name, record))
                .collect()
        };
        for volume in &mut volumes {
            let users = engine.containers.using_volume(&volume.name).len();
            let size = self.size(&volume.name).await?;
            volume.usage_data = Some(VolumeUsage {
                ref_count: i64::try_from(users).unwrap_or(i64::MAX),
                size: i64::try_from(size).unwrap_or(i64::MAX),
            });
        }
        Ok(volumes)
    }

    /// Bytes on disk of a volume.
    pub(super) async fn size(&self, name: &str) -> Result<u64> {
        let directory = self.path(name);
        tokio::task::spawn_blocking(move || disk_usage(&directory))
            .await
            .map_err(|source| Error::system("cannot read the size of a volume").caused_by(source))
    }
}

/// Bytes that the files below `root` take on disk; hard links count once, links are not followed
/// and other file systems not entered. What disappears or cannot be read counts nothing.
pub(crate) fn disk_usage(root: &Path) -> u64 {
    let Ok(top) = std::fs::symlink_metadata(root) else {
        return 0;
    };
    let mut linked = HashSet::new();
    let mut total = 0;
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.dev() != top.dev() {
                continue;
            }
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.nlink() > 1 && !linked.insert(metadata.ino()) {
                continue;
            }
            total += metadata.blocks() * 512;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once_and_symlinks_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![1_u8; 100_000]).unwrap();
        let alone = disk_usage(folder.path());
        assert!(alone >= 100_000);
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("c")).unwrap();
        assert!(disk_usage(folder.path()) < alone + 10_000);
        assert_eq!(disk_usage(Path::new("/no/such/directory")), 0);
    }
}
