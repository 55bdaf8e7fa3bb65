//! The values of `-v`, `--mount`, `-p` and their like.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wharf_commands::parse;

fuzz_target!(|text: &str| {
    let directory = Path::new("/work");
    drop(parse::bind::parse(text, directory));
    drop(parse::mount::parse(text, directory));
    drop(parse::ports::Ports::default().publish(text));
    drop(parse::ports::Ports::default().expose(text));
    drop(parse::network::parse(text));
    drop(parse::device::parse(text));
    drop(parse::ulimit::parse(text));
    drop(parse::restart::parse(text));
    drop(parse::size::parse(text));
    drop(parse::duration::parse(text));
    drop(parse::env::file("file", text.as_bytes(), |_| None));
});
