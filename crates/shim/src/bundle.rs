//! The bundle of a container: `config.json`, and the root file system where the runtime's program
//! sees it and nobody else does.
//!
//! The overlay is mounted in a mount namespace of the shim's own, so nothing shows on the host and
//! nothing is left when the shim is gone. The mount below it is taken out of its peer group for
//! that moment only: binds with shared propagation still reach the host.
//!
//! With a user namespace the root file system is shown as its mapping says, and so are volumes and
//! other binds that ask for it: other runtimes find them done, whether they can map IDs or not.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::UnshareFlags;
use wharf_container_runtime::{INIT_ARGV0, IdMaps, NamespaceFd, Shown, StartError, resolve_user};
use wharf_oci::runtime::{Capabilities, Mount, Namespace, Process, Root, Spec};
use wharf_shim_protocol::{Failure, FailureKind, Rootfs, Start};
use wharf_sys::mount::{self, AttributeChange, Propagation};
use wharf_sys::overlay::Overlay;
use wharf_sys::rootfs;

/// A directory with `config.json` and, unless the root lies elsewhere, `rootfs`.
#[derive(Debug)]
pub(super) struct Bundle {
    path: PathBuf,
    /// Where the root file system is.
    root: PathBuf,
    /// What we have mounted, in this order.
    mounted: Vec<PathBuf>,
    /// How the container sees IDs.
    shown: Option<Shown>,
}

