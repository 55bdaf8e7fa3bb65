//! The one binary: `wharf`, also installed as `docker`.
//!
//! ```text
//! wharf daemon …   the engine          (daemon)
//! wharf COMMAND …  the command line    (wharf_commands), which starts the daemon when there is none
//! ```
//!
//! Composition only: what a command does is in `commands`, what the engine does in `engine`, how
//! it is reached in `server`.

mod autostart;
mod daemon;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use wharf_commands::Hooks;

/// Where the system-wide daemon listens and clients look for it.
const DEFAULT_SOCKET: &str = "/run/wharf.sock";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = program_name(args.next());
    let args: Vec<OsString> = args.collect();
    if args.first().is_some_and(|word| word == "daemon") {
        return daemon::main(&args[1..], &name);
    }
    let hooks = Hooks {
        default_socket: DEFAULT_SOCKET.into(),
        autostart: autostart::start_daemon,
        extra_commands: &[("daemon", "Run the engine")],
    };
    wharf_commands::main(args, &name, &hooks)
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
