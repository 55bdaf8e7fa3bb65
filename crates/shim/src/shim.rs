//! The loop: requests from the daemon, output from processes, and the container's life from its
//! start to its exit record.
//!
//! ```text
//! waiting ──Start──▶ running ──first process ends──▶ draining ──outputs closed──▶ recorded
//!    │ daemon gone       │ daemon gone: goes on                                       │
//!    ▼                   ▼                                                            ▼
//!   exit             listens for the next one                    clients flushed, exit
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use wharf_container_runtime::{NamespaceFd, Running};
use wharf_logs::timestamp::now_ns;
use wharf_logs::{LogTarget, LogWriter};
use wharf_oci::runtime::NamespaceKind;
use wharf_shim_protocol::message::ExecState;
use wharf_shim_protocol::{
    AttachMode, Event, ExecStart, ExitRecord, Failure, FailureKind, Message, Reply, Request,
    RequestFrame, ShimRecord, ShimState, Start, StartFd, Target, VERSION, files,
};

use crate::control::Control;
use crate::launch;
use crate::process::{Left, Part, Process};

/// How long buffers are kept when nothing flows any more.
const BUFFERS_KEPT: Duration = Duration::from_millis(100);

/// How long output is waited for that processes outliving the container's first may still write.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Ended execs a daemon can still ask about.
const ENDED_EXECS_KEPT: usize = 64;

/// Held descriptors: a few sockets per container.
const HELD_MAX: usize = 64;

/// A container and everything around it.
#[derive(Debug)]
pub(crate) struct Shim {
    controls: Vec<Control>,
    next_control: u64,
    container: Option<Container>,
    held: Vec<(String, OwnedFd)>,
    /// For output on its way; empty when nothing flows.
    buffer: Vec<u8>,
}

/// The container, once it is started.
#[derive(Debug)]
struct Container {
    id: String,
    run_dir: PathBuf,
    exit_path: PathBuf,
    durable_exit: bool,
    /// Its processes are not all gone when the first one is.
    shares_pids: bool,
    started_at_ns: i64,
    listener: Option<UnixListener>,
    running: Running,
    log: LogWriter,
    main: Process,
    execs: Vec<(u32, Process)>,
    next_exec: u32,
    ended_execs: Vec<ExecState>,
    oom: Option<OwnedFd>,
    oom_kills: u64,
    exit: Option<ExitRecord>,
    /// What can wait until the daemon has its answer is done.
    settled: bool,
}

/// What a ready descriptor belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Control(u64),
    OutOfMemory,
    Main(Part),
    Exec(u32, Part),
}

impl Shim {
    pub(crate) fn new(control: UnixStream) -> Self {
        let mut shim = Self {
            controls: Vec::new(),
            next_control: 0,
            container: None,
            held: Vec::new(),
            buffer: Vec::new(),
        };
        shim.add_control(control);
        shim
    }

