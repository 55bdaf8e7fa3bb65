//! Copying files out of and into containers (`docker cp`).
//!
//! Every path is resolved by the kernel inside the container's root (`openat2`, see
//! `wharf_sys::rootfs`): links of the container lead nowhere outside. A running container is
//! looked at through its first process, so volumes and binds are where the container has them. A
//! stopped one is a detached overlay mount, or the volume or bind the path lies in.

mod owners;
mod pack;
mod unpack;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, readlinkat, statat};
use rustix::io::Errno;
use wharf_api_types::archive::PathStat;
use wharf_api_types::time;
use wharf_fault::{Error, Kind, Result};
use wharf_sys::file_owner::as_owner;
use wharf_sys::overlay::{Overlay, mount_detached};
use wharf_sys::rootfs::Rootfs;

use super::live::Container;
use super::mounts::{MountRecord, MountSource, clean};
use crate::Engine;
use owners::Owners;

/// How files are copied into a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtractOptions {
    /// A directory never takes the place of a file, nor a file that of a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Files belong to the container's user and not to whom the archive says.
    pub container_owner: bool,
}

/// A container's files, held still while they are copied.
#[derive(Debug)]
struct View {
    root: Rootfs,
    /// Prefix of container paths that `root` stands for; empty for the container's root.
    mounted_at: String,
    read_only: Option<&'static str>,
    /// What the container's ids are called here.
    owners: Owners,
}

/// Something to be copied out of a container.
#[derive(Debug)]
pub struct Packed {
    view: View,
    /// What the client asked for, inside the view.
    path: PathBuf,
    /// Name of the topmost entry.
    name: String,
    /// What it is.
    pub stat: PathStat,
    container: Arc<Container>,
}

impl Engine {
    /// What is at `path` in a container.
    pub async fn container_path_stat(&self, reference: &str, path: &str) -> Result<PathStat> {
        Ok(self.container_pack(reference, path).await?.stat)
    }

    /// Opens `path` in a container for copying.
    pub async fn container_pack(&self, reference: &str, path: &str) -> Result<Packed> {
        let container = self.containers.find(reference)?;
        let view = self.view(&container, path, false).await?;
        let wanted = path.to_owned();
        crate::networks::blocking(move || Packed::open(view, &wanted, container)).await
    }

