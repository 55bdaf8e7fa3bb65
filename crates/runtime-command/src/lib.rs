//! `wharf runtime`: the command line of `runc`, for everything that drives an OCI runtime by it
//! (containerd, Podman, Docker, the conformance suites).
//!
//! Each command is a process of its own that looks at what is remembered (`store`), asks the
//! kernel what is true (`container`), and calls the runtime library. Nothing stays behind but the
//! container.
//!
//! ```text
//! create   bundle ─▶ store ─▶ container-runtime: first process waits at its gate
//! start    store ─▶ gate: the program runs
//! run      both at once; in the foreground it stays to pass signals and bytes on
//! delete   cgroup and store are gone, poststop hooks are run
//! ```
//!
//! A command that gets into containers is first started once more from where nobody can write, so
//! that a container never gets hold of a program on disk.

mod bundle;
mod commands;
mod console;
mod container;
mod error;
mod flags;
mod foreground;
mod id;
mod log;
mod notify;
mod restore;
mod runtime;
mod start;
mod store;
mod tolerance;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use error::{Error, Result};

/// The names under which this program is an OCI runtime.
pub const NAMES: [&str; 3] = ["wharf-runtime", "runc", "crun"];

/// Starts this program once more, with the arguments given (its name first), where a container that
/// gets hold of it cannot write to it. Only returns when that fails.
pub type BecomeUnwritable = fn(&[OsString]) -> std::io::Error;

/// Runs the command line `arguments` (those after the program's name), called as `name`. With
/// `hide`, that is done first by those commands which get into containers (CVE-2019-5736).
pub fn main(
    name: &str,
    arguments: impl IntoIterator<Item = OsString>,
    hide: Option<BecomeUnwritable>,
) -> ExitCode {
    // Before anything is opened: these are the caller's.
    let inherited = runtime::inherited_fds();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    runtime::run(name, &arguments, inherited, hide)
}

/// Prints a command's result. That the reader has gone is its own affair.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::system("write")),
    }
}

/// Prints `value` as JSON, indented as runc does.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = pretty(value).map_err(Error::json("output"))?;
    print(&format!("{text}\n"))
}

/// `value` as indented JSON. By way of a tree, lest every type be written by code of its own twice.
fn pretty(value: &impl serde::Serialize) -> serde_json::Result<String> {
    let tree: serde_json::Value = serde_json::from_slice(&serde_json::to_vec(value)?)?;
    serde_json::to_string_pretty(&tree)
}
