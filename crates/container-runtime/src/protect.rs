//! Masked and read-only paths.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use wharf_sys::mount::{
    AttributeChange, Attributes, attach, change_attributes, clone_tree, new_filesystem,
};
use wharf_sys::rootfs::Rootfs;

use crate::error::{Stage, StartError};
use crate::streams::read_only_copy;

/// The host's null device, opened before anything of the container's is reachable: what masks
/// files must not come from the container (CVE-2025-31133).
pub(crate) fn host_null_device() -> Result<OwnedFd, StartError> {
    let failed = |errno| StartError::new(Stage::Path, errno, "/dev/null of the host");
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let device = rustix::fs::open(c"/dev/null", flags, Mode::empty()).map_err(failed)?;
    let status = rustix::fs::fstat(&device).map_err(failed)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice
        || status.st_rdev != makedev(1, 3)
    {
        return Err(failed(Errno::NODEV));
    }
    Ok(device)
}

/// Hides `paths`: files behind the null device, directories behind an empty one. Paths that do
/// not exist need no hiding.
pub(crate) fn mask(
    root: &Rootfs,
    paths: &[PathBuf],
    null: &OwnedFd,
    label: Option<&str>,
) -> Result<(), StartError> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let failed = |errno| StartError::new(Stage::Path, errno, path.display().to_string());
        let target = match root.open_without_links(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other.map_err(failed)?,
        };
        let status = rustix::fs::fstat(&target).map_err(failed)?;
        let cover = if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            match &empty {
                Some(empty) => clone_tree(empty, c"", false).map_err(failed)?,
                None => {
                    let mut parameters = vec![
                        ("source", Some("tmpfs")),
                        ("nr_blocks", Some("1")),
                        ("nr_inodes", Some("1")),
                    ];
                    parameters.extend(label.map(|label| ("context", Some(label))));
                    new_filesystem("tmpfs", &parameters, MountAttrFlags::MOUNT_ATTR_RDONLY)
                        .map_err(failed)?
                }
            }
        } else {
            // What the container does to it must not reach the host's device.
            read_only_copy(null.as_fd()).map_err(failed)?
        };
        attach(&cover, &target).map_err(failed)?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory && empty.is_none() {
            empty = Some(cover);
        }
    }
    Ok(())
}

/// Makes `paths` read-only, with everything mounted below them.
pub(crate) fn make_readonly(root: &Rootfs, paths: &[PathBuf]) -> Result<(), StartError> {
    for path in paths {
        let failed = |errno| StartError::new(Stage::Path, errno, path.display().to_string());
        let target = match root.open_without_links(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other.map_err(failed)?,
        };
        let tree = clone_tree(target.as_fd(), c"", true).map_err(failed)?;
        let change = AttributeChange {
            set: Attributes::READ_ONLY,
            ..AttributeChange::default()
        };
        change_attributes(&tree, c"", true, change).map_err(failed)?;
        attach(tree, target).map_err(failed)?;
    }
    Ok(())
}
