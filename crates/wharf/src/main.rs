//! The one binary: `wharf`, also installed as `docker`.
//!
//! ```text
//! wharf daemon …   the engine          (daemon), an ordinary user's in namespaces of its own (user)
//! wharf runtime …  the OCI runtime     (wharf_runtime_command), where no container can write to it
//! wharf COMMAND …  the command line    (wharf_commands), which starts the daemon when there is none
//! wharf rootless-keeper  what keeps those namespaces (wharf_rootless::keeper); daemons start it
//! ```
//!
//! Composition only: what a command does is in `commands`, what the engine does in `engine`, how
//! it is reached in `server`.

mod autostart;
mod daemon;
mod program;
mod user;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use wharf_commands::Hooks;

/// Where the system-wide daemon listens and clients look for it.
const DEFAULT_SOCKET: &str = "/run/wharf.sock";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let path = args.next();
    let args: Vec<OsString> = args.collect();
    if let Some((name, after)) = runtime_call(path.as_deref(), &args) {
        return program::runtime(name, &args[after..]);
    }
    let name = program_name(path);
    if args.first().is_some_and(|word| word == "daemon") {
        return daemon::main(&args[1..], &name);
    }
    if let [word, exec_root] = args.as_slice()
        && word == wharf_rootless::keeper::COMMAND
    {
        return wharf_rootless::keeper::main(Path::new(exec_root));
    }
    let hooks = Hooks {
        default_socket: user::default_socket(),
        autostart: autostart::start_daemon,
        extra_commands: &[
            ("daemon", "Run the engine"),
            ("runtime", "Run a container as an OCI runtime"),
        ],
    };
    wharf_commands::main(args, &name, &hooks)
}

/// The runtime's name and where its arguments begin, if it is what was called: by `runtime`, or by
/// one of its names for callers that only take a program's path.
fn runtime_call(path: Option<&OsStr>, args: &[OsString]) -> Option<(&'static str, usize)> {
    let called = path.map(Path::new).and_then(Path::file_name)?;
    let names = wharf_runtime_command::NAMES;
    if let Some(name) = names.into_iter().find(|name| called == *name) {
        return Some((name, 0));
    }
    (called != "docker" && args.first()? == "runtime").then_some((names[0], 1))
}

/// `docker` when called by that name, else `wharf`.
fn program_name(path: Option<OsString>) -> String {
    let called = path.as_deref().map(Path::new).and_then(Path::file_name);
    if called.is_some_and(|name| name == "docker") {
        "docker".to_owned()
    } else {
        "wharf".to_owned()
    }
}
