//! Checkpoints: a container's processes written down by CRIU, and the directories they are in.
//!
//! ```text
//! <container dir>/checkpoints/<name>/   CRIU's images, and what a restore has to replace
//! <container dir>/criu/                 logs of the last checkpoint and restore
//! ```
//!
//! As in Docker they are there in experimental mode only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_api_types::checkpoint::{CheckpointCreate, CheckpointSummary};
use wharf_container_runtime::cgroup::Cgroup;
use wharf_container_runtime::{CheckpointError, CheckpointOptions, Criu};
use wharf_fault::{Error, Result};
use wharf_shim_protocol::{Request, Restore};

use super::live::Container;
use super::runtimes;
use super::start::Cause;
use super::stop::KILL_PATIENCE;
use crate::Engine;

impl Engine {
    /// Writes a running container down. Unless told otherwise it has ended when this returns.
    pub async fn checkpoint_create(
        &self,
        reference: &str,
        request: &CheckpointCreate,
    ) -> Result<()> {
        self.require_experimental()?;
        self.refuse_as_user()?;
        let container = self.containers.find(reference)?;
        let _op = container.op.lock().await;
        check_name(&request.checkpoint_id)?;
        check_container(&container)?;
        if self.id_maps(&container).is_some() {
            return Err(Error::not_implemented(
                "a checkpoint of a container in a user namespace is not supported by this version of Wharf",
            ));
        }
        let images =
            self.new_checkpoint(&container, &request.checkpoint_id, &request.checkpoint_dir)?;
        let mut watch = container.watch();
        if request.exit {
            // Its end is asked for: no restart policy is.
            self.note_stop(&container, true);
        }
        let written = self
            .write_checkpoint(&container, images.clone(), !request.exit)
            .await;
        if let Err(error) = written {
            if request.exit {
                self.note_stop(&container, false);
            }
            drop(std::fs::remove_dir_all(&images));
            return Err(Error::new(
                error.kind(),
                format!("Cannot checkpoint container {reference}: {error}"),
            ));
        }
        self.events.publish(
            "container",
            "checkpoint",
            container.id.as_str(),
            container.event_attributes([]),
        );
        if request.exit {
            let ended = watch.wait_for(|watched| !watched.running || watched.removed);
            if tokio::time::timeout(KILL_PATIENCE, ended).await.is_err() {
                return Err(Error::system(format!(
                    "container {} does not end after its checkpoint",
                    container.id
                )));
            }
            // Nor may the next daemon ask one, not knowing whose wish the end was.
            self.containers.persist_now(&container).await?;
        }
        Ok(())
    }

    async fn write_checkpoint(
        &self,
        container: &Arc<Container>,
        images: PathBuf,
        leave_running: bool,
    ) -> Result<()> {
        let work = self.criu_work(container)?;
        let (pid, by_program, paused_at) = {
            let cell = container.read();
            let run = cell.run.as_ref().ok_or_else(|| container.not_running())?;
            let cgroup = run.kept.cgroup_path.clone();
            (
                cell.record.state.pid,
                run.kept.runtime.is_some(),
                cell.record.state.paused.then_some(cgroup),
            )
        };
        if by_program {
            let request = Request::Checkpoint {
                images,
                work,
                leave_running,
            };
            return Ok(container.link()?.command(request, &[]).await?);
        }
        self.refuse_systemd_cgroups()?;
        let criu = Criu {
            program: criu()?,
            environment: runtimes::environment(),
            images,
            work,
        };
        tokio::task::spawn_blocking(move || {
            let cgroup = paused_at.map(|path| Cgroup::at(&path)).transpose();
            let cgroup = cgroup.map_err(|source| CheckpointError::Look { pid, source })?;
            let options = CheckpointOptions {
                leave_running,
                freezer: cgroup.and_then(|cgroup| Some(cgroup.freezer()?.to_owned())),
                ..CheckpointOptions::default()
            };
            wharf_container_runtime::checkpoint(&criu, pid, &options)
        })
        .await
        .map_err(|source| Error::system("the checkpoint was given up").caused_by(source))?
        .map_err(|error| Error::system(wharf_fault::chain(&error)))
    }

    fn note_stop(&self, container: &Container, stopped: bool) {
        let mut cell = container.write();
        cell.record.state.manually_stopped = stopped;
        if let Some(run) = &mut cell.run {
            run.kept.stop_requested = stopped;
        }
    }

    /// Starts a container from one of its checkpoints.
    pub async fn container_start_from(
        &self,
        reference: &str,
        name: &str,
        directory: &str,
    ) -> Result<()> {
        if !self.settings().experimental {
            return Err(Error::invalid(
                "checkpoint is only supported in experimental mode",
            ));
        }
        self.refuse_as_user()?;
        let container = self.containers.find(reference)?;
        let _op = container.op.lock().await;
        check_name(name)?;
        let runtime = container.read().record.host_config.runtime.clone();
        let images = self.old_checkpoint(&container, name, directory)?;
        let work = self.criu_work(&container)?;
        // Another runtime's program runs CRIU by itself.
        let built_in = self.runtime_program(&runtime, &work)?.is_none();
        if built_in {
            self.refuse_systemd_cgroups()?;
        }
        let restore = Restore {
            images,
            work,
            criu: if built_in { criu()? } else { PathBuf::new() },
            environment: runtimes::environment(),
        };
        self.start_locked_from(&container, Cause::User, Some(restore))
            .await
    }

