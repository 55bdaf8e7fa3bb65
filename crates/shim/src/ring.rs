//! The ring around a shim: once its container runs, it gives up what it has no more use for.
//!
//! ```text
//! shim, before ──fork──▶ outside (see `outside.rs`): starts execs, signals and removes the cgroup
//!    │                        ▲ orders over a socket pair
//!    ▼ Landlock, no ways out, few capabilities
//! shim, inside: streams, log, clients, the daemon's requests, the exit record
//! ```
//!
//! Inside are those who handle bytes of the container and of clients. They can write below the
//! directories of this container's records and log, read its cgroup and the kernel's log, and use
//! the descriptors they have: no other file, socket, mount, program or process's memory. Children
//! inherit all of that for ever, which is why somebody has to be outside.
//!
//! It is closed a moment after the start, so that short containers do not pay for it. Where the
//! kernel has no Landlock nothing changes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_container_runtime::{Cgroup, Running};
use wharf_sys::capability::{self, Capabilities};
use wharf_sys::landlock::{Domain, Rights};

use crate::outside::{Limits, Outside};

/// How long after the start it is closed.
pub(crate) const CLOSED_AFTER: Duration = Duration::from_millis(100);

/// What those inside keep: their files may be others', and so may the processes they signal; the
/// kernel's log says why one was killed.
const KEPT: [&str; 3] = ["CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SYSLOG"];

/// What is needed to close it.
#[derive(Debug)]
pub(crate) struct Open {
    /// Where files are written: log and exit record.
    pub(crate) written: Vec<PathBuf>,
    /// What an exec may have without the daemon saying so.
    pub(crate) limits: Limits,
}

/// Closes it around the container with this ID and run directory, if the kernel can, and returns
/// who is outside.
pub(crate) fn close(open: Open, container: &Running, names: (&str, &Path)) -> Option<Outside> {
    if !is_privileged() {
        return None;
    }
    let Open { written, limits } = open;
    let ready = Ready::make(&written, names.1, container).ok()?;
    drop(written);
    // From the fork on, a page that is written is a page more: all that takes memory is done, and
    // what nobody uses is given back, before.
    wharf_sys::malloc::trim();
    wharf_sys::malloc::release_stack();
    let mut outside = Outside::fork(container, names, limits).ok()?;
    // Half a ring keeps nobody inside, but who is outside does what it does all the same.
    outside.is_ringed = ready.enter().is_ok();
    Some(outside)
}

/// Whether processes can be started on behalf of somebody else.
fn is_privileged() -> bool {
    let admin = Capabilities::named("CAP_SYS_ADMIN").unwrap_or_default();
    capability::effective().is_ok_and(|effective| effective.contains(admin))
}

/// A ring that only needs to be entered.
#[derive(Debug)]
struct Ready {
    domain: Domain,
    capabilities: Capabilities,
}

impl Ready {
    fn make(written: &[PathBuf], run_dir: &Path, container: &Running) -> Result<Self, Errno> {
        let domain = Domain::new()?;
        let records = Rights::READ
            .and(Rights::WRITE)
            .and(Rights::LIST)
            .and(Rights::REMOVE)
            .and(Rights::MAKE)
            .and(Rights::TRUNCATE);
        let look = Rights::READ.and(Rights::LIST);
        let allow = |place: &Path, rights| match open_place(place) {
            Ok(place) => domain.allow(place, rights),
            // What is not there is not used.
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        };
        for directory in written {
            allow(directory, records)?;
        }
        // Socket and shim record are removed at the end. Nothing is made there: what the daemon
        // puts there is its word.
        allow(run_dir, Rights::REMOVE)?;
        allow(Path::new("/dev/kmsg"), Rights::READ)?;
        for directory in container.cgroup.iter().flat_map(Cgroup::directories) {
            allow(directory, look)?;
        }
        let capabilities = KEPT
            .iter()
            .filter_map(|name| Capabilities::named(name))
            .fold(Capabilities::NONE, Capabilities::union)
            .intersection(capability::permitted()?);
        Ok(Self {
            domain,
            capabilities,
        })
    }

    fn enter(self) -> Result<(), Errno> {
        rustix::thread::set_no_new_privs(true)?;
        self.domain.enter()?;
        capability::set(self.capabilities, self.capabilities, Capabilities::NONE)?;
        wharf_sys::seccomp::stay_inside()
    }
}

fn open_place(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
