//! Who stays outside the [ring](crate::ring): a copy of the shim as it was when its container
//! started, which waits for orders and does nothing else.
//!
//! ```text
//! inside ──Order──▶ outside      Exec: a process in the container, born as a child of the shim's
//!        ◀─Outcome──             SignalAll, Remove: the container's cgroup
//! ```
//!
//! It does not trust those inside: an exec gets no more than the container itself has, unless the
//! daemon has put the very order into the run directory, where those inside cannot write.

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use serde::{Deserialize, Serialize};
use wharf_container_runtime::Running;
use wharf_oci::runtime::Process as OciProcess;
use wharf_shim_protocol::wire::{Connection, Frame};
use wharf_shim_protocol::{ExecStart, Failure, FailureKind, Target, files};

use crate::launch::{self, Launched, Parent};
use crate::process::{Process, Streams};

/// What an exec may have without the daemon's word: what the container has.
#[derive(Debug)]
pub(crate) struct Limits {
    /// The container's bounding set.
    bounding: Vec<String>,
    /// Its filter, as it was sent.
    seccomp: Option<String>,
    apparmor: Option<String>,
    selinux: Option<String>,
    no_new_privileges: bool,
}

impl Limits {
    pub(crate) fn of(process: Option<&OciProcess>, seccomp: Option<&str>) -> Self {
        let capabilities = process.and_then(|process| process.capabilities.as_ref());
        Self {
            bounding: capabilities
                .map(|sets| sets.bounding.clone())
                .unwrap_or_default(),
            seccomp: seccomp.map(str::to_owned),
            apparmor: process.and_then(|process| process.apparmor_profile.clone()),
            selinux: process.and_then(|process| process.selinux_label.clone()),
            no_new_privileges: process.is_some_and(|process| process.no_new_privileges),
        }
    }
}

/// The limits as the process outside keeps them: the filter is long, and a hash with a key nobody
/// else knows says as well whether it is the same.
#[derive(Debug)]
struct Known<'l> {
    limits: &'l Limits,
    keys: RandomState,
    seccomp: Option<u64>,
}

impl<'l> Known<'l> {
    fn new(limits: &'l Limits) -> Self {
        let keys = RandomState::new();
        let seccomp = limits.seccomp.as_ref().map(|filter| keys.hash_one(filter));
        Self {
            limits,
            keys,
            seccomp,
        }
    }

    fn allow(&self, exec: &ExecStart) -> bool {
        let (process, limits) = (&exec.process, self.limits);
        let capabilities = process.capabilities.iter().flat_map(|sets| {
            [
                &sets.bounding,
                &sets.effective,
                &sets.permitted,
                &sets.inheritable,
                &sets.ambient,
            ]
        });
        let filter = exec.seccomp_bpf.as_ref();
        capabilities
            .flatten()
            .all(|name| limits.bounding.contains(name))
            && (self.seccomp.is_none()
                || filter.map(|filter| self.keys.hash_one(filter)) == self.seccomp)
            && process.apparmor_profile == limits.apparmor
            && process.selinux_label == limits.selinux
            && (process.no_new_privileges || !limits.no_new_privileges)
    }
}

/// What those inside want.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Exec(Box<ExecStart>),
    SignalAll(i32),
    Remove,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    /// A process, as pidfd, and our ends of its streams: which of the four there are.
    Started { pid: i32, streams: [bool; 4] },
    /// It did not start, and this one is to be reaped.
    NotStarted { failure: Failure, dead: Option<i32> },
    /// Done, or the kernel's error.
    Done(Option<i32>),
}

impl Frame for Order {
    fn fd_count(&self) -> usize {
        0
    }
}

impl Frame for Outcome {
    fn fd_count(&self) -> usize {
        match self {
            Self::Started { streams, .. } => 1 + streams.iter().filter(|there| **there).count(),
            Self::NotStarted { .. } | Self::Done(_) => 0,
        }
    }
}

/// The way to the process outside.
#[derive(Debug)]
pub(crate) struct Outside {
    connection: Connection,
    pid: Pid,
    /// We are inside a ring.
    pub(crate) is_ringed: bool,
}

