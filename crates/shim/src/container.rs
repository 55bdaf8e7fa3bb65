//! A container's life from its start to its exit record: its first process, its execs, its log.
//!
//! ```text
//! running ──first process ends──▶ draining ──outputs closed, execs over──▶ recorded
//! ```
//!
//! The end of a process is told before its clients are let go, and the end of the container after
//! that of its execs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus};
use wharf_container_runtime::{Cgroup, NamespaceFd, Running};
use wharf_logs::timestamp::now_ns;
use wharf_logs::{LogTarget, LogWriter};
use wharf_oci::runtime::NamespaceKind;
use wharf_shim_protocol::message::ExecState;
use wharf_shim_protocol::{
    AttachMode, Event, ExecStart, ExitRecord, Failure, FailureKind, Reply, RequestedSignal,
    ShimRecord, SignalOrigin, Start, Target, VERSION, files,
};

use crate::cause;
use crate::external::External;
use crate::launch::{self, Ahead};
use crate::oom::Oom;
use crate::outside::{Limits, Outside};
use crate::process::{Left, Process};
use crate::{restore, ring};

/// How long output is waited for that processes outliving the container's first may still write.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Ended execs a daemon can still ask about.
const ENDED_EXECS_KEPT: usize = 64;

/// What runs the container's processes.
#[derive(Debug)]
enum Carrier {
    /// The runtime library, in this process.
    Library(Running),
    /// The program of another OCI runtime.
    Program(Box<External>),
}

impl Carrier {
    fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Self::Library(running) => running.cgroup.as_ref(),
            Self::Program(external) => external.cgroup.as_ref(),
        }
    }
}

/// The container, once it is started.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    run_dir: PathBuf,
    exit_path: PathBuf,
    durable_exit: bool,
    /// Its processes are not all gone when the first one is.
    shares_pids: bool,
    pub(crate) started_at_ns: i64,
    pub(crate) listener: Option<UnixListener>,
    carrier: Carrier,
    pub(crate) log: LogWriter,
    pub(crate) main: Process,
    pub(crate) execs: Vec<(u32, Process)>,
    next_exec: u32,
    ended_execs: Vec<ExecState>,
    oom: Oom,
    /// The program is a child of the built-in init.
    init: bool,
    /// The last signal passed on to the program.
    requested: Option<RequestedSignal>,
    pub(crate) exit: Option<ExitRecord>,
    /// What can wait until the daemon has its answer is done.
    pub(crate) settled: bool,
    /// When the ring is to be closed, and what that takes.
    ring: Option<(Instant, ring::Open)>,
    outside: Option<Outside>,
}

