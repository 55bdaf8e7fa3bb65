//! Development tasks that are more than one command: `cargo xtask test|bench|vm|conformance|fuzz`.

mod bench;
mod conformance;
mod fuzz;
mod test;
mod vm;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("test") => test::run(&arguments[1..]),
        Some("bench") => bench::run(&arguments[1..]),
        Some("conformance") => conformance::run(&arguments[1..]),
        Some("fuzz") => fuzz::run(&arguments[1..]),
        Some("vm") => vm::run(&arguments[1..]),
        _ => Err(
            "usage: cargo xtask test [quick] | bench [--runs N] [--only SECTION,…] [--containers N] | vm [test [long]] [-- COMMAND...] | conformance [--vm] | fuzz [--seconds N] [TARGET...]"
                .to_owned(),
        ),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root folder.
fn workspace() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}
