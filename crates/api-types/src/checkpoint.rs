//! Checkpoints: `/containers/{id}/checkpoints`.

use serde::{Deserialize, Serialize};

/// Body of `POST /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointCreate {
    /// The checkpoint's name.
    #[serde(rename = "CheckpointID")]
    pub checkpoint_id: String,
    /// Where it is kept, if not with the container.
    #[serde(rename = "CheckpointDir")]
    pub checkpoint_dir: String,
    /// The container ends with it.
    #[serde(rename = "Exit")]
    pub exit: bool,
}

/// A checkpoint of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSummary {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
}