impl Container {
    pub(crate) fn start(
        mut start: Start,
        namespaces: Vec<NamespaceFd>,
        ahead: Ahead,
        clients: Vec<(OwnedFd, AttachMode)>,
    ) -> Result<Self, Failure> {
        let system = |what: &str, error: &io::Error| {
            Failure::new(FailureKind::System, format!("{what}: {error}"))
        };
        let log = open_log(&start.log)?;
        // Before the container runs: a daemon that comes back must find us.
        let listener = files::listen(&start.run_dir)
            .map_err(|error| system("cannot listen for the daemon", &error))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| system("cannot listen for the daemon", &error))?;
        let shares_pids = !has_own_pids(&start, &namespaces);
        let ring = to_close(&start);
        let started = if start.runtime.is_some() {
            External::start(&mut start, namespaces)
                .map(|(external, main)| (Carrier::Program(Box::new(external)), main))
        } else if let Some(from) = start.restore.take() {
            restore::restored(&mut start, namespaces, from)
                .map(|(running, main)| (Carrier::Library(running), main))
        } else {
            launch::container(&mut start, namespaces, ahead)
                .map(|(running, main)| (Carrier::Library(running), main))
        };
        let (carrier, mut main) = match started {
            Ok(started) => started,
            Err(failure) => {
                let _ = std::fs::remove_file(files::socket(&start.run_dir));
                return Err(failure);
            }
        };
        for (socket, mode) in clients {
            main.attach(socket, mode);
        }
        Ok(Self {
            id: start.id,
            run_dir: start.run_dir,
            exit_path: start.exit_path,
            durable_exit: start.durable_exit,
            shares_pids,
            started_at_ns: now_ns(),
            listener: Some(listener),
            oom: Oom::default(),
            carrier,
            init: start.init,
            requested: None,
            log,
            main,
            execs: Vec::new(),
            next_exec: 0,
            ended_execs: Vec::new(),
            exit: None,
            settled: false,
            ring: Some((Instant::now() + ring::CLOSED_AFTER, ring)),
            outside: None,
        })
    }

    /// Does what need not delay the start.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
        self.oom.watch(self.carrier.cgroup());
        let record = ShimRecord {
            version: VERSION,
            id: self.id.clone(),
            shim_pid: own_pid(),
            pid: self.main.number(),
            started_at_ns: self.started_at_ns,
        };
        // Only for a daemon that finds us dead; without it the cgroup still tells the processes.
        let _ = files::write_atomically(&files::record(&self.run_dir), &record, false);
        // The start message was large.
        wharf_sys::malloc::trim();
    }

    /// When the ring is to be closed.
    pub(crate) fn ring_due(&self) -> Option<Instant> {
        let (due, _) = self.ring.as_ref()?;
        self.exit.is_none().then_some(*due)
    }

    /// Closes it when its time has come.
    pub(crate) fn close_ring_when_due(&mut self) {
        if self.ring_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let Some((_, open)) = self.ring.take() else {
            return;
        };
        if let Carrier::Library(running) = &self.carrier {
            self.outside = ring::close(open, running, (&self.id, &self.run_dir));
        }
    }

    pub(crate) fn process(&mut self, target: &Target) -> Result<&mut Process, Failure> {
        match target {
            Target::Main => Ok(&mut self.main),
            Target::Exec(id) => {
                let exec = self
                    .execs
                    .iter_mut()
                    .find(|(_, exec)| exec.target == *target && exec.status.is_none());
                exec.map(|(_, exec)| exec).ok_or_else(|| {
                    Failure::new(FailureKind::NotRunning, format!("exec {id} is not running"))
                })
            }
        }
    }

    pub(crate) fn exec(
        &mut self,
        exec: ExecStart,
        client: Option<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let target = Target::Exec(exec.exec_id.clone());
        if self.execs.iter().any(|(_, known)| known.target == target) {
            return Err(Failure::new(
                FailureKind::Conflict,
                format!("exec {} is running already", exec.exec_id),
            ));
        }
        let client = match (exec.attach.clone(), client) {
            (Some(mode), Some(socket)) => Some((socket, mode)),
            (None, _) => None,
            (Some(_), None) => return Err(missing_fd("exec")),
        };
        let attached = client.is_some();
        let mut process = match (&self.carrier, &mut self.outside) {
            (_, Some(outside)) => outside.exec(exec)?,
            (Carrier::Library(running), None) => {
                launch::exec(running, exec, (&self.id, &self.run_dir))?
            }
            (Carrier::Program(external), None) => external.exec(exec)?,
        };
        if let Some((socket, mode)) = client {
            process.attach(socket, mode);
        }
        if !attached {
            process.close_stdin();
        }
        let pid = process.number();
        self.execs.push((self.next_exec, process));
        self.next_exec += 1;
        Ok(Reply::ExecStarted { pid })
    }

    pub(crate) fn signal(
        &mut self,
        target: &Target,
        number: i32,
        all: bool,
        origin: SignalOrigin,
    ) -> Result<(), Failure> {
        if *target == Target::Main {
            self.requested = Some(RequestedSignal {
                signal: number,
                origin,
                at_ns: now_ns(),
            });
        }
        let signal = wharf_sys::signal::by_number(number);
        let signal = signal.ok_or_else(|| {
            Failure::new(
                FailureKind::InvalidParameter,
                format!("invalid signal: {number}"),
            )
        })?;
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(errno) if errno == Errno::SRCH.raw_os_error() => {
                Failure::new(FailureKind::NotRunning, "the process is not running")
            }
            _ => Failure::new(
                FailureKind::System,
                format!("cannot signal process: {error}"),
            ),
        };
        if let Carrier::Program(external) = &self.carrier
            && *target == Target::Main
            && self.main.pidfd.is_some()
        {
            return external.signal(number, all);
        }
        if all && self.carrier.cgroup().is_some() {
            return self.signal_all(signal).map_err(failed);
        }
        let process = self.process(target)?;
        let Some(pidfd) = &process.pidfd else {
            return Err(Failure::new(
                FailureKind::NotRunning,
                "the process is not running",
            ));
        };
        rustix::process::pidfd_send_signal(pidfd, signal).map_err(|errno| failed(errno.into()))
    }

    /// Signals everything in the cgroup, if there is one.
    fn signal_all(&mut self, signal: Signal) -> io::Result<()> {
        match (&mut self.outside, self.carrier.cgroup()) {
            (Some(outside), _) => outside.signal_all(signal.as_raw()),
            (None, Some(cgroup)) => cgroup.signal_all(signal),
            (None, None) => Ok(()),
        }
    }

    /// Readable, or exceptional, when it may have run out of memory.
    pub(crate) fn oom_notifier(&self) -> Option<BorrowedFd<'_>> {
        self.oom.notifier()
    }

    /// Whether the kernel has killed a process for want of memory since we last looked.
    pub(crate) fn was_oom_killed(&mut self) -> bool {
        self.oom.notified(self.carrier.cgroup())
    }

    /// When to look for that without being told.
    pub(crate) fn oom_due(&self) -> Option<Instant> {
        self.oom.due()
    }

    /// The same, if it is time for it.
    pub(crate) fn was_oom_killed_when_due(&mut self) -> bool {
        self.oom.look_when_due(self.carrier.cgroup())
    }

    /// The program that runs it, for what only such containers need.
    pub(crate) fn external(&self) -> Result<&External, Failure> {
        match &self.carrier {
            Carrier::Program(external) => Ok(external),
            Carrier::Library(_) => Err(Failure::new(
                FailureKind::InvalidParameter,
                "the container is run by the built-in runtime",
            )),
        }
    }

    /// Readable when a child has ended that nobody has a descriptor of.
    pub(crate) fn children(&self) -> Option<BorrowedFd<'_>> {
        match &self.carrier {
            Carrier::Program(external) => Some(external.children()),
            Carrier::Library(_) => None,
        }
    }

    /// Collects children that have ended: our processes, and what others left to us.
    pub(crate) fn reap(&mut self) {
        let Carrier::Program(external) = &self.carrier else {
            return;
        };
        let ended = external.reap();
        self.book(ended);
    }

    fn book(&mut self, ended: Vec<(Pid, WaitStatus)>) {
        for (pid, status) in ended {
            let execs = self.execs.iter_mut().map(|(_, exec)| exec);
            let mut known = [&mut self.main].into_iter().chain(execs);
            known.any(|process| process.was_reaped(pid, status));
        }
    }

    /// What to tell of clients that left while their process runs.
    pub(crate) fn clients_that_left(&mut self) -> Vec<Event> {
        let execs = self.execs.iter_mut().map(|(_, exec)| exec);
        let mut events = Vec::new();
        for process in [&mut self.main].into_iter().chain(execs) {
            for left in process.take_left() {
                let target = process.target.clone();
                events.push(match left {
                    Left::Detached(token) => Event::Detached { target, token },
                    Left::Gone(token) => Event::ClientGone { target, token },
                });
            }
        }
        events
    }

    /// Drains execs that have ended and says so when they are complete.
    pub(crate) fn finish_execs(&mut self, buffer: &mut Vec<u8>, events: &mut Vec<Event>) {
        for (_, exec) in &mut self.execs {
            let Some(status) = exec.status.filter(|_| !exec.is_over()) else {
                continue;
            };
            let drained = exec.drain(buffer, None);
            // What its children write later is nobody's; a terminal delivers late what was written.
            let patience = if exec.has_terminal() {
                DRAIN_MAX
            } else {
                Duration::ZERO
            };
            if drained || exec.waited(patience) {
                exec.close_outputs();
                let state = exec_state(exec);
                events.push(Event::ExecExited {
                    exec_id: state.exec_id.clone(),
                    exit_code: status.code,
                });
                self.ended_execs.push(state);
            }
        }
        let surplus = self.ended_execs.len().saturating_sub(ENDED_EXECS_KEPT);
        self.ended_execs.drain(..surplus);
    }

    /// Once the first process has ended and its output is complete: writes the exit record and
    /// tells of it.
    pub(crate) fn finish_main(&mut self, buffer: &mut Vec<u8>, events: &mut Vec<Event>) {
        let Some(status) = self.main.status.filter(|_| self.exit.is_none()) else {
            return;
        };
        let killed = status.signal == Some(Signal::KILL.as_raw()) && self.requested.is_none();
        if self.oom.look_at_end(self.carrier.cgroup(), killed) {
            // The end came before the notification.
            events.push(Event::OomKilled);
        }
        if self.shares_pids && self.main.drain_until().is_none() {
            // What the first process left behind would go on without a container.
            let _ = self.signal_all(Signal::KILL);
        }
        let drained = self.main.drain(buffer, Some(&mut self.log));
        let complete = drained && self.execs.iter().all(|(_, exec)| exec.is_over());
        if !complete && !self.main.waited(DRAIN_MAX) {
            return;
        }
        let finished_at_ns = now_ns();
        let _ = self.log.finish(finished_at_ns);
        let record = ExitRecord {
            exit_code: status.code,
            signal: status.signal,
            oom_killed: self.oom.has_killed(),
            pid: self.main.number(),
            started_at_ns: self.started_at_ns,
            finished_at_ns,
            start_failure: None,
            cause: Box::new(cause::gather(
                self.main.number(),
                status,
                self.init,
                self.requested,
                self.carrier.cgroup(),
                &self.oom,
            )),
        };
        // If it can not be written the daemon, if there is one, is told all the same.
        let _ = files::write_atomically(&self.exit_path, &record, self.durable_exit);
        self.main.close_outputs();
        if let Carrier::Program(external) = &mut self.carrier {
            let ended = external.end();
            self.book(ended);
        }
        events.push(Event::Exited(record.clone()));
        self.exit = Some(record);
    }

    /// Lets go of clients whose process is over, as soon as they have got everything.
    pub(crate) fn let_clients_go(&mut self) {
        self.execs
            .retain_mut(|(_, exec)| !exec.is_over() || !exec.let_clients_go());
        if self.main.is_over() {
            self.main.let_clients_go();
        }
    }

    /// Execs that run, and those that ended lately.
    pub(crate) fn exec_states(&self) -> Vec<ExecState> {
        let running = self.execs.iter().filter(|(_, exec)| !exec.is_over());
        self.ended_execs
            .iter()
            .cloned()
            .chain(running.map(|(_, exec)| exec_state(exec)))
            .collect()
    }

    /// Removes what only a running container needs.
    pub(crate) fn clean_up(&mut self) {
        self.listener = None;
        self.oom.unwatch();
        let _ = std::fs::remove_file(files::socket(&self.run_dir));
        let _ = std::fs::remove_file(files::record(&self.run_dir));
        let cgroup = match &mut self.carrier {
            Carrier::Library(running) => {
                running.mounts = None;
                running.cgroup.take()
            }
            Carrier::Program(_) => None,
        };
        let _ = match (self.outside.take(), cgroup) {
            (Some(outside), _) => outside.finish(),
            (None, Some(cgroup)) => cgroup.remove(),
            (None, None) => Ok(()),
        };
    }
}

