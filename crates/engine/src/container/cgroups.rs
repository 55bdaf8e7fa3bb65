//! Where a container's cgroup is, and who makes it: the engine itself, or systemd
//! (`exec-opts` `native.cgroupdriver=systemd`).

use wharf_container_runtime::cgroup::Cgroup;
use wharf_fault::{Error, Result};
use wharf_ids::ContainerId;

use super::live::RunRecord;
use super::record::ContainerRecord;
use crate::Engine;
use crate::config::DaemonConfig;

/// A container's cgroup; empty where we may not make any.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// As the OCI document has it.
    pub document: String,
    /// From the hierarchy's root.
    pub path: String,
}

impl Engine {
    /// Where the cgroup of a container that starts will be.
    pub(super) async fn cgroup_place(&self, record: &ContainerRecord) -> Result<Place> {
        if !self.containers.host.cgroups {
            return Ok(Place::default());
        }
        let parent = match record.host_config.cgroup_parent.as_str() {
            "" => self.containers.cgroup_parent.as_str(),
            parent => parent,
        };
        if !self.config.daemon.systemd_cgroup {
            let path = path(parent, &record.id);
            return Ok(Place {
                document: path.clone(),
                path,
            });
        }
        let instance = &self.config.instance;
        let document = format!("{parent}:wharf{instance}:{}", record.id);
        let asked = document.clone();
        // A user's systemd is asked where it is itself.
        let found = tokio::task::spawn_blocking(move || Cgroup::of_new_unit(&asked));
        let cgroup = found
            .await
            .map_err(|source| Error::system("cannot look for systemd").caused_by(source))?
            .map_err(Error::from_fault)?;
        Ok(Place {
            document,
            path: cgroup.path().to_owned(),
        })
    }
}

/// That of the container `id` below `parent`, from the hierarchy's root.
pub(super) fn path(parent: &str, id: &ContainerId) -> String {
    let parent = super::mounts::clean(parent);
    format!("{}/{id}", parent.trim_end_matches('/'))
}

/// The parent of all containers' cgroups; `own` is the engine's own choice.
pub(super) fn parent(daemon: &DaemonConfig, own: Option<&str>) -> String {
    match daemon.cgroup_parent.as_str() {
        // systemd's own choice.
        "" if daemon.systemd_cgroup => String::new(),
        "" => own.unwrap_or_default().to_owned(),
        parent => parent.to_owned(),
    }
}

/// Refuses a parent systemd would not take, in Docker's words.
pub(crate) fn check_parent(parent: &str, systemd: bool) -> Result<()> {
    if systemd
        && !parent.is_empty()
        && (parent.len() <= ".slice".len() || !parent.ends_with(".slice"))
    {
        return Err(Error::invalid(
            "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
        ));
    }
    Ok(())
}

impl RunRecord {
    /// The cgroup of the run.
    pub(super) fn cgroup(&self) -> std::io::Result<Cgroup> {
        if self.systemd_cgroup {
            Cgroup::of_unit(&self.cgroup_path)
        } else {
            Cgroup::at(&self.cgroup_path)
        }
    }
}
