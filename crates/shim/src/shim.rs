//! The loop: waits, serves the daemon's requests, passes on what is ready.
//!
//! ```text
//! waiting ──Start──▶ running ──▶ recorded ──Release, clients flushed──▶ exit
//!    │ daemon gone       │ daemon gone      │ daemon gone: as if released
//!    ▼                   ▼
//!   exit                goes on, listens for the next one
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use wharf_container_runtime::{DevAhead, NamespaceFd};
use wharf_logs::timestamp::now_ns;
use wharf_shim_protocol::{
    Event, ExitRecord, Failure, FailureKind, Message, Reply, Request, RequestFrame, ShimState,
    Start, StartFd, VERSION, files,
};

use crate::container::{Container, missing_fd, own_pid};
use crate::control::Control;
use crate::launch::Ahead;
use crate::process::{Part, Process};

/// How long buffers are kept when nothing flows any more.
const BUFFERS_KEPT: Duration = Duration::from_millis(100);

/// Held descriptors: a few sockets per container.
const HELD_MAX: usize = 64;

/// A container and everything around it.
#[derive(Debug)]
pub(crate) struct Shim {
    controls: Vec<Control>,
    next_control: u64,
    container: Option<Container>,
    held: Vec<(String, OwnedFd)>,
    /// The container's `/dev`, until there is a container.
    dev: Option<DevAhead>,
    /// What the container needed is removed.
    released: bool,
    /// For output on its way; empty when nothing flows.
    buffer: Vec<u8>,
}

/// What a ready descriptor belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Control(u64),
    OutOfMemory,
    Children,
    Main(Part),
    Exec(u32, Part),
}

impl Shim {
    pub(crate) fn new(control: UnixStream, dev: Option<DevAhead>) -> Self {
        let mut shim = Self {
            controls: Vec::new(),
            next_control: 0,
            container: None,
            held: Vec::new(),
            dev,
            released: false,
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
            let oom = self.container.as_mut();
            if oom.is_some_and(Container::was_oom_killed_when_due) {
                self.tell(&Event::OomKilled);
            }
            self.finish_what_ended();
            if let Some(container) = &mut self.container {
                container.close_ring_when_due();
            }
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        match &self.container {
            None => self.controls.is_empty(),
            Some(container) => {
                self.released
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
            if let Some(oom) = container.oom_notifier() {
                add(Source::OutOfMemory, oom, PollFlags::IN | PollFlags::PRI);
            }
            if let Some(children) = container.children() {
                add(Source::Children, children, PollFlags::IN);
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
        let drain = deadlines.filter_map(Process::drain_until);
        let drain = drain.chain(container.ring_due());
        let drain = drain.chain(container.oom_due()).min();
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
            Source::Children => {
                if let Some(container) = &mut self.container {
                    container.reap();
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
                origin,
            } => self
                .container()?
                .signal(&target, signal, all, origin)
                .map(done),
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
            Request::Pause => self.container()?.external()?.pause().map(done),
            Request::Resume => self.container()?.external()?.resume().map(done),
            Request::Update { resources } => {
                self.container()?.external()?.update(&resources).map(done)
            }
            Request::Checkpoint {
                images,
                work,
                leave_running,
            } => self
                .container()?
                .external()?
                .checkpoint(&images, &work, leave_running)
                .map(done),
            Request::Processes => {
                let pids = self.container()?.external()?.processes()?;
                Ok((Reply::Processes { pids }, Vec::new()))
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
            Request::Release => {
                let ended = self.container.as_ref().map(|it| it.exit.is_some());
                if ended != Some(true) {
                    return Err(Failure::new(
                        FailureKind::Conflict,
                        "the container has not ended",
                    ));
                }
                self.release();
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
        let mut root = None;
        for (role, fd) in std::mem::take(&mut start.fds).into_iter().zip(fds) {
            match role {
                StartFd::Namespace(kind) => namespaces.push(NamespaceFd { kind, fd }),
                StartFd::Attach(mode) => clients.push((fd, mode)),
                StartFd::Held(name) => self.hold(name, fd)?,
                StartFd::Root => root = Some(fd),
            }
        }
        let exit_path = start.exit_path.clone();
        let durable = start.durable_exit;
        let ahead = Ahead {
            root,
            dev: self.dev.take(),
        };
        match Container::start(start, namespaces, ahead, clients) {
            Ok(container) => {
                let reply = Reply::Started {
                    pid: container.main.number(),
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
                    cause: Box::default(),
                };
                let _ = files::write_atomically(&exit_path, &record, durable);
                Err(failure)
            }
        }
    }

    fn state(&self) -> ShimState {
        let container = self.container.as_ref();
        ShimState {
            version: VERSION,
            id: container.map_or_else(String::new, |container| container.id.clone()),
            shim_pid: own_pid(),
            pid: container.map(|container| container.main.number()),
            started_at_ns: container.map_or(0, |container| container.started_at_ns),
            exit: container.and_then(|container| container.exit.clone()),
            execs: container.map_or_else(Vec::new, Container::exec_states),
            attached: container.map_or(0, |container| container.main.attached()),
        }
    }

    // ---- ends ----

    /// Looks after processes that have ended: tells of them, then lets their clients go.
    fn finish_what_ended(&mut self) {
        let Some(container) = &mut self.container else {
            return;
        };
        let mut events = container.clients_that_left();
        container.finish_execs(&mut self.buffer, &mut events);
        container.finish_main(&mut self.buffer, &mut events);
        for event in &events {
            self.tell(event);
        }
        let Some(container) = &mut self.container else {
            return;
        };
        // Only now: who sees the end of the output finds the exit code.
        container.let_clients_go();
        if container.exit.is_some() && self.controls.is_empty() {
            self.release();
        }
        if self.released {
            self.controls.retain(Control::has_queued);
        }
    }

    /// Removes what the container needed while it ran.
    fn release(&mut self) {
        if let Some(container) = &mut self.container
            && !self.released
        {
            container.clean_up();
            self.held.clear();
            self.released = true;
        }
    }
}
