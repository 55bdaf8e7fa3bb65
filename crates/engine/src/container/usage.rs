//! What containers take on disk, for `system df`.

use wharf_api_types::container::ContainerSummary;
use wharf_fault::Result;

use super::Containers;
use super::list::ListOptions;
use crate::Engine;

impl Containers {
    /// All containers with their sizes.
    pub async fn usage(&self, engine: &Engine) -> Result<Vec<ContainerSummary>> {
        engine
            .container_list(&ListOptions {
                all: true,
                size: true,
                ..ListOptions::default()
            })
            .await
    }
}
