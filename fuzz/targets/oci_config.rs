//! `config.json`: whatever the bytes, reading and checking it ends with a document or an error; a
//! document that was read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_oci::runtime::Spec;

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    let written = serde_json::to_vec(&spec).expect("a document that was read can be written");
    let again: Spec = serde_json::from_slice(&written).expect("and read again");
    assert_eq!(spec, again);
    assert_eq!(
        wharf_container_runtime::check(&spec),
        wharf_container_runtime::check(&again)
    );
});
