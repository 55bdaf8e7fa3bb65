//! What images, containers and volumes take on disk.

use wharf_api_types::container::ContainerSummary;
use wharf_api_types::image::ImageSummary;
use wharf_api_types::volume::Volume;
use wharf_fault::Result;

use crate::Engine;

/// Which objects are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsageParts {
    /// Images.
    pub images: bool,
    /// Containers.
    pub containers: bool,
    /// Volumes.
    pub volumes: bool,
}

impl DiskUsageParts {
    /// All of them.
    pub const ALL: Self = Self {
        images: true,
        containers: true,
        volumes: true,
    };
}

/// What the objects take on disk; `None` for those not asked for.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// Bytes of all images, shared ones counted once.
    pub layers_bytes: i64,
    /// Images.
    pub images: Option<Vec<ImageSummary>>,
    /// Containers.
    pub containers: Option<Vec<ContainerSummary>>,
    /// Volumes.
    pub volumes: Option<Vec<Volume>>,
}

impl Engine {
    /// Measures what objects take on disk.
    pub async fn disk_usage(&self, parts: DiskUsageParts) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if parts.images {
            let (images, layers_bytes) = self.images.usage(self).await?;
            usage.images = Some(images);
            usage.layers_bytes = layers_bytes;
        }
        if parts.containers {
            usage.containers = Some(self.containers.usage(self).await?);
        }
        if parts.volumes {
            usage.volumes = Some(self.volumes.usage(self).await?);
        }
        Ok(usage)
    }
}