    /// A container's checkpoints.
    pub fn checkpoint_list(
        &self,
        reference: &str,
        directory: &str,
    ) -> Result<Vec<CheckpointSummary>> {
        self.require_experimental()?;
        let container = self.containers.find(reference)?;
        let folder = self.checkpoints(&container, directory);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(
                    Error::system(format!("cannot list {}", folder.display())).caused_by(source)
                );
            }
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names
            .into_iter()
            .map(|name| CheckpointSummary { name })
            .collect())
    }

    /// Deletes a checkpoint.
    pub fn checkpoint_remove(&self, reference: &str, name: &str, directory: &str) -> Result<()> {
        self.require_experimental()?;
        let container = self.containers.find(reference)?;
        check_name(name)?;
        let folder = self.old_checkpoint(&container, name, directory)?;
        std::fs::remove_dir_all(&folder).map_err(|source| {
            Error::system(format!("cannot remove {}", folder.display())).caused_by(source)
        })
    }

    fn require_experimental(&self) -> Result<()> {
        if self.settings().experimental {
            return Ok(());
        }
        Err(Error::not_implemented(
            "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.",
        ))
    }

    fn refuse_as_user(&self) -> Result<()> {
        if self.config.rootless.is_none() {
            return Ok(());
        }
        Err(Error::not_implemented(
            "an ordinary user's engine makes and restores no checkpoints: CRIU does that with root's rights over the host only",
        ))
    }

    /// A restore puts processes into a cgroup that it makes; systemd makes its own.
    fn refuse_systemd_cgroups(&self) -> Result<()> {
        if self.config.daemon.systemd_cgroup {
            return Err(Error::not_implemented(
                "checkpoints with native.cgroupdriver=systemd are not supported by this version of Wharf",
            ));
        }
        Ok(())
    }

    /// Where checkpoints lie: the container's own place, or the one the user names.
    fn checkpoints(&self, container: &Container, directory: &str) -> PathBuf {
        if directory.is_empty() {
            self.containers.directory(&container.id).join("checkpoints")
        } else {
            PathBuf::from(directory)
        }
    }

    fn new_checkpoint(
        &self,
        container: &Container,
        name: &str,
        directory: &str,
    ) -> Result<PathBuf> {
        let folder = self.checkpoints(container, directory).join(name);
        match std::fs::metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => Err(Error::conflict(format!(
                "checkpoint with name {name} already exists for container {}",
                container.name()
            ))),
            Ok(_) => Err(Error::conflict(format!(
                "{} exists and is not a directory",
                folder.display()
            ))),
            Err(_) => Ok(folder),
        }
    }

    fn old_checkpoint(
        &self,
        container: &Container,
        name: &str,
        directory: &str,
    ) -> Result<PathBuf> {
        let folder = self.checkpoints(container, directory).join(name);
        match std::fs::metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => Ok(folder),
            Ok(_) => Err(Error::conflict(format!(
                "{} exists and is not a directory",
                folder.display()
            ))),
            Err(_) => Err(Error::not_found(format!(
                "checkpoint {name} does not exist for container {}",
                container.name()
            ))),
        }
    }

    /// Where CRIU writes its logs.
    fn criu_work(&self, container: &Container) -> Result<PathBuf> {
        let path = self.containers.directory(&container.id).join("criu");
        super::create::make_private_dir(&path).map_err(|source| {
            Error::system(format!("cannot create {}", path.display())).caused_by(source)
        })?;
        Ok(path)
    }
}

fn criu() -> Result<PathBuf> {
    runtimes::find(Path::new("criu"), &runtimes::search_path()).ok_or_else(|| {
        Error::system(
            "checkpoints need the program criu, which is not installed: exec: \"criu\": executable file not found in $PATH",
        )
    })
}

fn check_name(name: &str) -> Result<()> {
    // Docker: the same pattern as for containers.
    wharf_ids::validate_container_name(name).map_err(|_| {
        Error::invalid(format!(
            "Invalid checkpoint ID ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        ))
    })
}

fn check_container(container: &Container) -> Result<()> {
    let cell = container.read();
    if cell.run.is_none() {
        return Err(Error::conflict(format!(
            "Container {} not running",
            container.id
        )));
    }
    if cell.record.config.tty {
        return Err(Error::invalid(
            "checkpoint not support on containers with tty",
        ));
    }
    let host = &cell.record.host_config;
    for (mode, what) in [(&host.pid_mode, "PID"), (&host.ipc_mode, "IPC")] {
        if mode == "host" || mode.starts_with("container:") {
            return Err(Error::not_implemented(format!(
                "a checkpoint of a container in another's {what} namespace is not supported by this version of Wharf"
            )));
        }
    }
    Ok(())
}