    /// Unpacks an archive into the directory `path` of a container. Blocks.
    pub async fn container_unpack(
        &self,
        reference: &str,
        path: &str,
        options: ExtractOptions,
        archive: impl Read + Send + 'static,
    ) -> Result<()> {
        let container = self.containers.find(reference)?;
        // A stopped container must not start while its layer is mounted here.
        let _op = container.op.lock().await;
        let view = self.view(&container, path, true).await?;
        if let Some(why) = view.read_only {
            return Err(Error::new(Kind::Forbidden, why));
        }
        let owner = if options.container_owner {
            owner_of(&container)?
        } else {
            None
        };
        let (wanted, shown) = (path.to_owned(), container.id.clone());
        crate::networks::blocking(move || {
            let inside = view.inside(&wanted);
            let is_directory = view
                .root
                .file_type(&inside)
                .map_err(|errno| path_error(errno, &shown, &wanted))?
                == FileType::Directory;
            if !is_directory {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            let unpack = || {
                let owners = &view.owners;
                unpack::unpack(&view.root, &inside, archive, options, owner, owners)
            };
            match view.owners.maker() {
                None => unpack(),
                Some((uid, gid)) => as_owner(uid, gid, unpack).map_err(|errno| {
                    Error::system("cannot make files of the container's root")
                        .caused_by(std::io::Error::from(errno))
                })?,
            }
        })
        .await
    }

    /// The files of a container as `path` sees them.
    async fn view(&self, container: &Arc<Container>, path: &str, write: bool) -> Result<View> {
        let failed = |source: std::io::Error| {
            Error::system(format!(
                "cannot open the files of container {}",
                container.id
            ))
            .caused_by(source)
        };
        let (mounts, read_only_root) = {
            let cell = container.read();
            (
                cell.record.mounts.clone(),
                cell.record.host_config.readonly_rootfs,
            )
        };
        let mount = mount_of(&mounts, path);
        let read_only = match mount {
            Some(mount) if !mount.rw => Some("mounted volume is marked read-only"),
            None if read_only_root => Some("container rootfs is marked read-only"),
            _ => None,
        };
        let maps = self.id_maps(container);
        let pid = container.pid();
        if pid > 0 {
            let root = Rootfs::at(Path::new(&format!("/proc/{pid}/root"))).map_err(failed)?;
            return Ok(View {
                root,
                mounted_at: String::new(),
                read_only,
                owners: Owners::of_running(maps),
            });
        }
        match mount.map(|mount| (&mount.source, mount)) {
            Some((MountSource::Bind { path, .. }, mount)) => {
                let root = Rootfs::at(Path::new(path)).map_err(failed)?;
                Ok(View {
                    root,
                    mounted_at: mount.destination.clone(),
                    read_only,
                    owners: Owners::of_bind(mount, maps)?,
                })
            }
            Some((MountSource::Volume { name, .. }, mount)) => {
                let root = Rootfs::at(&self.volumes.path(name)).map_err(failed)?;
                Ok(View {
                    root,
                    mounted_at: mount.destination.clone(),
                    read_only,
                    owners: match mount.id_map {
                        Some(_) => Owners::of_bind(mount, maps)?,
                        None => Owners::AsTheyAre,
                    },
                })
            }
            _ => {
                let layer = self
                    .images
                    .store()
                    .container_layer(&container.id)
                    .map_err(Error::from_fault)?;
                let made_ahead = self.containers.ahead.take(&container.id);
                let mounted = crate::networks::blocking(move || {
                    // A second mount of the same layer must not be there.
                    drop(made_ahead);
                    wharf_sys::overlay::forget_volatile(&layer.work).map_err(|source| {
                        Error::system("cannot use the container's layer again").caused_by(source)
                    })?;
                    let mut lower = layer.lower;
                    if !write {
                        // Without the upper directory in use the container can start meanwhile.
                        lower.insert(0, layer.upper.clone());
                    }
                    let writable = write.then_some((layer.upper.as_path(), layer.work.as_path()));
                    let overlay = Overlay {
                        lower: &lower,
                        writable,
                        options: &wharf_sys::overlay::own_options(),
                    };
                    mount_detached(&overlay, rustix::mount::MountAttrFlags::empty()).map_err(
                        |source| {
                            Error::system("cannot mount the container's layers").caused_by(source)
                        },
                    )
                });
                Ok(View {
                    root: Rootfs::new(mounted.await?),
                    mounted_at: String::new(),
                    read_only,
                    // Layers hold the container's own ids.
                    owners: Owners::AsTheyAre,
                })
            }
        }
    }
}

/// The innermost mount that `path` lies in.
fn mount_of<'a>(mounts: &'a [MountRecord], path: &str) -> Option<&'a MountRecord> {
    let path = clean(path);
    let holds = |mount: &&MountRecord| {
        path == mount.destination || path.starts_with(&format!("{}/", mount.destination))
    };
    mounts
        .iter()
        .filter(holds)
        .max_by_key(|mount| mount.destination.len())
}

/// User and group of a container that are plain numbers; names are the container's business, and
/// nothing of the container is run or trusted here.
fn owner_of(container: &Container) -> Result<Option<(u32, u32)>> {
    let user = container.read().record.config.user.clone();
    if user.is_empty() {
        return Ok(None);
    }
    let (uid, gid) = user.split_once(':').unwrap_or((&user, "0"));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(Some((uid, gid))),
        _ => Err(Error::not_implemented(format!(
            "copyUIDGID with a named user ({user}) is not supported by this version of Wharf"
        ))),
    }
}

/// Docker's words for a path that can not be used.
fn path_error(errno: Errno, container: &wharf_ids::ContainerId, path: &str) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::not_found(format!(
            "Could not find the file {path} in container {container}"
        )),
        errno => Error::system(format!("cannot open {path} in container {container}"))
            .caused_by(std::io::Error::from(errno)),
    }
}

