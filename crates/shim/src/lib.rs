//! The shim: one small process per container that outlives the daemon.
//!
//! It is the parent of the container's first process, holds its standard streams, writes its log,
//! connects clients, runs further processes in it, and records how it ended. It is separate from
//! the daemon for one reason: containers go on when the daemon stops.
//!
//! One thread, one loop around `poll`: what is waited for follows from the state each time round,
//! so there is no registration to keep in step. Memory is taken while bytes flow and given back
//! when they stop.
//!
//! - [`shim`]: the loop and the daemon's requests.
//! - [`container`]: the container's life from its start to its exit record.
//! - [`cause`]: why it ended.
//! - [`launch`]: a start or exec message to the runtime library.
//! - [`bundle`]: a root file system that only this process's mounts show, and `config.json`.
//! - [`external`]: the same by the program of another OCI runtime.
//! - [`restore`]: the same from a checkpoint.
//! - [`ring`]: what the shim gives up once its container runs.
//! - [`outside`]: who does for it what it cannot do any more.
//! - [`process`]: a process's standard streams, and who is connected to them.
//! - [`client`]: one connected client.
//! - [`control`]: one connection of the daemon.

mod bundle;
mod cause;
mod client;
mod container;
mod control;
mod detach;
mod external;
mod launch;
mod oom;
mod outside;
mod process;
mod restore;
mod ring;
mod shim;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use wharf_shim_protocol::CONTROL_FD;
use wharf_sys::signal::SignalSet;

use shim::Shim;

/// Runs as the shim of one container, told what to do on [`CONTROL_FD`].
pub fn main() -> ExitCode {
    wharf_sys::malloc::tune_for_small_footprint(1);
    // Nobody stops a shim but its container's end; SIGPIPE is ignored by the Rust runtime already.
    let _ = wharf_sys::signal::set_mask(SignalSet::all());
    let Ok(control) = wharf_sys::fd::take_inherited(CONTROL_FD) else {
        // Run by hand: there is nobody to talk to.
        return ExitCode::from(64);
    };
    // While nobody waits: the start will fork. A kernel that refuses costs microseconds then.
    let _ = wharf_sys::program_pages::map_for_children();
    // The same goes for what the start has to know of this machine; whether it can, it finds out.
    let _ = wharf_container_runtime::cgroup::Cgroup::at("/wharf");
    // And for what nearly every container gets; the others', and all where this fails, make their own.
    let dev = wharf_container_runtime::DevAhead::make().ok().flatten();
    // Nothing the daemon was started in must stay busy because of us.
    let _ = std::env::set_current_dir("/");
    match Shim::new(UnixStream::from(control), dev).run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
