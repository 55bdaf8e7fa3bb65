//! What the caller says about a container beyond its OCI document.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use wharf_oci::runtime::{MemoryPolicy, NamespaceKind, Personality, Process, Spec, State};
use wharf_seccomp::Program;

use crate::dev_ahead::DevAhead;

/// A container to be started.
#[derive(Debug, Clone, Default)]
pub struct ContainerConfig {
    /// The OCI document. `root.path` is not looked at (see `rootfs`); `root.readonly` is.
    pub spec: Spec,
    /// What the root file system is made of.
    pub rootfs: RootFilesystem,
    /// The same, mounted already and attached nowhere, if somebody has had the time. Not for
    /// containers with a user namespace or a mount label, which have to be known for that.
    pub root: Option<Arc<OwnedFd>>,
    /// A `/dev`, if somebody has had the time; it is used where it is what the document asks for.
    pub dev: Option<Arc<DevAhead>>,
    /// Docker's `user[:group]`, resolved in the container's `/etc/passwd` and `/etc/group`. When
    /// given it replaces the numbers in `process.user`.
    pub user: Option<String>,
    /// Supplementary groups by name or number, resolved in the container's `/etc/group`.
    pub group_add: Vec<String>,
    /// The compiled system call filter. When given, `linux.seccomp` is not looked at.
    pub seccomp: Option<Program>,
    /// Makes the container's PID 1 [`crate::init_reaper`], with the user's program as its child.
    pub init: bool,
    /// `linux.cgroupsPath` is `slice:prefix:name`, and systemd makes the cgroup.
    pub systemd_cgroup: bool,
    /// What hooks and a filter's supervisor are told about the container; status and process ID
    /// are filled in.
    pub state: Option<State>,
    /// How many descriptors from 3 on the program gets, under the same numbers. They must be open.
    pub preserved_fds: u32,
    /// Changes the root with `chroot` instead of `pivot_root`, for hosts whose own root is a
    /// ramdisk.
    pub no_pivot: bool,
    /// Keeps the caller's session keyring.
    pub keep_keyring: bool,
    /// Binds may ask for a propagation that their source does not have: it begins with them.
    /// Otherwise that is refused, in Docker's words.
    pub any_propagation: bool,
    /// Programs that read `mountinfo` find the mounts in the document's order. Recent kernels list
    /// them by when they were made, which for binds is earlier.
    pub listed_in_order: bool,
}

/// What a container's root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootFilesystem {
    /// A directory on the host, absolute. Its files belong to whom they belong to: for a container
    /// with a user namespace, whoever made it has chosen owners from its mapping.
    Path(PathBuf),
    /// A directory on the host whose files belong to the IDs the container is to see, as those of
    /// an image's layers do: with a user namespace it is mounted through the mapping.
    Layer(PathBuf),
    /// An overlay, mounted in the container's mount namespace only.
    Overlay {
        /// Read-only layers, topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlay's scratch directory, on the same file system as `upper`.
        work: PathBuf,
        /// Further options of the overlay mount (`volatile`, `index=off`).
        options: Vec<String>,
    },
}

impl Default for RootFilesystem {
    fn default() -> Self {
        Self::Path(PathBuf::new())
    }
}

/// A namespace handed over by the caller: joined in place of what the document says about it.
#[derive(Debug)]
pub struct NamespaceFd {
    /// Its type.
    pub kind: NamespaceKind,
    /// The namespace file, or a pidfd of a process in it.
    pub fd: OwnedFd,
}

/// The standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Standard input, output and error. The caller keeps the other ends.
    Streams([OwnedFd; 3]),
    /// A new pseudo-terminal in the container; the caller gets its master.
    Terminal,
}

/// A further process in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecConfig {
    /// The process, complete: capabilities, environment and limits are not inherited. With an
    /// empty `cwd` it starts in `/`.
    pub process: Process,
    /// Docker's `user[:group]`, resolved in the container; replaces `process.user`.
    pub user: Option<String>,
    /// Supplementary groups by name or number.
    pub group_add: Vec<String>,
    /// The compiled system call filter.
    pub seccomp: Option<Program>,
    /// What the filter's supervisor is told about the container.
    pub state: Option<State>,
    /// As [`ContainerConfig::preserved_fds`].
    pub preserved_fds: u32,
    /// Keeps the caller's session keyring.
    pub keep_keyring: bool,
    /// The container's execution domain (`linux.personality`).
    pub personality: Option<Personality>,
    /// Where the container's memory comes from (`linux.memoryPolicy`).
    pub memory_policy: Option<MemoryPolicy>,
}