/// What closing the ring takes, of a start message that is still whole.
fn to_close(start: &Start) -> ring::Open {
    let parents = [start.exit_path.parent(), start.log.path.parent()];
    ring::Open {
        written: parents.into_iter().flatten().map(Path::to_owned).collect(),
        limits: Limits::of(start.spec.process.as_ref(), start.seccomp_bpf.as_deref()),
    }
}

fn open_log(target: &LogTarget) -> Result<LogWriter, Failure> {
    LogWriter::open(target).map_err(|error| {
        let path = target.path.display();
        Failure::new(
            FailureKind::System,
            format!("failed to initialize logging driver: open {path}: {error}"),
        )
    })
}

/// Whether every process of the container dies with its first.
fn has_own_pids(start: &Start, namespaces: &[NamespaceFd]) -> bool {
    let linux = start.spec.linux.as_ref();
    let made = linux.is_some_and(|linux| {
        linux
            .namespaces
            .iter()
            .any(|namespace| namespace.kind == NamespaceKind::Pid && namespace.path.is_none())
    });
    made && !namespaces
        .iter()
        .any(|namespace| namespace.kind == NamespaceKind::Pid)
}

fn exec_state(exec: &Process) -> ExecState {
    let exec_id = match &exec.target {
        Target::Exec(id) => id.clone(),
        Target::Main => String::new(),
    };
    ExecState {
        exec_id,
        pid: exec.number(),
        exit_code: exec.status.map(|status| status.code),
    }
}

pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

pub(crate) fn missing_fd(request: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidParameter,
        format!("the {request} request needs its descriptors"),
    )
}
