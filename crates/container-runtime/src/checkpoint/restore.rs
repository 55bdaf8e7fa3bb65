//! Restoring a container from CRIU's images.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wharf_oci::runtime::{Mount, NamespaceKind};
use wharf_sys::rootfs::Rootfs;

use super::outside::{NETWORK, Outside, OutsideMount};
use super::{CheckpointError, Criu};
use crate::cgroup::{Cgroup, Layout};
use crate::config::{ContainerConfig, NamespaceFd, Stdio};
use crate::create::{Running, namespaces_of};
use crate::error::{Stage, StartError};
use crate::prepared::Prepared;

/// Restores the container of `config` from `criu.images`. `root` is where its root file system is
/// mounted, in a mount namespace of the caller's own. Its first process becomes a child of the
/// nearest subreaper, which must be the caller.
pub fn restore(
    criu: &Criu,
    config: &ContainerConfig,
    namespaces: Vec<NamespaceFd>,
    streams: [OwnedFd; 3],
    root: &Path,
) -> Result<Running, CheckpointError> {
    let outside = Outside::read(&criu.images).map_err(|source| CheckpointError::Read {
        path: criu.images.clone(),
        source,
    })?;
    let stdio = Stdio::Streams(streams);
    let prepared = Prepared::new(config, namespaces, &stdio)?;
    let Stdio::Streams(streams) = stdio else {
        return Err(
            StartError::refused(Stage::Config, "a restored container has no terminal").into(),
        );
    };
    let cgroup = prepared
        .cgroups_path
        .as_ref()
        .map(|path| {
            Cgroup::at(path).map_err(|error| crate::launch::io(Stage::Cgroup, &error, path))
        })
        .transpose()?;
    let made = Made(cgroup.as_ref());
    if let Some(cgroup) = &cgroup {
        cgroup.create(&prepared.resources)?;
    }
    let layout = cgroup.as_ref().map(Cgroup::layout);
    let mounts = sources(&outside.mounts, &config.spec.mounts, layout);
    make_mount_points(root, &mounts, &config.spec.mounts)?;

    let pid_file = criu.work.join("restore.pid");
    // CRIU refuses to overwrite it.
    let _ = std::fs::remove_file(&pid_file);
    let mut words = vec![
        "--restore-detached".to_owned(),
        "--pidfile".to_owned(),
        pid_file.display().to_string(),
        "--root".to_owned(),
        root.display().to_string(),
    ];
    words.extend(outside.options.words());
    if let Some(path) = &prepared.cgroups_path
        && outside.options.manage_cgroups.as_deref() != Some("ignore")
    {
        words.extend(["--cgroup-root".to_owned(), path.clone()]);
    }
    for (destination, source) in &mounts {
        words.extend([
            "--external".to_owned(),
            format!("mnt[{}]:{}", destination.display(), source.display()),
        ]);
    }
    let mut inherited: Vec<(BorrowedFd<'_>, &str)> = Vec::new();
    for (stream, name) in streams.iter().zip(&outside.streams) {
        // Two descriptors of one file have one name.
        if !inherited.iter().any(|(_, known)| known == name) {
            inherited.push((stream.as_fd(), name));
        }
    }
    if outside.network {
        let network = prepared
            .joined
            .iter()
            .find(|namespace| namespace.kind == NamespaceKind::Network);
        let network = network.ok_or_else(|| {
            StartError::refused(Stage::Config, "the checkpoint needs a network namespace")
        })?;
        inherited.push((network.fd.as_fd(), NETWORK));
    }
    for ((_, name), number) in inherited.iter().zip(3..) {
        words.extend(["--inherit-fd".to_owned(), format!("fd[{number}]:{name}")]);
    }
    let fds: Vec<BorrowedFd<'_>> = inherited.iter().map(|(fd, _)| *fd).collect();
    // What CRIU restores is born where CRIU is, unless the images know better.
    let doors = cgroup.as_ref().map(Cgroup::doors).transpose()?;
    let doors: Vec<BorrowedFd<'_>> = doors.iter().flatten().map(AsFd::as_fd).collect();
    criu.run("restore", &words, &fds, &doors)?;

    let pid = read_pid(&pid_file)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| StartError::new(Stage::Died, errno, ""))?;
    made.keep();
    Ok(Running {
        pid,
        pidfd,
        terminal: None,
        mounts: None,
        namespaces: namespaces_of(&prepared),
        cgroup,
    })
}

/// A cgroup that goes again when the restore fails.
struct Made<'a>(Option<&'a Cgroup>);

