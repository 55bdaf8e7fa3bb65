//! The one binary: `wharf`, also installed as `docker`.
//!
//! ```text
//! wharf daemon …   the engine          (daemon), an ordinary user's in namespaces of its own (user)
//! wharf COMMAND …  the command line    (wharf_commands), which starts the daemon when there is none
//! wharf rootless-keeper  what keeps those namespaces (wharf_rootless::keeper); daemons start it
//! ```
//!
//! Composition only: what a command does is in `commands`, what the engine does in `engine`, how
//! it is reached in `server`.

mod autostart;
mod daemon;
mod user;

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
    if let [word, exec_root] = args.as_slice()
        && word == wharf_rootless::keeper::COMMAND
    {
        return wharf_rootless::keeper::main(Path::new(exec_root));
    }
    let hooks = Hooks {
        default_socket: user::default_socket(),
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