impl View {
    /// A container path inside this view.
    fn inside(&self, path: &str) -> PathBuf {
        let clean = clean(path);
        let rest = clean.strip_prefix(&self.mounted_at).unwrap_or(&clean);
        // Relative to the top, which openat2 takes for the root.
        PathBuf::from(format!("./{}", rest.trim_start_matches('/')))
    }
}

impl Packed {
    fn open(view: View, wanted: &str, container: Arc<Container>) -> Result<Self> {
        if wanted.is_empty() {
            return Err(Error::invalid("path cannot be empty"));
        }
        let mut path = view.inside(wanted);
        let error = |errno| path_error(errno, &container.id, wanted);
        // A trailing slash or dot asks for what a link leads to.
        let follow = wanted.ends_with('/') || wanted.ends_with("/.");
        let (parent, last) = split(&view.root, &path).map_err(error)?;
        let (stat, link) = match &last {
            Some(last) => {
                let stat = statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW).map_err(error)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink && !follow {
                    let target = readlinkat(&parent, last, Vec::new()).map_err(error)?;
                    (
                        stat,
                        absolute_link(&clean(wanted), &target.to_string_lossy()),
                    )
                } else if follow {
                    (
                        rustix::fs::fstat(view.root.locate(&path).map_err(error)?)
                            .map_err(error)?,
                        String::new(),
                    )
                } else {
                    (stat, String::new())
                }
            }
            None => (rustix::fs::fstat(&parent).map_err(error)?, String::new()),
        };
        let whole = wanted.ends_with("/.") || clean(wanted) == "/";
        let base = clean(wanted)
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let name = if whole { ".".to_owned() } else { base.clone() };
        if path.as_os_str() == "./" {
            path = PathBuf::from(".");
        }
        let shown = if base.is_empty() {
            "/".to_owned()
        } else {
            base
        };
        Ok(Self {
            stat: path_stat(shown, &stat, link),
            view,
            path,
            name,
            container,
        })
    }

    /// Writes it as a tar stream. Blocks.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let failed = |source: std::io::Error| {
            Error::system(format!("cannot copy from container {}", self.container.id))
                .caused_by(source)
        };
        let view = &self.view;
        pack::pack(&view.root, &self.path, &self.name, &view.owners, out).map_err(failed)
    }
}

/// The directory that holds the last component, and that component; nothing for the top itself.
fn split(root: &Rootfs, path: &Path) -> std::result::Result<(OwnedFd, Option<PathBuf>), Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            Ok((
                root.open(parent, directory, Mode::empty())?,
                Some(PathBuf::from(name)),
            ))
        }
        _ => Ok((root.open(Path::new("."), directory, Mode::empty())?, None)),
    }
}

/// A link's target as an absolute path of the container.
fn absolute_link(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return clean(target);
    }
    let directory = link.rsplit_once('/').map_or("", |(directory, _)| directory);
    clean(&format!("{directory}/{target}"))
}

fn path_stat(name: String, stat: &Stat, link_target: String) -> PathStat {
    let modified =
        Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).unwrap_or(Timestamp::UNIX_EPOCH);
    PathStat {
        name,
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        mtime: time::rfc3339_nano(modified),
        link_target,
    }
}

/// Go's `os.FileMode` bits.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => (1 << 26) | (1 << 21),
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special
        .iter()
        .filter(|(bit, _)| mode & bit != 0)
        .fold(0, |all, (_, go)| all | go);
    kind | special | (mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), 1 << 31 | 0o755);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
    }

    #[test]
    fn link_targets_are_absolute() {
        assert_eq!(absolute_link("/a/b/link", "../c"), "/a/c");
        assert_eq!(absolute_link("/link", "/x/../y"), "/y");
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mounts: Vec<MountRecord> = ["one:/a", "two:/a/b"]
            .iter()
            .map(|spec| super::super::mounts::parse_bind(spec, "").unwrap())
            .collect();
        assert_eq!(mount_of(&mounts, "/a/b/c").unwrap().volume(), Some("two"));
        assert_eq!(mount_of(&mounts, "/a/bc").unwrap().volume(), Some("one"));
        assert!(mount_of(&mounts, "/ab").is_none());
    }
}