impl Outside {
    /// Forks it, while nobody is in the ring yet.
    pub(crate) fn fork(
        container: &Running,
        (id, run_dir): (&str, &Path),
        limits: Limits,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // Dropped by neither: as long as nobody writes to it, it is there once.
        let limits = ManuallyDrop::new(limits);
        let pid = wharf_sys::clone::fork(|| {
            // Clients, the log and the daemon must not wait for us.
            let kept = [container.pidfd.as_fd(), theirs.as_fd()];
            if wharf_sys::fd::close_from_except(0, &kept).is_err() {
                return 1;
            }
            // What is owned but closed is never dropped: this process ends without.
            let known = Known::new(&limits);
            serve(Connection::new(theirs), container, (id, run_dir), &known);
            0
        })?;
        Ok(Self {
            connection: Connection::new(ours),
            pid,
            is_ringed: false,
        })
    }

    /// Has a process started in the container.
    pub(crate) fn exec(&mut self, exec: ExecStart) -> Result<Process, Failure> {
        let target = Target::Exec(exec.exec_id.clone());
        match self.order(&Order::Exec(Box::new(exec))).map_err(gone)? {
            (Outcome::Started { pid, streams }, fds) => {
                let mut fds = fds.into_iter();
                let lost = || gone(io::ErrorKind::InvalidData.into());
                let pidfd = fds.next().ok_or_else(lost)?;
                let mut next = |there: bool| there.then(|| fds.next()).flatten();
                let streams = Streams {
                    stdin: next(streams[0]),
                    stdout: next(streams[1]),
                    stderr: next(streams[2]),
                    terminal: next(streams[3]),
                };
                let pid = Pid::from_raw(pid).ok_or_else(lost)?;
                Ok(Process::new(target, pid, pidfd, streams, true))
            }
            (Outcome::NotStarted { failure, dead }, _) => {
                if let Some(dead) = dead.and_then(Pid::from_raw) {
                    while let Err(Errno::INTR) = waitpid(Some(dead), WaitOptions::empty()) {}
                }
                Err(failure)
            }
            (Outcome::Done(_), _) => Err(gone(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Signals every process of the container.
    pub(crate) fn signal_all(&mut self, signal: i32) -> io::Result<()> {
        self.done(&Order::SignalAll(signal))
    }

    /// Removes the container's cgroup; there will be no further orders.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let removed = self.done(&Order::Remove);
        let pid = self.pid;
        drop(self);
        while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {}
        removed
    }

    fn done(&mut self, order: &Order) -> io::Result<()> {
        match self.order(order)? {
            (Outcome::Done(None), _) => Ok(()),
            (Outcome::Done(Some(errno)), _) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn order(&mut self, order: &Order) -> io::Result<(Outcome, Vec<OwnedFd>)> {
        self.connection.send(order, &[])?;
        let outcome = self.connection.receive()?;
        outcome.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn gone(error: io::Error) -> Failure {
    Failure::new(
        FailureKind::System,
        format!("the process that starts others in the container does not answer: {error}"),
    )
}

/// Carries out orders until there is nobody left to give them.
fn serve(mut inside: Connection, container: &Running, names: (&str, &Path), known: &Known<'_>) {
    let Err(_): io::Result<Infallible> = (|| {
        loop {
            // Without the room that receiving takes.
            let mut waited = [PollFd::new(inside.socket(), PollFlags::IN)];
            while let Err(Errno::INTR) = poll(&mut waited, None) {}
            let Some((order, _)) = inside.receive()? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let (outcome, launched) = carry_out(order, container, names, known);
            let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
            if let Some(launched) = &launched {
                fds.push(launched.pidfd.as_fd());
                let streams = ends(&launched.streams);
                fds.extend(streams.into_iter().flatten().map(|end| end.as_fd()));
            }
            inside.send(&outcome, &fds)?;
            drop(launched);
            wharf_sys::malloc::trim();
        }
    })();
}

fn ends(streams: &Streams) -> [Option<&OwnedFd>; 4] {
    [
        streams.stdin.as_ref(),
        streams.stdout.as_ref(),
        streams.stderr.as_ref(),
        streams.terminal.as_ref(),
    ]
}

fn carry_out(
    order: Order,
    container: &Running,
    names: (&str, &Path),
    known: &Known<'_>,
) -> (Outcome, Option<Launched>) {
    let done = |result: io::Result<()>| {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        (Outcome::Done(result.err().map(errno)), None)
    };
    match order {
        Order::Exec(exec) => match exec_within(*exec, container, names, known) {
            Ok(launched) => {
                let outcome = Outcome::Started {
                    pid: launched.pid.as_raw_nonzero().get(),
                    streams: ends(&launched.streams).map(|end| end.is_some()),
                };
                (outcome, Some(launched))
            }
            Err((failure, dead)) => {
                let dead = dead.map(|pid| pid.as_raw_nonzero().get());
                (Outcome::NotStarted { failure, dead }, None)
            }
        },
        Order::SignalAll(number) => done(
            match (&container.cgroup, wharf_sys::signal::by_number(number)) {
                (Some(cgroup), Some(signal)) => cgroup.signal_all(signal),
                _ => Err(Errno::INVAL.into()),
            },
        ),
        Order::Remove => done(match &container.cgroup {
            Some(cgroup) => cgroup.remove(),
            None => Ok(()),
        }),
    }
}

fn exec_within(
    mut exec: ExecStart,
    container: &Running,
    names: (&str, &Path),
    known: &Known<'_>,
) -> Result<Launched, (Failure, Option<Pid>)> {
    if !known.allow(&exec) {
        exec = authorised(&exec.exec_id, names.1).map_err(|failure| (failure, None))?;
    }
    launch::executed(container, exec, names, Parent::Ours)
}

/// The daemon's own order.
fn authorised(exec_id: &str, run_dir: &Path) -> Result<ExecStart, Failure> {
    let refused = |why: String| Failure::new(FailureKind::System, why);
    let path: PathBuf = files::exec_order(run_dir, exec_id)
        .ok_or_else(|| refused(format!("{exec_id:?} is no exec's id")))?;
    let exec: Option<ExecStart> = files::read(&path)
        .map_err(|error| refused(format!("cannot read {}: {error}", path.display())))?;
    exec.filter(|exec| exec.exec_id == exec_id).ok_or_else(|| {
        refused(
            "an exec with more privileges than its container was not ordered by the daemon".into(),
        )
    })
}

#[cfg(test)]
mod tests {
    use wharf_oci::runtime::Capabilities;

    use super::*;

    fn process(capabilities: &[&str]) -> OciProcess {
        let names: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
        OciProcess {
            capabilities: Some(Capabilities {
                bounding: names.clone(),
                effective: names,
                ..Capabilities::default()
            }),
            apparmor_profile: Some("docker-default".into()),
            ..OciProcess::default()
        }
    }

    fn exec(process: OciProcess, filter: Option<&str>) -> ExecStart {
        ExecStart {
            exec_id: "e".repeat(64),
            process,
            user: None,
            group_add: Vec::new(),
            seccomp_bpf: filter.map(str::to_owned),
            open_stdin: false,
            attach: None,
        }
    }

    #[test]
    fn execs_get_what_their_container_has() {
        let of = process(&["CAP_KILL", "CAP_CHOWN"]);
        let filtered = Limits::of(Some(&of), Some("filter"));
        let known = Known::new(&filtered);
        assert!(known.allow(&exec(of.clone(), Some("filter"))));
        assert!(known.allow(&exec(process(&["CAP_KILL"]), Some("filter"))));
        assert!(known.allow(&exec(process(&[]), Some("filter"))));
        assert!(!known.allow(&exec(process(&["CAP_SYS_ADMIN"]), Some("filter"))));
        assert!(!known.allow(&exec(of.clone(), None)));
        assert!(!known.allow(&exec(of.clone(), Some("other"))));
        let mut unconfined = of.clone();
        unconfined.apparmor_profile = None;
        assert!(!known.allow(&exec(unconfined, Some("filter"))));
        let unfiltered = Limits::of(Some(&of), None);
        assert!(Known::new(&unfiltered).allow(&exec(of, Some("filter"))));
    }

    #[test]
    fn more_needs_the_daemons_word() {
        let run_dir = tempfile::tempdir().unwrap();
        let id = "e".repeat(64);
        assert!(authorised(&id, run_dir.path()).is_err());
        assert!(authorised("../e", run_dir.path()).is_err());
        let path = files::exec_order(run_dir.path(), &id).unwrap();
        let order = exec(process(&["CAP_SYS_ADMIN"]), None);
        files::write_atomically(&path, &order, false).unwrap();
        assert_eq!(
            authorised(&id, run_dir.path()).unwrap().process,
            order.process
        );
    }
}
