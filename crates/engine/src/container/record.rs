//! What is kept about a container: the record in the store's table `containers`.
//!
//! The record is desired state plus the last known actual state. Actual state proper is in the
//! kernel and the shim; [`super::reconcile`] corrects [`State`] from them when the daemon starts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_api_types::container::{ContainerConfig, HostConfig};
use wharf_api_types::endpoint::EndpointSettings;
use wharf_ids::ContainerId;
use wharf_state::Batch;

use super::ending::End;
use super::mounts::MountRecord;
use super::selinux::Labels;
use crate::user_namespaces::IdMaps;

/// The store's table.
pub(super) const TABLE: &str = "containers";

/// One container on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The id.
    pub id: ContainerId,
    /// The name, without Docker's leading slash.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Image id, `sha256:…`; empty for a container without an image.
    pub image_id: String,
    /// The image as its layers are addressed by the image store.
    pub image: ImageSource,
    /// Descriptor of the manifest, for inspect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<serde_json::Value>,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What to run, the image's defaults merged in.
    pub config: ContainerConfig,
    /// Where to run it, normalised.
    pub host_config: HostConfig,
    /// Endpoints by network name.
    pub networks: BTreeMap<String, EndpointSettings>,
    /// Mounts in the order of their destinations.
    pub mounts: Vec<MountRecord>,
    /// Ids of a user namespace that is this container's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id_maps: Option<IdMaps>,
    /// Its SELinux labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub(crate) labels: Labels,
    /// Last known actual state.
    pub state: State,
}

/// Which image the root file system comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// Digest of the image as the image store knows it.
    pub digest: String,
    /// Operating system of the image, `linux`.
    pub os: String,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Made, never run.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Exited,
    /// Removal began and could not be finished.
    Dead,
}

/// State of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What it is doing.
    pub phase: Phase,
    /// Frozen; only while running.
    pub paused: bool,
    /// Ended, and the restart policy will start it again.
    pub restarting: bool,
    /// Being removed. Not kept: an interrupted removal of a whole record starts anew.
    #[serde(skip)]
    pub removing: bool,
    /// PID on the host, 0 when not running.
    pub pid: i32,
    /// Status of the last run.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// The kernel killed a process for memory.
    pub oom_killed: bool,
    /// Start of the last run.
    pub started_at: Option<Timestamp>,
    /// End of the last run.
    pub finished_at: Option<Timestamp>,
    /// Restarts by the restart policy since the last start by a user.
    pub restart_count: u32,
    /// A user stopped it: `unless-stopped` leaves it so.
    pub manually_stopped: bool,
    /// It ran at least once.
    pub started_before: bool,
    /// How the last runs ended, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
}

impl State {
    /// Docker's `Running`: true also while paused, and while waiting for a restart.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running || self.restarting
    }

    /// Docker's `Status` word.
    pub fn status(&self) -> &'static str {
        match self.phase {
            _ if self.removing => "removing",
            _ if self.restarting => "restarting",
            Phase::Running if self.paused => "paused",
            Phase::Running => "running",
            Phase::Dead => "dead",
            Phase::Created => "created",
            Phase::Exited => "exited",
        }
    }
}

impl ContainerRecord {
    /// A batch for changes of this record. What is removed with its end is gone after a power cut
    /// anyway, and waits for no disk.
    pub(super) fn batch(&self) -> Batch {
        if self.host_config.auto_remove {
            Batch::passing()
        } else {
            Batch::new()
        }
    }

    /// Names of the volumes made for this container alone.
    pub(super) fn anonymous_volumes(&self) -> impl Iterator<Item = &str> {
        let anonymous = self.mounts.iter().filter(|mount| mount.anonymous);
        anonymous.filter_map(MountRecord::volume)
    }

    /// With Docker's leading slash.
    pub fn slash_name(&self) -> String {
        format!("/{}", self.name)
    }

    /// Attributes of this container's events.
    pub fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone().unwrap_or_default();
        attributes.insert("image".to_owned(), self.config.image.clone());
        attributes.insert("name".to_owned(), self.name.clone());
        attributes
    }
}
