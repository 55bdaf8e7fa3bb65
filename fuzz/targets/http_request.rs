//! What clients send: bodies, filters and versions as the server decodes them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_api_types::container::CreateContainer;
use wharf_api_types::exec::CreateExec;
use wharf_api_types::network::NetworkCreate;
use wharf_api_types::volume::VolumeCreate;
use wharf_api_types::{ApiVersion, Filters, go_json};

fuzz_target!(|bytes: &[u8]| {
    drop(go_json::from_slice::<CreateContainer>(bytes));
    drop(go_json::from_slice::<CreateExec>(bytes));
    drop(go_json::from_slice::<NetworkCreate>(bytes));
    drop(go_json::from_slice::<VolumeCreate>(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(text.parse::<ApiVersion>());
        if let Ok(filters) = Filters::parse(text) {
            let again = Filters::parse(&filters.to_json()).expect("printed filters parse");
            assert_eq!(filters.to_json(), again.to_json());
        }
    }
});
