//! How an image came to be, step by step.

use jiff::Timestamp;

use crate::image::Image;

/// One step, as Docker's API lists them.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The image's id for the last step, `<missing>` for the others.
    pub id: String,
    /// When, in seconds since 1970; 0 when not known.
    pub created_secs: i64,
    /// The instruction.
    pub created_by: String,
    /// The image's names, for the last step.
    pub tags: Vec<String>,
    /// Bytes of the step's layer.
    pub size_bytes: u64,
    /// Free text.
    pub comment: String,
}

impl Image {
    /// The steps, last one first.
    pub fn history(&self) -> Vec<HistoryEntry> {
        let mut layers = self.layers.iter();
        let mut entries: Vec<HistoryEntry> = self
            .config
            .history
            .iter()
            .map(|step| HistoryEntry {
                id: "<missing>".to_owned(),
                created_secs: step
                    .created
                    .as_deref()
                    .and_then(|text| text.parse::<Timestamp>().ok())
                    .map_or(0, Timestamp::as_second),
                created_by: step.created_by.clone(),
                tags: Vec::new(),
                size_bytes: if step.empty_layer {
                    0
                } else {
                    layers.next().map_or(0, |layer| layer.disk_bytes)
                },
                comment: step.comment.clone(),
            })
            .collect();
        entries.reverse();
        if let Some(last) = entries.first_mut() {
            last.id = self.id.to_string();
            last.tags = self.repo_tags();
        }
        entries
    }
}
