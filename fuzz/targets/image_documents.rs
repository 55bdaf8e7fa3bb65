//! Manifests, indexes and configurations as a registry could send them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_oci::image::{Document, ImageConfig};

fuzz_target!(|bytes: &[u8]| {
    for announced in ["", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"] {
        drop(Document::parse(bytes, announced));
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let again = serde_json::to_vec(&config).expect("a parsed configuration can be written");
        ImageConfig::parse(&again).expect("and read again");
    }
});