impl Made<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if let Some(cgroup) = self.0 {
            // The failure is what the caller wants to hear about.
            let _ = cgroup.signal_all(rustix::process::Signal::KILL);
            let _ = cgroup.remove();
        }
    }
}

/// What takes the place of each mount of the host's: the document's bind with that destination,
/// the container's cgroup of today, or what it was.
fn sources(
    outside: &[OutsideMount],
    document: &[Mount],
    cgroups: Option<&Layout>,
) -> Vec<(PathBuf, PathBuf)> {
    let source = |mount: &OutsideMount| -> PathBuf {
        if mount.cgroup {
            match cgroups {
                Some(Layout::Unified { directory }) => return directory.clone(),
                Some(Layout::Split(hierarchies)) => {
                    let name = mount.destination.file_name();
                    let hierarchy = hierarchies
                        .iter()
                        .find(|hierarchy| name == Some(hierarchy.name.as_ref()));
                    if let Some(hierarchy) = hierarchy {
                        return hierarchy.directory.clone();
                    }
                }
                None => {}
            }
        }
        let binds = document.iter().filter_map(|bind| {
            let source = Path::new(bind.source.as_deref()?);
            if !source.is_absolute() {
                return None;
            }
            let below = mount.destination.strip_prefix(&bind.destination).ok()?;
            Some((bind.destination.len(), source, below))
        });
        match binds.max_by_key(|(length, _, _)| *length) {
            Some((_, source, below)) if below.as_os_str().is_empty() => source.to_owned(),
            Some((_, source, below)) => source.join(below),
            None => mount.source.clone(),
        }
    };
    outside
        .iter()
        .map(|mount| (mount.destination.clone(), source(mount)))
        .collect()
}

/// Makes what mounts will be put on: the root may not be the one of the checkpoint. What lies
/// below another mount is in the images, or with that mount.
fn make_mount_points(
    root: &Path,
    mounts: &[(PathBuf, PathBuf)],
    document: &[Mount],
) -> Result<(), StartError> {
    let failed =
        |path: &Path, errno: Errno| StartError::new(Stage::Path, errno, path.display().to_string());
    let io = |path: &Path, error: &std::io::Error| {
        failed(path, Errno::from_io_error(error).unwrap_or(Errno::IO))
    };
    let rootfs = Rootfs::at(root).map_err(|error| io(root, &error))?;
    let places: Vec<&Path> = document
        .iter()
        .map(|mount| Path::new(&mount.destination))
        .collect();
    let is_below = |path: &Path| {
        places
            .iter()
            .any(|place| *place != path && path.starts_with(place))
    };
    for mount in document {
        let path = Path::new(&mount.destination);
        if is_below(path) {
            continue;
        }
        let source = mounts
            .iter()
            .find(|(destination, _)| destination == path)
            .map(|(_, source)| source);
        let is_file = source.is_some_and(|source| source.is_file());
        let exists = rootfs.open(path, OFlags::PATH, Mode::empty()).is_ok();
        if exists {
            continue;
        }
        let made = if is_file {
            rootfs.create_file(path, Mode::from_raw_mode(0o644))
        } else {
            rootfs.create_dir_all(path, Mode::from_raw_mode(0o755))
        };
        made.map_err(|errno| failed(path, errno))?;
    }
    Ok(())
}

fn read_pid(path: &Path) -> Result<Pid, CheckpointError> {
    let read = |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(read)?;
    text.trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| read(std::io::ErrorKind::InvalidData.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_of_today_take_the_place_of_yesterdays() {
        let outside = |destination: &str, source: &str| OutsideMount {
            destination: destination.into(),
            source: source.into(),
            cgroup: false,
        };
        let bind = |destination: &str, source: &str| Mount {
            destination: destination.to_owned(),
            source: Some(source.to_owned()),
            ..Mount::default()
        };
        let document = [
            bind("/proc", "proc"),
            bind("/etc/hosts", "/run/new/hosts"),
            bind("/a", "/srv/a"),
            bind("/a/b", "/srv/other"),
        ];
        let then = [
            outside("/etc/hosts", "/run/old/hosts"),
            outside("/proc/keys", "/dev/null"),
            outside("/a/c/d", "/was/c/d"),
            outside("/a/b", "/was/b"),
        ];
        let now: Vec<String> = sources(&then, &document, None)
            .into_iter()
            .map(|(_, source)| source.display().to_string())
            .collect();
        assert_eq!(
            now,
            ["/run/new/hosts", "/dev/null", "/srv/a/c/d", "/srv/other"]
        );
    }
}
