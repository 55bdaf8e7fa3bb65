//! Security labels entered at exec.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use wharf_sys::mount::new_filesystem;
use wharf_sys::rootfs::Rootfs;

use crate::error::{Stage, StartError};

/// Makes the next exec enter the AppArmor profile `profile`. The container's own `/proc` may be
/// anything (CVE-2019-16884), so a procfs nobody else sees is used.
pub(crate) fn enter_apparmor_at_exec(profile: &str) -> Result<(), StartError> {
    let failed =
        |errno| StartError::new(Stage::Label, errno, format!("apparmor profile {profile:?}"));
    let proc = Rootfs::new(new_filesystem("proc", &[], MountAttrFlags::empty()).map_err(failed)?);
    // Since Linux 5.8 every security module has attributes of its own; before, they share one.
    let file = ["thread-self/attr/apparmor/exec", "thread-self/attr/exec"]
        .into_iter()
        .find_map(|path| {
            proc.open(Path::new(path), OFlags::WRONLY, Mode::empty())
                .ok()
        })
        .ok_or_else(|| failed(Errno::NOENT))?;
    rustix::io::write(file, format!("exec {profile}").as_bytes())
        .map(drop)
        .map_err(failed)
}
