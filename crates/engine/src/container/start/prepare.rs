//! Carries out a plan: makes everything the shim gets, and takes it back when a later step fails.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use wharf_fault::{Error, Result};
use wharf_ids::ContainerId;
use wharf_network::AttachRequest;
use wharf_oci::runtime::NamespaceKind;
use wharf_shim_protocol::{Rootfs, StartFd};

use super::LIFELINE;
use super::plan::Plan;
use crate::Engine;
use crate::container::create::make_private_dir;
use crate::container::live::{Container, WaitingClient};
use crate::container::{devices, runtimes, selinux};

/// What has to be undone when a later step fails, last first.
#[derive(Default)]
pub(super) struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    fn push(&mut self, step: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(step));
    }

    pub(super) fn forget(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.0.pop() {
            step();
        }
    }
}

impl Engine {
    /// Makes everything the shim gets; each step knows how to be undone.
    pub(super) fn prepare(
        &self,
        container: &Container,
        plan: &mut Plan,
        run_dir: &Path,
        waiting: Vec<WaitingClient>,
        undo: &mut Undo,
    ) -> Result<Vec<OwnedFd>> {
        let mut fds = Vec::new();
        for path in &plan.binds_to_make {
            std::fs::create_dir_all(path).map_err(|source| {
                let why = devices::plain(&source);
                Error::system(format!(
                    "error while creating mount source path '{}': mkdir {0}: {why}",
                    path.display()
                ))
            })?;
        }
        for (path, shared) in &plan.to_label {
            selinux::relabel(path, &plan.mount_label, *shared)?;
        }
        make_run_dir(run_dir)?;
        undo.push({
            let run_dir = run_dir.to_owned();
            move || drop(std::fs::remove_dir_all(run_dir))
        });
        let owner = plan
            .user_namespace
            .as_ref()
            .map(|namespace| namespace.maps.root());
        if let (Some(program), Some(owner)) = (&plan.start.runtime, owner) {
            runtimes::let_through(run_dir, owner, program)?;
        }
        if let Some((path, size)) = &plan.shm {
            mount_shm(path, *size, owner, &plan.mount_label)?;
            let path = path.clone();
            undo.push(move || unmount_shm(&path));
        }
        let mut netns = None;
        if let Some(namespace) = &mut plan.user_namespace {
            let own_network = |request: &AttachRequest| request.mode != wharf_network::Mode::Host;
            let made = namespace.make(plan.network.as_ref().is_some_and(own_network))?;
            plan.start.fds.push(StartFd::Namespace(NamespaceKind::User));
            fds.push(made.user);
            netns = made.network;
        }
        if let Some(request) = &plan.network {
            let driver = self.networks.driver().clone();
            let sandbox = match netns {
                Some(netns) => driver.prepare_in(request, netns),
                None => driver.prepare(request),
            };
            let sandbox = sandbox.map_err(|error| {
                let error = Error::from_fault(error);
                Error::new(
                    error.kind(),
                    format!("failed to set up container networking: {error}"),
                )
            })?;
            let id = container.id.to_string();
            undo.push(move || driver.release(&id));
            for (name, text) in [
                ("hosts", &sandbox.files.hosts),
                ("hostname", &sandbox.files.hostname),
                ("resolv.conf", &sandbox.files.resolv_conf),
            ] {
                let path = run_dir.join(name);
                write_container_file(&path, text)?;
                if !plan.mount_label.is_empty() {
                    // Containers that share the network share them.
                    selinux::relabel(&path, &plan.mount_label, true)?;
                }
                if let Some((uid, gid)) = owner {
                    std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(|source| {
                        Error::system(format!("cannot hand over {}", path.display()))
                            .caused_by(source)
                    })?;
                }
            }
            plan.kept.sandbox_id = sandbox.sandbox_id;
            plan.kept.endpoints = sandbox.endpoints;
            plan.kept.ports = sandbox.ports;
            if let Some(netns) = sandbox.netns {
                plan.start
                    .fds
                    .push(StartFd::Namespace(NamespaceKind::Network));
                fds.push(netns);
            }
            for (number, socket) in sandbox.dns_sockets.into_iter().enumerate() {
                plan.start.fds.push(StartFd::Held(format!("dns{number}")));
                fds.push(socket);
            }
        }
        if let Some(rootless) = &self.config.rootless {
            plan.start.fds.push(StartFd::Held(LIFELINE.to_owned()));
            let copy = rootless.lifeline.try_clone().map_err(|source| {
                Error::system("cannot hand the namespaces' lifeline to a shim").caused_by(source)
            })?;
            fds.push(copy);
        }
        for (kind, fd) in plan.joined.drain(..) {
            plan.start.fds.push(StartFd::Namespace(kind));
            fds.push(fd);
        }
        for client in waiting {
            plan.start.fds.push(StartFd::Attach(client.mode));
            fds.push(client.socket);
        }
        if let Some(root) = self.root_made_ahead(&container.id, plan) {
            plan.start.fds.push(StartFd::Root);
            fds.push(root);
        } else if let Rootfs::Overlay { work, .. } = &plan.start.rootfs {
            wharf_sys::overlay::forget_volatile(work).map_err(|source| {
                Error::system("cannot use the container's layer again").caused_by(source)
            })?;
        }
        if plan.start.exit_path.starts_with(&self.containers.exits)
            && let Some(directory) = plan.start.exit_path.parent()
        {
            make_private_dir(directory).map_err(|source| {
                Error::system("cannot make a place for the exit record").caused_by(source)
            })?;
        }
        // What an earlier run left must not be taken for the end of this one.
        if let Err(source) = std::fs::remove_file(&plan.start.exit_path)
            && source.kind() != std::io::ErrorKind::NotFound
        {
            return Err(
                Error::system("cannot remove the exit record of the last run").caused_by(source),
            );
        }
        plan.kept.write_first(run_dir)?;
        Ok(fds)
    }

