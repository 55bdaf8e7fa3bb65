//! Layers: nothing outside the target directory changes, whatever the archive says.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| {
    let scratch = tempfile::tempdir().expect("there is room for scratch files");
    let witness = scratch.path().join("witness");
    let target = scratch.path().join("target");
    std::fs::write(&witness, b"untouched").expect("scratch is writable");
    std::fs::create_dir(&target).expect("scratch is writable");
    drop(wharf_image_store::apply_layer(archive, &target));
    assert_eq!(std::fs::read(&witness).expect("the witness is still there"), b"untouched");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("readable").count(), 2, "something appeared beside the target");
    assert!(!Path::new("/wharf-fuzz-escaped").exists());
});
