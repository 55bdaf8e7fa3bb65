//! `wharf runtime`: the command line of runc, as tools drive it.

#[path = "runtime_command/checkpoint.rs"]
mod checkpoint;
#[path = "runtime_command/console.rs"]
mod console;
#[path = "runtime_command/escapes.rs"]
mod escapes;
#[path = "runtime_command/hooks.rs"]
mod hooks;
#[path = "runtime_command/lifecycle.rs"]
mod lifecycle;
#[path = "runtime_command/processes.rs"]
mod processes;
#[path = "runtime_command/users.rs"]
mod users;