    /// The root that was made for this container before it was asked for, if it still is what the
    /// container needs.
    fn root_made_ahead(&self, id: &ContainerId, plan: &Plan) -> Option<OwnedFd> {
        let root = self.containers.ahead.take(id)?;
        let removed_layers = self.images.store().removed_layers();
        root.fitting(&plan.start.rootfs, removed_layers)
            .filter(|_| plan.mounts_plainly())
    }
}

fn make_run_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|source| {
            Error::system(format!("cannot create {}", path.display())).caused_by(source)
        })
}

/// Files bound into containers are read by their users, whatever the daemon's umask is.
pub(in crate::container) fn write_container_file(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |source: std::io::Error| {
        Error::system(format!("cannot write {}", path.display())).caused_by(source)
    };
    // In place: a running container sees the same file.
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
        .map_err(failed)
}

fn mount_shm(path: &Path, size: i64, owner: Option<(u32, u32)>, label: &str) -> Result<()> {
    use rustix::mount::{MountFlags, mount};
    let failed = |source: std::io::Error| {
        Error::system(format!("cannot mount {}", path.display())).caused_by(source)
    };
    make_private_dir(path).map_err(failed)?;
    // A crash may have left one.
    unmount_shm(path);
    let owner = owner.map_or_else(String::new, |(uid, gid)| format!(",uid={uid},gid={gid}"));
    let label = if label.is_empty() {
        String::new()
    } else {
        format!(",context=\"{label}\"")
    };
    let data = std::ffi::CString::new(format!("mode=1777,size={size}{owner}{label}"))
        .map_err(|source| Error::system("cannot mount shared memory").caused_by(source))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", path, "tmpfs", flags, data.as_c_str()).map_err(|errno| failed(errno.into()))
}

/// Removes a shared memory mount; nothing happens where there is none.
pub(in crate::container) fn unmount_shm(path: &Path) {
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
}
