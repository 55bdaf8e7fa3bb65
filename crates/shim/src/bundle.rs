//! The bundle of a container: `config.json`, and the root file system where the runtime's program
//! sees it and nobody else does.
//!
//! The overlay is mounted in a mount namespace of the shim's own, so nothing shows on the host and
//! nothing is left when the shim is gone. The mount below it is taken out of its peer group for
//! that moment only: binds with shared propagation still reach the host.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::UnshareFlags;
use wharf_container_runtime::{INIT_ARGV0, NamespaceFd, resolve_user};
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
    /// We have mounted it.
    mounted: bool,
}

impl Bundle {
    /// Makes the directory and mounts the root file system; a root that is a directory already is
    /// mounted only if it has to be a mount of its own.
    pub(super) fn make(run_dir: &Path, from: &Rootfs, own_mount: bool) -> Result<Self, Failure> {
        let path = run_dir.join("bundle");
        fs::create_dir_all(&path).map_err(|error| failed(&path, &error))?;
        match from {
            Rootfs::Directory { path: source } if own_mount => {
                let root = path.join("rootfs");
                fs::create_dir_all(&root).map_err(|error| failed(&root, &error))?;
                mount_unseen(&root, || mount::clone_tree(CWD, &c_path(source)?, true))
                    .map_err(|errno| failed(&root, &errno.into()))?;
                Ok(Self {
                    path,
                    root,
                    mounted: true,
                })
            }
            Rootfs::Directory { path: root } => Ok(Self {
                path,
                root: root.clone(),
                mounted: false,
            }),
            Rootfs::Overlay {
                lower,
                upper,
                work,
                options,
            } => {
                let root = path.join("rootfs");
                fs::create_dir_all(&root).map_err(|error| failed(&root, &error))?;
                let overlay = Overlay {
                    lower,
                    writable: Some((upper, work)),
                    options,
                };
                mount_unseen(&root, || overlay.mount(MountAttrFlags::empty()))
                    .map_err(|errno| failed(&root, &errno.into()))?;
                Ok(Self {
                    path,
                    root,
                    mounted: true,
                })
            }
        }
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
        &self,
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
            .and_then(|text| fs::write(&file, text))
            .map_err(|error| failed(&file, &error))
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

    /// Our own program, which is an init, too, where a runtime can bind it.
    fn unpack_init(&self) -> Result<PathBuf, Failure> {
        let path = self.path.join("docker-init");
        fs::copy("/proc/self/exe", &path)
            .and_then(|_| fs::set_permissions(&path, fs::Permissions::from_mode(0o555)))
            .map_err(|error| failed(&path, &error))?;
        Ok(path)
    }

    /// Takes the root file system off; nobody uses it any more.
    pub(super) fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted)
            && let Ok(path) = c_path(&self.root)
        {
            let _ = mount::detach(&path);
        }
    }
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

/// Mounts what `make` makes at `place`, for this process and its children only.
fn mount_unseen(place: &Path, make: impl Fn() -> Result<OwnedFd, Errno>) -> Result<(), Errno> {
    let below = mount_point_of(place)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let original: OwnedFd = rustix::fs::open(&below, flags, Mode::empty())?;
    wharf_sys::namespace::unshare(UnshareFlags::NEWNS)?;
    let copy: OwnedFd = rustix::fs::open(&below, flags, Mode::empty())?;
    let private = AttributeChange {
        propagation: Some(Propagation::Private),
        ..AttributeChange::default()
    };
    mount::change_attributes(&copy, c"", false, private)?;
    mount::attach_at(make()?, &c_path(place)?)?;
    match mount::join_peer_group(&original, copy.as_fd()) {
        // It had no peers; or the kernel cannot do it, and mounts made in the container below this
        // one mount stay there.
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
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
