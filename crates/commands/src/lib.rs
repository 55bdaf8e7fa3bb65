//! The command line: one file per command, Docker's words and Docker's output.
//!
//! [`main`] parses the words (`tree`, `matches`), hands them to the command's `run` function,
//! and turns its `Outcome` into text on standard error and an exit status. A command
//! parses its values with the pure functions of [`parse`], talks to the engine through
//! `wharf_client` and prints through `format`. Nothing here knows how the engine works.

mod checkpoint;
mod cli;
mod command;
mod completion;
mod config_file;
mod container;
pub mod daemon;
mod filters;
mod format;
mod help;
mod image;
mod matches;
mod network;
mod outcome;
pub mod parse;
mod registry;
mod system;
mod terminal;
mod tree;
mod volume;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the binary supplies to the command line.
#[derive(Debug, Clone)]
pub struct Hooks {
    /// The socket used when the user names no host.
    pub default_socket: PathBuf,
    /// Starts the daemon of [`Hooks::default_socket`]; returns when it accepts connections.
    pub autostart: fn() -> io::Result<()>,
    /// Commands the binary handles itself before it gets here, listed in the help: name and one
    /// line.
    pub extra_commands: &'static [(&'static str, &'static str)],
}

/// Runs the command line `args` (without the program's name) for the program called `name`
/// (`wharf` or `docker`).
pub fn main(args: Vec<OsString>, name: &str, hooks: &Hooks) -> ExitCode {
    let mut words = Vec::with_capacity(args.len());
    for arg in args {
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(raw) => {
                cli::say_error(&format!(
                    "{name}: argument is not valid UTF-8: {}",
                    raw.display()
                ));
                return ExitCode::from(125);
            }
        }
    }
    match tree::dispatch(words, name, hooks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = &failure.message {
                cli::say_error(message);
            }
            ExitCode::from(failure.status)
        }
    }
}