impl Bundle {
    /// Makes the directory and mounts the root file system; a root that is a directory already is
    /// mounted only if it has to be a mount of its own, or to be shown as in a user namespace.
    pub(super) fn make(
        run_dir: &Path,
        from: &Rootfs,
        own_mount: bool,
        shown: Option<Shown>,
    ) -> Result<Self, Failure> {
        let path = run_dir.join("bundle");
        fs::create_dir_all(&path).map_err(|error| failed(&path, &error))?;
        if let Rootfs::Directory { path: root } = from
            && !own_mount
            && shown.is_none()
        {
            return Ok(Self {
                path,
                root: root.clone(),
                mounted: Vec::new(),
                shown,
            });
        }
        if shown.is_some() {
            // The container's root walks through it, whatever our umask is.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711))
                .map_err(|error| failed(&path, &error))?;
        }
        let root = path.join("rootfs");
        fs::create_dir_all(&root).map_err(|error| failed(&root, &error))?;
        let tree = || match (&shown, from) {
            (Some(shown), from) => shown
                .root(&crate::launch::rootfs(from.clone()))
                .map_err(|error| refused(&error)),
            (None, Rootfs::Directory { path }) => c_path(path)
                .and_then(|path| mount::clone_tree(CWD, &path, true))
                .map_err(|errno| failed(&root, &errno.into())),
            (
                None,
                Rootfs::Overlay {
                    lower,
                    upper,
                    work,
                    options,
                },
            ) => Overlay {
                lower,
                writable: Some((upper, work)),
                options,
            }
            .mount(MountAttrFlags::empty())
            .map_err(|errno| failed(&root, &errno.into())),
        };
        let unseen = Unseen::begin(&path).map_err(|errno| failed(&root, &errno.into()))?;
        mount_at(&tree()?, &root)?;
        unseen.end().map_err(|errno| failed(&root, &errno.into()))?;
        Ok(Self {
            path,
            mounted: vec![root.clone()],
            root,
            shown,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the root file system is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Fills in what only we know, and writes `config.json`.
    pub(super) fn complete(
        &mut self,
        document: &mut Spec,
        namespaces: &[NamespaceFd],
        start: &Start,
    ) -> Result<(), Failure> {
        // The oldest version: releases refuse documents that are newer than they are, also if they
        // could do all that is asked.
        document.oci_version = "1.0.2".to_owned();
        let readonly = document.root.as_ref().is_some_and(|root| root.readonly);
        document.root = Some(Root {
            path: self.root.clone(),
            readonly,
        });
        if let Some(process) = &mut document.process {
            self.become_user(process, start.user.as_deref(), &start.group_add)?;
            if start.init {
                let program = self.unpack_init()?;
                process
                    .args
                    .splice(0..0, [INIT_ARGV0, "--"].map(str::to_owned));
                document.mounts.push(Mount {
                    destination: INIT_ARGV0.to_owned(),
                    kind: Some("bind".to_owned()),
                    source: Some(program.display().to_string()),
                    options: ["bind", "ro"].map(str::to_owned).to_vec(),
                    ..Mount::default()
                });
            }
        }
        self.map_binds(&mut document.mounts)?;
        let linux = document.linux.get_or_insert_default();
        for namespace in namespaces {
            let path = format!(
                "/proc/{}/fd/{}",
                crate::container::own_pid(),
                namespace.fd.as_raw_fd()
            );
            linux
                .namespaces
                .retain(|known| known.kind != namespace.kind);
            linux.namespaces.push(Namespace {
                kind: namespace.kind,
                path: Some(path),
            });
        }
        let file = self.path.join("config.json");
        serde_json::to_vec(document)
            .map_err(io::Error::other)
            .and_then(|text| {
                // The environment is in it.
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                options.open(&file)?.write_all(&text)
            })
            .map_err(|error| failed(&file, &error))
    }

    /// Makes the binds whose IDs are mapped, and lets the document bind those. Releases of runtimes
    /// that do not know mapped mounts would leave the mapping out without a word.
    fn map_binds(&mut self, mounts: &mut [Mount]) -> Result<(), Failure> {
        let mapped = |option: &String| matches!(option.as_str(), "idmap" | "ridmap");
        let asking =
            |mount: &Mount| mount.options.iter().any(mapped) || !mount.uid_mappings.is_empty();
        if !mounts.iter().any(asking) {
            return Ok(());
        }
        let unseen = |errno: Errno| failed(&self.path, &errno.into());
        let section = Unseen::begin(&self.path).map_err(unseen)?;
        for (number, mount) in mounts.iter_mut().filter(|mount| asking(mount)).enumerate() {
            let own = (!mount.uid_mappings.is_empty())
                .then(|| IdMaps::new(&mount.destination, &mount.uid_mappings, &mount.gid_mappings))
                .transpose()
                .and_then(|maps| maps.map(Shown::by).transpose())
                .map_err(|error| refused(&error))?;
            let is = |word: &str| mount.options.iter().any(|option| option == word);
            let (recursive, map_below) = (is("rbind"), is("ridmap"));
            let (Some(shown), true) = (
                own.as_ref().or(self.shown.as_ref()),
                recursive || is("bind"),
            ) else {
                return Err(Failure::new(
                    FailureKind::InvalidParameter,
                    format!(
                        "mount {}: only binds can have their IDs mapped, by a mapping of their own or the container's",
                        mount.destination
                    ),
                ));
            };
            let source = PathBuf::from(mount.source.as_deref().unwrap_or_default());
            let tree = shown
                .bind(&source, recursive, map_below)
                .map_err(|error| refused(&error))?;
            let place = self.path.join(format!("mapped{number}"));
            let is_directory = fs::metadata(&source).map(|status| status.is_dir());
            is_directory
                .and_then(|is_directory| match is_directory {
                    true => fs::create_dir(&place),
                    false => fs::write(&place, ""),
                })
                .map_err(|error| failed(&place, &error))?;
            mount_at(&tree, &place)?;
            mount.source = Some(place.display().to_string());
            mount.options.retain(|option| !mapped(option));
            mount.uid_mappings.clear();
            mount.gid_mappings.clear();
            self.mounted.push(place);
        }
        section.end().map_err(unseen)
    }

    /// Puts numbers in place of a user's name.
    pub(super) fn become_user(
        &self,
        process: &mut Process,
        user: Option<&str>,
        group_add: &[String],
    ) -> Result<(), Failure> {
        let root = rootfs::Rootfs::at(&self.root).map_err(|error| failed(&self.root, &error))?;
        process.user = resolve_user(&root, &process.user, user, group_add)
            .map_err(|error| Failure::new(FailureKind::InvalidParameter, error.to_string()))?;
        if user.is_some()
            && process.user.uid != 0
            && let Some(capabilities) = &mut process.capabilities
        {
            // Docker: a user who is not root starts with what execve would leave.
            *capabilities = Capabilities {
                bounding: std::mem::take(&mut capabilities.bounding),
                ..Capabilities::default()
            };
        }
        Ok(())
    }

    /// Lets the container's user have the streams that were made for it.
    pub(super) fn give_streams(&self, streams: &[OwnedFd; 3]) -> Result<(), Failure> {
        match &self.shown {
            Some(shown) => shown.give_streams(streams).map_err(|error| refused(&error)),
            None => Ok(()),
        }
    }

    /// Our own program, which is an init, too, where a runtime can bind it.
    fn unpack_init(&self) -> Result<PathBuf, Failure> {
        let path = self.path.join("docker-init");
        fs::copy("/proc/self/exe", &path)
            .and_then(|_| fs::set_permissions(&path, fs::Permissions::from_mode(0o555)))
            .map_err(|error| failed(&path, &error))?;
        Ok(path)
    }

    /// Takes off what is mounted; nobody uses it any more.
    pub(super) fn unmount(&mut self) {
        for place in self.mounted.drain(..).rev() {
            if let Ok(path) = c_path(&place) {
                let _ = mount::detach(&path);
            }
        }
    }
}

fn refused(error: &StartError) -> Failure {
    Failure::new(
        FailureKind::System,
        format!("cannot make the bundle: {}", wharf_fault::chain(error)),
    )
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        FailureKind::System,
        format!("cannot make the bundle: {}: {error}", path.display()),
    )
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}

fn mount_at(tree: &OwnedFd, place: &Path) -> Result<(), Failure> {
    c_path(place)
        .and_then(|path| mount::attach_at(tree, &path))
        .map_err(|errno| failed(place, &errno.into()))
}

/// While it lasts, what is mounted below the mount of a path shows to this process and its children
/// only.
struct Unseen {
    original: OwnedFd,
    copy: OwnedFd,
}

impl Unseen {
    fn begin(path: &Path) -> Result<Self, Errno> {
        let below = mount_point_of(path)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let original: OwnedFd = rustix::fs::open(&below, flags, Mode::empty())?;
        wharf_sys::namespace::unshare(UnshareFlags::NEWNS)?;
        let copy: OwnedFd = rustix::fs::open(&below, flags, Mode::empty())?;
        let private = AttributeChange {
            propagation: Some(Propagation::Private),
            ..AttributeChange::default()
        };
        mount::change_attributes(&copy, c"", false, private)?;
        Ok(Self { original, copy })
    }

    fn end(self) -> Result<(), Errno> {
        match mount::join_peer_group(&self.original, self.copy.as_fd()) {
            // It had no peers; or the kernel cannot do it, and mounts made in the container below
            // this one mount stay there.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// The mount point above `path`.
fn mount_point_of(path: &Path) -> Result<PathBuf, Errno> {
    let path = fs::canonicalize(path)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    for directory in path.ancestors() {
        let status = statx(
            CWD,
            directory,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::empty(),
        )?;
        if status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(directory.to_owned());
        }
    }
    Ok(PathBuf::from("/"))
}
