//! Device nodes of a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, symlinkat};
use rustix::io::Errno;
use wharf_oci::runtime::Device;
use wharf_sys::rootfs::Rootfs;

use crate::error::{Stage, StartError};
use crate::mount_plan::normalise;

/// The character devices every container has (runtime-spec, "Default Devices").
const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The links every container has in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A device node to be made.
#[derive(Debug, Clone)]
pub(crate) struct PlannedDevice {
    path: PathBuf,
    kind: FileType,
    device: u64,
    mode: Mode,
    uid: u32,
    gid: u32,
}

/// Understands the document's devices.
pub(crate) fn plan(devices: &[Device]) -> Result<Vec<PlannedDevice>, StartError> {
    devices.iter().map(plan_one).collect()
}

fn plan_one(device: &Device) -> Result<PlannedDevice, StartError> {
    let refuse = |what: &str| {
        StartError::refused(Stage::Config, format!("device {:?}: {what}", device.path))
    };
    let path = normalise(&device.path)
        .filter(|path| path.file_name().is_some())
        .ok_or_else(|| refuse("not an absolute path"))?;
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => return Err(refuse("type is none of c, b, u and p")),
    };
    let number = |number: Option<i64>| match (kind, number) {
        (FileType::Fifo, _) => Ok(0),
        (_, Some(number)) => u32::try_from(number).map_err(|_| refuse("number out of range")),
        (_, None) => Err(refuse("has no device number")),
    };
    Ok(PlannedDevice {
        path,
        kind,
        device: makedev(number(device.major)?, number(device.minor)?),
        mode: Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777),
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

/// Makes the default devices and links in the container's `/dev`. The process's umask must be 0.
pub(crate) fn create_defaults(dev: &OwnedFd) -> Result<(), StartError> {
    for (name, major, minor) in DEFAULT {
        let failed = |errno| StartError::new(Stage::Device, errno, format!("/dev/{name}"));
        create(
            dev,
            Path::new(name),
            FileType::CharacterDevice,
            makedev(major, minor),
            Mode::from_raw_mode(0o666),
        )
        .map_err(failed)?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(StartError::new(
                    Stage::Device,
                    errno,
                    format!("/dev/{name}"),
                ));
            }
        }
    }
    Ok(())
}

/// Makes the link to the kernel's memory image where the kernel has one. (It is masked unless the
/// container is privileged.)
pub(crate) fn link_core(dev: &OwnedFd, proc: &OwnedFd) -> Result<(), StartError> {
    let found = rustix::fs::accessat(proc, "kcore", rustix::fs::Access::EXISTS, AtFlags::empty());
    if found.is_err() {
        return Ok(());
    }
    match symlinkat("/proc/kcore", dev, "core") {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(StartError::new(Stage::Device, errno, "/dev/core")),
    }
}

/// Makes the document's devices. The process's umask must be 0.
pub(crate) fn create_planned(root: &Rootfs, devices: &[PlannedDevice]) -> Result<(), StartError> {
    for device in devices {
        let failed =
            |errno| StartError::new(Stage::Device, errno, device.path.display().to_string());
        let (parent, name) = root
            .parent_of(&device.path, Mode::from_raw_mode(0o755))
            .map_err(failed)?;
        create(&parent, name, device.kind, device.device, device.mode).map_err(failed)?;
        if (device.uid, device.gid) != (0, 0) {
            let owner = Some(Uid::from_raw(device.uid));
            chownat(
                &parent,
                name,
                owner,
                Some(Gid::from_raw(device.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(failed)?;
        }
    }
    Ok(())
}

/// Makes a node, or finds that there is one like it (a mount may have brought it).
fn create(
    parent: impl AsFd,
    name: &Path,
    kind: FileType,
    device: u64,
    mode: Mode,
) -> Result<(), Errno> {
    match mknodat(&parent, name, kind, mode, device) {
        Err(Errno::EXIST) => {
            let node = rustix::fs::openat(
                &parent,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let status = rustix::fs::fstat(node)?;
            if FileType::from_raw_mode(status.st_mode) == kind
                && (kind == FileType::Fifo || status.st_rdev == device)
            {
                Ok(())
            } else {
                Err(Errno::EXIST)
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, kind: &str, major: Option<i64>) -> Device {
        Device {
            path: path.into(),
            kind: kind.into(),
            major,
            minor: Some(1),
            file_mode: None,
            uid: None,
            gid: None,
        }
    }

    #[test]
    fn devices_are_checked() {
        assert!(plan(&[device("/dev/x", "c", Some(1)), device("/dev/p", "p", None)]).is_ok());
        for wrong in [
            device("dev/x", "c", Some(1)),
            device("/", "c", Some(1)),
            device("/dev/x", "q", Some(1)),
            device("/dev/x", "b", None),
            device("/dev/x", "b", Some(-1)),
        ] {
            assert_eq!(plan(&[wrong]).unwrap_err().stage, Stage::Config);
        }
    }
}
