//! Image references: whatever parses prints to something that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_ids::ImageRef;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<ImageRef>() {
        let again: ImageRef = reference.to_string().parse().expect("a printed reference parses");
        assert_eq!(reference, again);
        let familiar: ImageRef = reference.familiar().parse().expect("a familiar name parses");
        assert_eq!(reference, familiar);
    }
});
