//! The start message: everything a shim has to know to run its container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_logs::LogTarget;
use wharf_oci::runtime::{NamespaceKind, Spec};

use crate::message::AttachMode;

/// Runs a container. Sent once, as the first request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// The container's full id.
    pub id: String,
    /// The OCI configuration. `process.user` and `linux.seccomp` may be left out in favour of
    /// `user` and `seccomp_bpf`.
    pub spec: Box<Spec>,
    /// Where the root file system comes from; the mount is made inside the container.
    pub rootfs: Rootfs,
    /// Docker's `User` (`name[:group]`, `uid[:gid]`), resolved in the container's own passwd and
    /// group files, where an empty one is root; `None` takes `spec.process.user` as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Further groups, by name or number, resolved in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// The compiled seccomp filter: `struct sock_filter` records, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_bpf: Option<String>,
    /// The spec's `cgroupsPath` is `slice:prefix:name`, and systemd makes the cgroup.
    #[serde(default)]
    pub systemd_cgroup: bool,
    /// Run the built-in init as PID 1, which reaps orphans and forwards signals.
    #[serde(default)]
    pub init: bool,
    /// Keep the container's standard input open for attached clients (`-i`).
    #[serde(default)]
    pub open_stdin: bool,
    /// Close the standard input after the first attached client ended its side.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where output is logged. Rotation and attributes are resolved already.
    pub log: LogTarget,
    /// Where the exit record goes (see [`crate::files::ExitRecord`]).
    pub exit_path: PathBuf,
    /// Whether the exit record must survive a power loss (`fsync`); off for `--rm` containers.
    #[serde(default)]
    pub durable_exit: bool,
    /// The shim's own directory, `<exec-root>/containers/<id>`: socket and shim record lie here.
    /// The daemon has created it with mode 0700.
    pub run_dir: PathBuf,
    /// The program of another OCI runtime that runs the container; `None` for the built-in one.
    /// The system call filter is then in the document, and `seccomp_bpf` is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeProgram>,
    /// Start it from a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// What the descriptors sent along are, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fds: Vec<StartFd>,
}

/// The program of an OCI runtime, with the command line of `runc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeProgram {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments before ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Its environment, `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// Where it keeps its state: `--root`.
    pub root: PathBuf,
}

/// Where a container is restored from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// CRIU's images.
    pub images: PathBuf,
    /// Where logs go.
    pub work: PathBuf,
    /// CRIU's program, for the built-in runtime.
    pub criu: PathBuf,
    /// Its environment.
    pub environment: Vec<String>,
}

/// What one descriptor of a [`Start`] message is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFd {
    /// A namespace file, or a pidfd of a process in it: joined in place of what the spec says
    /// about this type. A container's own network namespace comes this way.
    Namespace(NamespaceKind),
    /// A client's socket that is attached before the program runs, so it misses nothing.
    Attach(AttachMode),
    /// A descriptor the shim only keeps for the daemon, under this name, until asked for it
    /// (the sockets of the container's DNS server, for example).
    Held(String),
    /// What [`Start::rootfs`] describes, mounted already and attached nowhere. Only for a container
    /// that the shim's own runtime starts, without user namespace and label.
    Root,
}

/// Where a root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// An existing directory.
    Directory {
        /// Absolute path on the host.
        path: PathBuf,
    },
    /// An overlay mount, made inside the container's mount namespace.
    Overlay {
        /// Read-only layers, uppermost first.
        lower: Vec<PathBuf>,
        /// Takes the changes.
        upper: PathBuf,
        /// Overlay's work directory, on the same file system as `upper`.
        work: PathBuf,
        /// Further options of the overlay mount (`volatile`, `index=off`).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
}
