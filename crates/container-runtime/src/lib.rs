//! Starting, signalling and removing containers: the OCI runtime as a library.
//!
//! It is synchronous, keeps no state of its own and belongs into a process with one thread (the
//! shim): between `clone3` and `execve` the child runs ordinary code of this library, which is
//! only sound where no other thread can hold a lock at that moment.
//!
//! ```text
//! parent (create.rs)                              container's first process (init.rs)
//!   clone3(namespaces) ──────────────────────────▶ mounts its root, /proc, /dev, binds …
//!   makes the cgroups
//!   "go" ────────────── socket pair ─────────────▶ enters them, cgroup mounts, pivot_root
//!        ◀───────────── terminal's master ───────  opens the terminal
//!        ◀───────────── "mounted" ───────────────  (only with hooks) hooks of the host's side
//!        ◀───────────── "ready" ─────────────────  (only with `create`) waits for "start"
//!        ◀───────────── stage + errno ───────────  whatever fails, then it exits
//!        ◀───────────── end of file ─────────────  execve closed the socket: the program runs
//! ```
//!
//! With a user namespace the parent also writes its mapping ([`user_namespace`]) and makes what the
//! container's root may not make (`supplies.rs`); how the first process comes into namespaces that
//! have to be entered or prepared first is in `birth.rs`.
//!
//! - [`create`]/[`run`]: [`create.rs`](create) is the parent's side, `init.rs` the child's.
//! - [`gate`]: how a created container waits for `start` in another process.
//! - [`hooks`]: the administrator's programs along the way.
//! - [`exec`]: another process in a running container.
//! - [`checkpoint`](mod@checkpoint): writing a container down and starting it from there, through CRIU.
//! - [`cgroup`]: the container's cgroup: limits, statistics, freezing, removal.
//! - [`kernel_log`]: what the kernel's log says about processes it ended.
//! - [`error`]: what can fail, and how Docker words it.
//! - [`init_reaper`]: PID 1 of containers started with `--init`.

pub mod cgroup;
pub mod checkpoint;
pub mod config;
pub mod create;
pub mod error;
pub mod exec;
pub mod gate;
pub mod hooks;
pub mod id_map;
pub mod kernel_log;
pub mod kill;
pub mod mount_plan;
pub mod reaper;
pub mod resctrl;
pub mod user_namespace;

mod affinity;
mod birth;
mod channel;
mod copy_up;
mod dev_ahead;
mod devices;
mod init;
mod label;
mod launch;
mod memory_policy;
mod mounts;
mod net_devices;
mod number_list;
mod prepared;
mod propagation;
mod protect;
mod rlimit;
mod scheduler;
mod shown;
mod streams;
mod supervisor;
mod supplies;
mod sysctl;
mod user;

pub use cgroup::Cgroup;
pub use checkpoint::{CheckpointError, CheckpointOptions, Criu, checkpoint, restore};
pub use config::{ContainerConfig, ExecConfig, NamespaceFd, RootFilesystem, Stdio};
pub use create::{Created, Namespaces, Running, create, create_behind, run, run_telling};
pub use dev_ahead::DevAhead;
pub use error::{Stage, StartError};
pub use exec::{Executed, NotExecuted, exec, exec_for_parent};
pub use id_map::{IdMap, IdMaps};
pub use kill::kill;
pub use label::host_has_selinux;
pub use prepared::check;
pub use reaper::{INIT_ARGV0, init_reaper};
pub use shown::Shown;
pub use streams::shield;
pub use user::resolve_user;
