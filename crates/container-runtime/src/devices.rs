//! Device nodes of a container.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, symlinkat,
};
use rustix::io::Errno;
use wharf_oci::runtime::Device;
use wharf_sys::mount::{attach, attach_at, clone_tree, new_filesystem};
use wharf_sys::namespace::in_private_mount_namespace;
use wharf_sys::rootfs::Rootfs;

use crate::error::{Stage, StartError};
use crate::id_map::IdMaps;
use crate::mount_plan::normalise;
use crate::supplies::NODE_CARRIER;

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
    devices
        .iter()
        // Docker lists the host's devices for `--privileged`; this one is the link to the container's
        // own terminals, always.
        .filter(|device| normalise(&device.path).as_deref() != Some(Path::new("/dev/ptmx")))
        .map(plan_one)
        .collect()
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
/// `supplied` are nodes made for us, if any were.
pub(crate) fn create_defaults(
    dev: &OwnedFd,
    supplied: &mut impl Iterator<Item = Option<OwnedFd>>,
) -> Result<(), StartError> {
    for node in default_nodes() {
        let name = node.path.strip_prefix("/dev").unwrap_or(&node.path);
        create(dev, name, &node, supplied.next().flatten()).map_err(|errno| node.error(errno))?;
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

/// Makes the document's devices. The process's umask must be 0. `supplied` as for the defaults.
pub(crate) fn create_planned(
    root: &Rootfs,
    devices: &[PlannedDevice],
    supplied: &mut impl Iterator<Item = Option<OwnedFd>>,
) -> Result<(), StartError> {
    for device in devices {
        let supplied = supplied.next().flatten();
        let failed = |errno| device.error(errno);
        let (parent, name) = root
            .parent_of(&device.path, Mode::from_raw_mode(0o755))
            .map_err(failed)?;
        let made_elsewhere = supplied.is_some();
        create(&parent, name, device, supplied).map_err(failed)?;
        if (device.uid, device.gid) != (0, 0) && !made_elsewhere {
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

fn default_nodes() -> impl Iterator<Item = PlannedDevice> {
    DEFAULT
        .into_iter()
        .map(|(name, major, minor)| PlannedDevice {
            path: Path::new("/dev").join(name),
            kind: FileType::CharacterDevice,
            device: makedev(major, minor),
            mode: Mode::from_raw_mode(0o666),
            uid: 0,
            gid: 0,
        })
}

/// How many nodes [`supply`] makes, or leaves out.
pub(crate) fn places(devices: &[PlannedDevice]) -> usize {
    DEFAULT.len() + devices.len()
}

/// Makes the nodes of a container whose root may not make any, first the default ones: mounts
/// of single files, owned as the container's mapping says. FIFOs it can make itself.
pub(crate) fn supply(
    devices: &[PlannedDevice],
    maps: &IdMaps,
) -> Result<Vec<Option<OwnedFd>>, StartError> {
    let failed = |errno| StartError::new(Stage::Device, errno, "nodes");
    let parameters = [("source", Some("devices")), ("mode", Some("755"))];
    let shelf = new_filesystem("tmpfs", &parameters, NODE_CARRIER).map_err(failed)?;
    let mask = rustix::process::umask(Mode::empty());
    let nodes: Result<Vec<_>, _> = default_nodes()
        .chain(devices.iter().cloned())
        .enumerate()
        .map(|(number, device)| make_node(&shelf, number, &device, maps))
        .collect();
    rustix::process::umask(mask);
    let nodes = nodes?;
    let copies = match copies(&shelf, &nodes) {
        // Before Linux 6.15 nothing is copied from a mount that has no place.
        Err(Errno::INVAL) => in_private_mount_namespace(|| {
            attach_at(&shelf, c"/")?;
            copies(&shelf, &nodes)
        })
        .map_err(|error| crate::launch::io(Stage::Device, &error, "nodes"))?,
        other => other,
    };
    let mut copies = copies.map_err(failed)?.into_iter();
    let place = |node| match node {
        Node::Own => None,
        Node::Host(tree) => Some(tree),
        Node::OnShelf(_) => copies.next(),
    };
    Ok(nodes.into_iter().map(place).collect())
}

/// What there is of a device that a container is supplied with.
#[derive(Debug)]
enum Node {
    /// Nothing: it makes it itself.
    Own,
    /// The host's.
    Host(OwnedFd),
    /// One of this name, made for it.
    OnShelf(CString),
}

/// Mounts of the nodes on the shelf, each by itself.
fn copies(shelf: &OwnedFd, nodes: &[Node]) -> Result<Vec<OwnedFd>, Errno> {
    let made = nodes.iter().filter_map(|node| match node {
        Node::OnShelf(name) => Some(name),
        Node::Own | Node::Host(_) => None,
    });
    made.map(|name| clone_tree(shelf, name, false)).collect()
}

fn make_node(
    shelf: &OwnedFd,
    number: usize,
    device: &PlannedDevice,
    maps: &IdMaps,
) -> Result<Node, StartError> {
    if device.kind == FileType::Fifo {
        return Ok(Node::Own);
    }
    let failed = |errno| device.error(errno);
    let (first_uid, first_gid) = (maps.uid.first(), maps.gid.first());
    // Root is whoever the container is set up as.
    let owner = |id: u32, first: u32| if id == 0 { first } else { id };
    let (Some(uid), Some(gid)) = (
        maps.uid.outside(owner(device.uid, first_uid)),
        maps.gid.outside(owner(device.gid, first_gid)),
    ) else {
        return Err(StartError::refused(
            Stage::Config,
            format!(
                "device {}: its owner {}:{} is not in the user namespace's mapping",
                device.path.display(),
                device.uid,
                device.gid
            ),
        ));
    };
    let name = CString::new(number.to_string()).unwrap_or_default();
    match mknodat(shelf, &name, device.kind, device.mode, device.device) {
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            chownat(shelf, &name, Some(uid), Some(gid), flags).map_err(failed)?;
            Ok(Node::OnShelf(name))
        }
        Err(Errno::PERM) => host_node(device).map(Node::Host).map_err(failed),
        Err(errno) => Err(failed(errno)),
    }
}

/// The host's node of the same name, if it is the same device: for those who may not make nodes.
fn host_node(device: &PlannedDevice) -> Result<OwnedFd, Errno> {
    let tree = clone_tree(CWD, &crate::prepared::c_path(&device.path)?, false)?;
    let status = rustix::fs::fstat(&tree)?;
    if FileType::from_raw_mode(status.st_mode) != device.kind || status.st_rdev != device.device {
        return Err(Errno::PERM);
    }
    Ok(tree)
}

/// Makes a node, or finds that there is one like it (a mount may have brought it). One that was
/// `supplied`, or that only the host's can be used for, is mounted on an empty file.
fn create(
    parent: impl AsFd,
    name: &Path,
    device: &PlannedDevice,
    supplied: Option<OwnedFd>,
) -> Result<(), Errno> {
    let node = match supplied {
        Some(node) => node,
        None => match mknodat(&parent, name, device.kind, device.mode, device.device) {
            Err(Errno::EXIST) => return check(&parent, name, device),
            // The host's tree is still what absolute paths lead into.
            Err(Errno::PERM) if device.kind != FileType::Fifo => host_node(device)?,
            other => return other,
        },
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)) {
        Ok(_) => {}
        Err(Errno::EXIST) => {
            if check(&parent, name, device).is_ok() {
                return Ok(());
            }
        }
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    attach(node, target)
}

/// Whether what is there is `device`.
fn check(parent: impl AsFd, name: &Path, device: &PlannedDevice) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let status = rustix::fs::fstat(rustix::fs::openat(parent, name, flags, Mode::empty())?)?;
    if FileType::from_raw_mode(status.st_mode) == device.kind
        && (device.kind == FileType::Fifo || status.st_rdev == device.device)
    {
        Ok(())
    } else {
        Err(Errno::EXIST)
    }
}

impl PlannedDevice {
    fn error(&self, errno: Errno) -> StartError {
        StartError::new(Stage::Device, errno, self.path.display().to_string())
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
