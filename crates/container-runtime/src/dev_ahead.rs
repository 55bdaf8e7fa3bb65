//! The `/dev` of a container that is to come: whoever waits for one can make it meanwhile.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, mkdirat};
use wharf_sys::mount::new_filesystem;

use crate::devices;
use crate::error::StartError;
use crate::mount_plan::{self, Kind, PlannedMount};

/// Docker's default `/dev` with the default devices, and its terminals, attached nowhere. For one
/// container, and only where that asks for the same.
#[derive(Debug)]
pub struct DevAhead {
    made: Vec<(PlannedMount, OwnedFd)>,
    /// The directories in it, each for a mount.
    points: Vec<PathBuf>,
}

impl DevAhead {
    /// Makes it. The process must have one thread. Nothing comes of it in a user namespace, whose
    /// root may not make devices.
    pub fn make() -> Result<Option<Self>, StartError> {
        if !wharf_sys::namespace::is_initial_user() {
            return Ok(None);
        }
        let defaults = wharf_oci::defaults::mounts();
        let defaults: Vec<PlannedMount> = defaults
            .iter()
            .map(mount_plan::plan)
            .collect::<Result<_, _>>()?;
        let points: Vec<PathBuf> = defaults
            .iter()
            .map(|mount| mount.destination.clone())
            .filter(|path| path.parent() == Some(Path::new("/dev")))
            .collect();
        let mask = rustix::process::umask(Mode::empty());
        let made = defaults
            .iter()
            .filter_map(|mount| match mount.destination.to_str() {
                Some("/dev") => Some(dev(mount, &points)),
                Some("/dev/pts") => Some(file_system(mount)),
                _ => None,
            })
            .collect::<Result<Vec<_>, _>>();
        rustix::process::umask(mask);
        Ok(Some(Self {
            made: made?,
            points,
        }))
    }

    /// Gives what is there for `mounts` its place among their `sources`, if `/dev` is; whether that is so.
    pub(crate) fn give(
        &self,
        mounts: &[PlannedMount],
        sources: &mut [Option<OwnedFd>],
    ) -> Result<bool, StartError> {
        let is_dev = |mount: &&PlannedMount| mount.destination == Path::new("/dev");
        let is_ours = |mount: &PlannedMount| self.made.iter().any(|(plan, _)| plan == mount);
        let mut all = mounts.iter().filter(is_dev);
        if !all.next().is_some_and(is_ours) || all.next().is_some() {
            return Ok(false);
        }
        let is_used = |point: &PathBuf| mounts.iter().any(|mount| mount.destination == *point);
        if !self.points.iter().all(is_used) {
            return Ok(false);
        }
        for (plan, tree) in &self.made {
            let Some(index) = mounts.iter().position(|mount| mount == plan) else {
                continue;
            };
            let copy = rustix::io::fcntl_dupfd_cloexec(tree, 3);
            sources[index] = Some(copy.map_err(|errno| plan.error(errno))?);
        }
        Ok(true)
    }
}

fn dev(mount: &PlannedMount, points: &[PathBuf]) -> Result<(PlannedMount, OwnedFd), StartError> {
    let (mount, dev) = file_system(mount)?;
    devices::create_defaults(&dev, &mut std::iter::empty())?;
    for name in points.iter().filter_map(|point| point.file_name()) {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755)).map_err(|errno| mount.error(errno))?;
    }
    Ok((mount, dev))
}

fn file_system(mount: &PlannedMount) -> Result<(PlannedMount, OwnedFd), StartError> {
    let Kind::New {
        filesystem,
        parameters,
    } = &mount.kind
    else {
        return Err(mount.error(rustix::io::Errno::INVAL));
    };
    let list: Vec<_> = parameters
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_deref()))
        .collect();
    new_filesystem(filesystem, &list, mount.new_attributes())
        .map(|new| (mount.clone(), new))
        .map_err(|errno| mount.error(errno))
}
