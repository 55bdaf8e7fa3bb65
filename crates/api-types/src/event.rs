//! Messages of `GET /events`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that happened to an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMessage {
    /// The action again, for containers and images (API below 1.52).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The object's id again (API below 1.52).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// A container's image (API below 1.52).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Kind of object: `container`, `image`, `volume`, `network`, `daemon`, …
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// What happened: `start`, `die`, `exec_create: sh`, …
    #[serde(rename = "Action", default)]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor", default)]
    pub actor: EventActor,
    /// `local` or `swarm`.
    #[serde(default)]
    pub scope: String,
    /// When, Unix seconds.
    #[serde(default)]
    pub time: i64,
    /// When, Unix nanoseconds.
    #[serde(rename = "timeNano", default)]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventActor {
    /// Id, or name for objects without one.
    #[serde(rename = "ID", default)]
    pub id: String,
    /// Name, image, labels, exit code, …
    #[serde(rename = "Attributes", default)]
    pub attributes: BTreeMap<String, String>,
}

impl EventMessage {
    /// Fills in the fields that API versions below 1.52 have.
    #[must_use]
    pub fn with_legacy_fields(mut self) -> Self {
        match self.kind.as_str() {
            "container" => {
                self.status.clone_from(&self.action);
                self.id.clone_from(&self.actor.id);
                self.from = self
                    .actor
                    .attributes
                    .get("image")
                    .cloned()
                    .unwrap_or_default();
            }
            "image" => {
                self.status.clone_from(&self.action);
                self.id.clone_from(&self.actor.id);
            }
            _ => {}
        }
        self
    }
}
