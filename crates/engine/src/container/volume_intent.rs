//! Volumes that belong to nothing until their container is on record, or that go with it.
//!
//! Making and removing a volume is durable by itself, and a container needs several. So that a
//! crash in between leaves no volume without an owner, the names are noted first:
//!
//! ```text
//! create   note new volumes ─▶ make them ─▶ commit container, forget note
//! remove   commit removal, note anonymous volumes ─▶ remove them ─▶ forget note
//! start of the daemon   remove noted volumes nobody uses, forget notes
//! ```
//!
//! Anonymous volumes of a container that is removed with its end stay noted as long as it is
//! there: its record does not outlive a power cut, they would.

use std::collections::HashSet;

use wharf_fault::{Error, Kind, Result};
use wharf_state::Batch;

use crate::Engine;

/// The store's table: volume name → nothing.
const TABLE: &str = "container-volumes";

/// Adds the note for `volume` to `batch`.
pub(super) fn note(batch: &mut Batch, volume: &str) {
    batch.put(TABLE, volume, &());
}

/// Adds the end of the note to `batch`.
pub(super) fn forget(batch: &mut Batch, volume: &str) {
    batch.delete(TABLE, volume);
}

/// Removes what an interrupted create or remove left.
pub(super) async fn settle(engine: &Engine) -> Result<()> {
    let notes: Vec<(String, ())> = engine.store.list(TABLE).map_err(Error::from_fault)?;
    if notes.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    let passing = passing_volumes(engine);
    for (volume, ()) in &notes {
        if passing.contains(volume) {
            continue;
        }
        forget(&mut batch, volume);
        match engine.volumes.remove(engine, volume, true).await {
            Ok(()) => {}
            // A container on record has it.
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) => {
                tracing::warn!(%error, volume, "cannot remove a volume without a container")
            }
        }
    }
    super::commit(&engine.store, batch).await
}

/// Anonymous volumes of containers that are removed with their end.
fn passing_volumes(engine: &Engine) -> HashSet<String> {
    let mut volumes = HashSet::new();
    for container in engine.containers.registry.all() {
        let record = &container.read().record;
        if record.host_config.auto_remove {
            volumes.extend(record.anonymous_volumes().map(str::to_owned));
        }
    }
    volumes
}