    /// Serves until the container has ended and everybody has got what was left, or until the
    /// daemon goes before it has started one.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.is_finished() {
            let ready = self.wait()?;
            if ready.is_empty() {
                self.use_idle_time();
            }
            for (source, flags) in ready {
                self.serve(source, flags);
            }
            self.finish_what_ended();
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        match &self.container {
            None => self.controls.is_empty(),
            Some(container) => {
                container.exit.is_some()
                    && self.controls.iter().all(|control| !control.has_queued())
                    && container.main.attached() == 0
                    && container.execs.is_empty()
            }
        }
    }

    /// Waits until something is ready, or until there is something to do without.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut watched: Vec<(Source, PollFd<'_>)> = Vec::with_capacity(8);
        self.watch(|source, fd, flags| watched.push((source, PollFd::from_borrowed_fd(fd, flags))));
        let (sources, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = watched.into_iter().unzip();
        let timeout = self
            .timeout()
            .and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn watch<'a>(&'a self, mut add: impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        for control in &self.controls {
            add(
                Source::Control(control.id),
                control.fd(),
                control.interest(),
            );
        }
        if let Some(container) = &self.container {
            if let Some(listener) = &container.listener {
                add(Source::Listener, listener.as_fd(), PollFlags::IN);
            }
            if let Some(oom) = &container.oom {
                add(
                    Source::OutOfMemory,
                    oom.as_fd(),
                    PollFlags::IN | PollFlags::PRI,
                );
            }
            container
                .main
                .poll(|part, fd, flags| add(Source::Main(part), fd, flags));
            for (key, exec) in &container.execs {
                exec.poll(|part, fd, flags| add(Source::Exec(*key, part), fd, flags));
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let container = self.container.as_ref()?;
        let has_work = !container.settled || container.log.wants_to_compress();
        if has_work && container.exit.is_none() {
            return Some(Duration::ZERO);
        }
        let deadlines = [&container.main]
            .into_iter()
            .chain(container.execs.iter().map(|(_, exec)| exec));
        let drain = deadlines.filter_map(Process::drain_until).min();
        let drain = drain.map(|until| until.saturating_duration_since(Instant::now()));
        let buffers = (!self.buffer.is_empty()).then_some(BUFFERS_KEPT);
        drain.into_iter().chain(buffers).min()
    }

    fn use_idle_time(&mut self) {
        let Some(container) = &mut self.container else {
            return;
        };
        let is_running = container.exit.is_none();
        if is_running && !container.settled {
            container.settle();
        } else if is_running && container.log.wants_to_compress() {
            container.log.compress_some();
        } else if !self.buffer.is_empty() {
            self.buffer = Vec::new();
            container.log.relax();
            wharf_sys::malloc::trim();
        }
    }

    fn serve(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Control(id) => self.serve_control(id, flags),
            Source::OutOfMemory => {
                if self
                    .container
                    .as_mut()
                    .is_some_and(Container::was_oom_killed)
                {
                    self.tell(&Event::OomKilled);
                }
            }
            Source::Main(part) => {
                if let Some(container) = &mut self.container {
                    container
                        .main
                        .serve(part, flags, &mut self.buffer, Some(&mut container.log));
                }
            }
            Source::Exec(key, part) => {
                let execs = self
                    .container
                    .as_mut()
                    .map(|container| &mut container.execs);
                if let Some((_, exec)) =
                    execs.and_then(|execs| execs.iter_mut().find(|(known, _)| *known == key))
                {
                    exec.serve(part, flags, &mut self.buffer, None);
                }
            }
        }
    }

    // ---- the daemon's connections ----

    fn add_control(&mut self, socket: UnixStream) {
        if let Ok(control) = Control::new(self.next_control, socket) {
            self.next_control += 1;
            self.controls.push(control);
        }
    }

    fn accept(&mut self) {
        let Some(listener) = self
            .container
            .as_ref()
            .and_then(|container| container.listener.as_ref())
        else {
            return;
        };
        let Ok((socket, _)) = listener.accept() else {
            return;
        };
        // The socket's mode says the same; this holds where the directory is more open than ours.
        let trusted = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        if trusted {
            self.add_control(socket);
        }
    }

    fn serve_control(&mut self, id: u64, flags: PollFlags) {
        let Some(control) = self.controls.iter_mut().find(|control| control.id == id) else {
            return;
        };
        if flags.contains(PollFlags::OUT) && control.flush().is_err() {
            self.drop_control(id);
            return;
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let received = control.receive();
        loop {
            let Some(control) = self.controls.iter_mut().find(|control| control.id == id) else {
                return;
            };
            match control.next_request() {
                Ok(Some((frame, fds))) => self.answer(id, frame, fds),
                Ok(None) => break,
                Err(_) => {
                    self.drop_control(id);
                    return;
                }
            }
        }
        if received.is_err() {
            self.drop_control(id);
        }
    }

    fn drop_control(&mut self, id: u64) {
        self.controls.retain(|control| control.id != id);
    }

    fn answer(&mut self, control: u64, frame: RequestFrame, fds: Vec<OwnedFd>) {
        let (result, fds) = match self.handle(frame.op, fds) {
            Ok((reply, fds)) => (Ok(reply), fds),
            Err(failure) => (Err(failure), Vec::new()),
        };
        let message = Message::Reply {
            id: frame.id,
            fds: fds.len(),
            result,
        };
        let Some(control) = self.controls.iter_mut().find(|known| known.id == control) else {
            return;
        };
        if control.send(&message, fds).is_err() {
            let id = control.id;
            self.drop_control(id);
        }
    }

    fn tell(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        self.controls
            .retain_mut(|control| control.send(&message, Vec::new()).is_ok());
    }

    // ---- requests ----

    fn handle(
        &mut self,
        request: Request,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let done = |()| (Reply::Done, Vec::new());
        match request {
            Request::Start(start) => self.start(*start, fds).map(|reply| (reply, Vec::new())),
            Request::Exec(exec) => self
                .container()?
                .exec(*exec, fds.pop())
                .map(|reply| (reply, Vec::new())),
            Request::Attach { target, mode } => {
                let socket = fds.pop().ok_or_else(|| missing_fd("attach"))?;
                self.container()?.process(&target)?.attach(socket, mode);
                Ok(done(()))
            }
            Request::Signal {
                target,
                signal,
                all,
            } => self.container()?.signal(&target, signal, all).map(done),
            Request::Resize {
                target,
                width,
                height,
            } => {
                let process = self.container()?.process(&target)?;
                let terminal = process.terminal().ok_or_else(|| {
                    Failure::new(FailureKind::InvalidParameter, "the process has no terminal")
                })?;
                wharf_sys::terminal::resize(terminal, width, height).map_err(|errno| {
                    Failure::new(
                        FailureKind::System,
                        format!("cannot resize terminal: {errno}"),
                    )
                })?;
                Ok(done(()))
            }
            Request::CloseStdin { target } => {
                self.container()?.process(&target)?.close_stdin();
                Ok(done(()))
            }
            Request::State => Ok((Reply::State(Box::new(self.state())), Vec::new())),
            Request::HeldFds => {
                let names = self.held.iter().map(|(name, _)| name.clone()).collect();
                let copies: io::Result<Vec<OwnedFd>> =
                    self.held.iter().map(|(_, fd)| fd.try_clone()).collect();
                let copies = copies.map_err(|error| {
                    Failure::new(
                        FailureKind::System,
                        format!("cannot duplicate held descriptors: {error}"),
                    )
                })?;
                Ok((Reply::Held { names }, copies))
            }
            Request::Hold { name } => {
                let fd = fds.pop().ok_or_else(|| missing_fd("hold"))?;
                self.hold(name, fd)?;
                Ok(done(()))
            }
        }
    }

    fn container(&mut self) -> Result<&mut Container, Failure> {
        self.container
            .as_mut()
            .filter(|container| container.exit.is_none())
            .ok_or_else(|| Failure::new(FailureKind::NotRunning, "the container is not running"))
    }

    fn hold(&mut self, name: String, fd: OwnedFd) -> Result<(), Failure> {
        self.held.retain(|(known, _)| *known != name);
        if self.held.len() >= HELD_MAX {
            return Err(Failure::new(
                FailureKind::InvalidParameter,
                "too many held descriptors",
            ));
        }
        self.held.push((name, fd));
        Ok(())
    }

    fn start(&mut self, mut start: Start, fds: Vec<OwnedFd>) -> Result<Reply, Failure> {
        if self.container.is_some() {
            return Err(Failure::new(
                FailureKind::Conflict,
                "this shim has started its container already",
            ));
        }
        if fds.len() != start.fds.len() {
            return Err(missing_fd("start"));
        }
        let mut namespaces = Vec::new();
        let mut clients = Vec::new();
        for (role, fd) in std::mem::take(&mut start.fds).into_iter().zip(fds) {
            match role {
                StartFd::Namespace(kind) => namespaces.push(NamespaceFd { kind, fd }),
                StartFd::Attach(mode) => clients.push((fd, mode)),
                StartFd::Held(name) => self.hold(name, fd)?,
            }
        }
        let exit_path = start.exit_path.clone();
        let durable = start.durable_exit;
        match Container::start(start, namespaces, clients) {
            Ok(container) => {
                let reply = Reply::Started {
                    pid: container.main.pid.as_raw_nonzero().get(),
                    started_at_ns: container.started_at_ns,
                };
                self.container = Some(container);
                Ok(reply)
            }
            Err(failure) => {
                // For a daemon that died while we tried.
                let now = now_ns();
                let record = ExitRecord {
                    exit_code: failure.exit_code,
                    signal: None,
                    oom_killed: false,
                    pid: 0,
                    started_at_ns: 0,
                    finished_at_ns: now,
                    start_failure: Some(failure.clone()),
                };
                let _ = files::write_atomically(&exit_path, &record, durable);
                Err(failure)
            }
        }
    }

    fn state(&self) -> ShimState {
        let container = self.container.as_ref();
        let running = container
            .map_or(&[][..], |container| &container.execs)
            .iter()
            .map(|(_, exec)| ExecState {
                exec_id: exec_id(&exec.target),
                pid: exec.pid.as_raw_nonzero().get(),
                exit_code: exec.status.map(|status| status.code),
            });
        ShimState {
            version: VERSION,
            id: container
                .map(|container| container.id.clone())
                .unwrap_or_default(),
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: container.map(|container| container.main.pid.as_raw_nonzero().get()),
            started_at_ns: container.map_or(0, |container| container.started_at_ns),
            exit: container.and_then(|container| container.exit.clone()),
            execs: container
                .map_or(&[][..], |container| &container.ended_execs)
                .iter()
                .cloned()
                .chain(running)
                .collect(),
            attached: container.map_or(0, |container| {
                u32::try_from(container.main.attached()).unwrap_or(u32::MAX)
            }),
        }
    }

    // ---- ends ----

    /// Looks after processes that have ended: drains them, tells of them, lets them go.
    fn finish_what_ended(&mut self) {
        let Some(container) = &mut self.container else {
            return;
        };
        let mut events = Vec::new();
        for process in [&mut container.main]
            .into_iter()
            .chain(container.execs.iter_mut().map(|(_, exec)| exec))
        {
            for left in process.take_left() {
                let target = process.target.clone();
                events.push(match left {
                    Left::Detached(token) => Event::Detached { target, token },
                    Left::Gone(token) => Event::ClientGone { target, token },
                });
            }
        }
        for (_, exec) in &mut container.execs {
            let Some(status) = exec.status.filter(|_| !exec.is_over()) else {
                continue;
            };
            let drained = exec.drain(&mut self.buffer, None);
            // What its children write later is nobody's; a terminal delivers late what was written.
            let patience = if exec.has_terminal() {
                DRAIN_MAX
            } else {
                Duration::ZERO
            };
            if drained || exec.waited(patience) {
                exec.close_outputs();
                let ended = ExecState {
                    exec_id: exec_id(&exec.target),
                    pid: exec.pid.as_raw_nonzero().get(),
                    exit_code: Some(status.code),
                };
                events.push(Event::ExecExited {
                    exec_id: ended.exec_id.clone(),
                    exit_code: status.code,
                });
                container.ended_execs.push(ended);
            }
        }
        let surplus = container.ended_execs.len().saturating_sub(ENDED_EXECS_KEPT);
        container.ended_execs.drain(..surplus);
        let recorded = container.exit.is_none() && container.record_end(&mut self.buffer);
        if recorded && let Some(record) = &container.exit {
            if record.oom_killed && container.oom_kills == 0 {
                // The end came before the notification.
                events.push(Event::OomKilled);
            }
            events.push(Event::Exited(record.clone()));
        }
        for event in &events {
            self.tell(event);
        }
        // Clients are let go only now: who sees the end of the output finds the exit code.
        let Some(container) = &mut self.container else {
            return;
        };
        container
            .execs
            .retain_mut(|(_, exec)| !exec.is_over() || !exec.let_clients_go());
        if recorded {
            container.main.let_clients_go();
            container.clean_up();
            self.held.clear();
            self.controls.retain(Control::has_queued);
        }
        if container.exit.is_some() {
            self.controls.retain(Control::has_queued);
        }
    }
}

impl Container {
    fn start(
        mut start: Start,
        namespaces: Vec<NamespaceFd>,
        clients: Vec<(OwnedFd, AttachMode)>,
    ) -> Result<Self, Failure> {
        let system = |what: &str, error: &io::Error| {
            Failure::new(FailureKind::System, format!("{what}: {error}"))
        };
        // Before the container runs: a daemon that comes back must find us.
        let listener = files::listen(&start.run_dir)
            .map_err(|error| system("cannot listen for the daemon", &error))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| system("cannot listen for the daemon", &error))?;
        let log = open_log(&start.log)?;
        let shares_pids = !has_own_pids(&start, &namespaces);
        let started = launch::container(&mut start, namespaces);
        let (running, mut main) = match started {
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
            oom: None,
            oom_kills: 0,
            running,
            log,
            main,
            execs: Vec::new(),
            next_exec: 0,
            ended_execs: Vec::new(),
            exit: None,
            settled: false,
        })
    }

    /// Does what need not delay the start.
    fn settle(&mut self) {
        self.settled = true;
        self.oom = self
            .running
            .cgroup
            .as_ref()
            .and_then(|cgroup| cgroup.oom_notifier().ok());
        let record = ShimRecord {
            version: VERSION,
            id: self.id.clone(),
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: self.main.pid.as_raw_nonzero().get(),
            started_at_ns: self.started_at_ns,
        };
        // Only for a daemon that finds us dead; without it the cgroup still tells the processes.
        let _ = files::write_atomically(&files::record(&self.run_dir), &record, false);
        // The start message was large.
        wharf_sys::malloc::trim();
    }

    fn process(&mut self, target: &Target) -> Result<&mut Process, Failure> {
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

    fn exec(&mut self, exec: ExecStart, client: Option<OwnedFd>) -> Result<Reply, Failure> {
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
        let mut process = launch::exec(&self.running, exec)?;
        if let Some((socket, mode)) = client {
            process.attach(socket, mode);
        }
        if !attached {
            process.close_stdin();
        }
        let pid = process.pid.as_raw_nonzero().get();
        self.execs.push((self.next_exec, process));
        self.next_exec += 1;
        Ok(Reply::ExecStarted { pid })
    }

    fn signal(&mut self, target: &Target, number: i32, all: bool) -> Result<(), Failure> {
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
        if all && let Some(cgroup) = &self.running.cgroup {
            return cgroup.signal_all(signal).map_err(failed);
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

    /// Whether the kernel has killed a process for want of memory since we last looked.
    fn was_oom_killed(&mut self) -> bool {
        if let Some(oom) = &self.oom {
            // v1 counts in an eventfd; v2 has a file that needs no reading.
            let _ = rustix::io::read(oom, &mut [0_u8; 8]);
        }
        let kills = self
            .running
            .cgroup
            .as_ref()
            .and_then(|cgroup| cgroup.oom_kills().ok())
            .unwrap_or(0);
        let more = kills > self.oom_kills;
        self.oom_kills = kills;
        more
    }

    /// Once the first process has ended and its output is complete: writes the exit record.
    /// Returns whether that was now.
    fn record_end(&mut self, buffer: &mut Vec<u8>) -> bool {
        let Some(status) = self.main.status else {
            return false;
        };
        if self.shares_pids
            && self.main.drain_until().is_none()
            && let Some(cgroup) = &self.running.cgroup
        {
            // What the first process left behind would go on without a container.
            let _ = cgroup.signal_all(Signal::KILL);
        }
        let drained = self.main.drain(buffer, Some(&mut self.log));
        let execs_are_over = self.execs.iter().all(|(_, exec)| exec.is_over());
        let complete = drained && execs_are_over;
        if !complete && !self.main.waited(DRAIN_MAX) {
            return false;
        }
        let finished_at_ns = now_ns();
        let _ = self.log.finish(finished_at_ns);
        let oom_kills = self
            .running
            .cgroup
            .as_ref()
            .and_then(|cgroup| cgroup.oom_kills().ok())
            .unwrap_or(0);
        let record = ExitRecord {
            exit_code: status.code,
            signal: status.signal,
            oom_killed: oom_kills > 0,
            pid: self.main.pid.as_raw_nonzero().get(),
            started_at_ns: self.started_at_ns,
            finished_at_ns,
            start_failure: None,
        };
        // If it can not be written the daemon, if there is one, is told all the same.
        let _ = files::write_atomically(&self.exit_path, &record, self.durable_exit);
        self.main.close_outputs();
        self.exit = Some(record);
        true
    }

    /// Removes what only a running container needs.
    fn clean_up(&mut self) {
        self.listener = None;
        self.oom = None;
        let _ = std::fs::remove_file(files::socket(&self.run_dir));
        let _ = std::fs::remove_file(files::record(&self.run_dir));
        if let Some(cgroup) = self.running.cgroup.take() {
            let _ = cgroup.remove();
        }
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

fn exec_id(target: &Target) -> String {
    match target {
        Target::Exec(id) => id.clone(),
        Target::Main => String::new(),
    }
}

fn missing_fd(request: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidParameter,
        format!("the {request} request needs its descriptors"),
    )
}
