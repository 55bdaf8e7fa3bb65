//! A process's standard streams, and who is connected to them.
//!
//! ```text
//!   clients ──▶ input queue ──▶ pipe or terminal ──▶ process
//!   process ──▶ pipes or terminal ──▶ log, then every client
//! ```
//!
//! Input is taken from clients only while the queue is short; output is taken from the process
//! only while no client's queue is long. So nobody makes us buffer without bound, and what is
//! logged is all there is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitStatus, waitid};
use wharf_logs::{LogWriter, Stream};
use wharf_shim_protocol::{AttachMode, Target};

use crate::client::{Client, Heard};

/// Bytes read from a process at once.
const READ_SIZE: usize = 128 * 1024;
/// The same as long as little comes.
const READ_SIZE_FIRST: usize = 4096;

/// Input that may wait for the process; a client that sends more has to wait, too.
const INPUT_MAX: usize = 64 * 1024;

/// Our ends of a process's standard streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Writes to its standard input; `None` if it has none, or not for clients.
    pub(crate) stdin: Option<OwnedFd>,
    /// Its standard output, or its terminal's.
    pub(crate) stdout: Option<OwnedFd>,
    /// Its standard error.
    pub(crate) stderr: Option<OwnedFd>,
    /// Its terminal, to set the size.
    pub(crate) terminal: Option<OwnedFd>,
}

/// A process the shim looks after.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) target: Target,
    pid: Pid,
    /// Until it has ended.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) status: Option<Status>,
    streams: Streams,
    input: Vec<u8>,
    /// Close the standard input when the queue is empty.
    input_ends: bool,
    /// The end of a client's input is the end of the process's.
    stdin_once: bool,
    clients: Vec<(u64, Client)>,
    next_client: u64,
    /// Clients that have gone since the daemon was last told.
    left: Vec<Left>,
    /// It has ended and its output is complete.
    over: bool,
    /// After this, output that someone else may still write is not waited for.
    drain_until: Option<Instant>,
}

/// A client that has gone while its process runs, by its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// With the detach keys.
    Detached(u64),
    /// In any other way.
    Gone(u64),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// 128 + n after signal n.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
}

impl Process {
    pub(crate) fn new(
        target: Target,
        pid: Pid,
        pidfd: OwnedFd,
        streams: Streams,
        stdin_once: bool,
    ) -> Self {
        Self {
            target,
            pid,
            pidfd: Some(pidfd),
            status: None,
            streams,
            input: Vec::new(),
            input_ends: false,
            stdin_once,
            clients: Vec::new(),
            next_client: 0,
            left: Vec::new(),
            over: false,
            drain_until: None,
        }
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.streams.terminal.is_some()
    }

    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.streams.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Connects a client; it gets what comes from now on.
    pub(crate) fn attach(&mut self, socket: OwnedFd, mode: AttachMode) {
        let mut client = Client::new(socket, mode, self.has_terminal());
        if self.over {
            client.end();
        }
        self.clients.push((self.next_client, client));
        self.next_client += 1;
    }

    /// How many clients are connected.
    pub(crate) fn attached(&self) -> u32 {
        u32::try_from(self.clients.len()).unwrap_or(u32::MAX)
    }

    /// Its process id on the host.
    pub(crate) fn number(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// What to wait for on this process's behalf.
    pub(crate) fn poll<'a>(&'a self, mut add: impl FnMut(Part, BorrowedFd<'a>, PollFlags)) {
        if let Some(pidfd) = &self.pidfd {
            add(Part::End, pidfd.as_fd(), PollFlags::IN);
        }
        if let Some(stdin) = &self.streams.stdin
            && !self.input.is_empty()
        {
            add(Part::Input, stdin.as_fd(), PollFlags::OUT);
        }
        if !self.clients.iter().any(|(_, client)| client.is_slow()) {
            for (stream, fd) in [
                (Stream::Stdout, &self.streams.stdout),
                (Stream::Stderr, &self.streams.stderr),
            ] {
                if let Some(fd) = fd {
                    add(Part::Output(stream), fd.as_fd(), PollFlags::IN);
                }
            }
        }
        let takes_input = self.takes_input();
        let input_is_full = self.streams.stdin.is_some() && !self.input_ends && !takes_input;
        for (id, client) in &self.clients {
            if client.may_type() && input_is_full && !client.has_queued() {
                // It may have gone, but what it has sent before is still to be read.
                continue;
            }
            add(Part::Client(*id), client.fd(), client.interest(takes_input));
        }
    }

    fn takes_input(&self) -> bool {
        self.streams.stdin.is_some() && !self.input_ends && self.input.len() < INPUT_MAX
    }

    /// Collects the exit status, if it has ended.
    fn reap(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) | Err(Errno::INTR) => return,
            Ok(Some(status)) => status,
            Err(_) => {
                // Somebody else has reaped our child; that can not be, but must not hang us.
                return self.ended(Status {
                    code: 255,
                    signal: None,
                });
            }
        };
        let signal = status.terminating_signal();
        let code = status
            .exit_status()
            .unwrap_or_else(|| 128 + signal.unwrap_or(0));
        self.ended(Status { code, signal });
    }

    /// It was this child, and somebody has collected it.
    pub(crate) fn was_reaped(&mut self, pid: Pid, status: WaitStatus) -> bool {
        if self.pidfd.is_none() || pid != self.pid {
            return false;
        }
        let signal = status.terminating_signal();
        let code = status
            .exit_status()
            .unwrap_or_else(|| 128 + signal.unwrap_or(0));
        self.ended(Status { code, signal });
        true
    }

    fn ended(&mut self, status: Status) {
        self.status = Some(status);
        self.pidfd = None;
        self.streams.stdin = None;
        self.input = Vec::new();
    }

    /// Reads one output once: into the log and to the clients.
    fn read_output(
        &mut self,
        stream: Stream,
        buffer: &mut Vec<u8>,
        log: Option<&mut LogWriter>,
    ) -> Got {
        let slot = match stream {
            Stream::Stdout => &mut self.streams.stdout,
            Stream::Stderr => &mut self.streams.stderr,
        };
        let Some(fd) = slot else { return Got::End };
        if buffer.is_empty() {
            // Most programs say little: their end is not kept waiting for a large buffer's pages.
            buffer.resize(READ_SIZE_FIRST, 0);
        }
        let count = match rustix::io::read(&*fd, buffer.as_mut_slice()) {
            Ok(count) => count,
            Err(Errno::AGAIN) => return Got::NothingYet,
            Err(Errno::INTR) => return Got::Bytes,
            // A terminal says EIO when no process has it open any more.
            Err(_) => 0,
        };
        if count == 0 {
            *slot = None;
            return Got::End;
        }
        let filled = count == buffer.len();
        let bytes = &buffer[..count];
        if let Some(log) = log {
            // What can not be written is lost; the container must not stop for a full disk.
            let _ = log.write(stream, bytes, wharf_logs::timestamp::now_ns());
        }
        self.clients
            .retain_mut(|(_, client)| client.output(stream, bytes));
        if filled {
            buffer.resize(READ_SIZE, 0);
        }
        Got::Bytes
    }

    /// After the end: reads what is there, however slow the clients are. Returns whether nothing
    /// can follow.
    pub(crate) fn drain(&mut self, buffer: &mut Vec<u8>, mut log: Option<&mut LogWriter>) -> bool {
        /// More than any pipe holds; who still writes that much is somebody else.
        const READS_MAX: u32 = 256;
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..READS_MAX {
                if self.read_output(stream, buffer, log.as_deref_mut()) != Got::Bytes {
                    break;
                }
            }
        }
        self.is_drained()
    }

    fn is_drained(&self) -> bool {
        self.streams.stdout.is_none() && self.streams.stderr.is_none()
    }

    /// Whether nothing can follow the output read so far.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Says that no more output is waited for.
    pub(crate) fn close_outputs(&mut self) {
        self.streams = Streams::default();
        self.over = true;
        self.drain_until = None;
    }

    /// Whether output that somebody else may still write was waited for as long as `patience`.
    pub(crate) fn waited(&mut self, patience: Duration) -> bool {
        let now = Instant::now();
        *self.drain_until.get_or_insert(now + patience) <= now
    }

    /// Until when output is waited for after the end.
    pub(crate) fn drain_until(&self) -> Option<Instant> {
        self.drain_until
    }

    /// Lets clients go as soon as they have got what is queued. Returns whether all have.
    pub(crate) fn let_clients_go(&mut self) -> bool {
        self.clients.retain_mut(|(_, client)| !client.end());
        self.clients.is_empty()
    }

    /// Deals with one part of it that is ready.
    pub(crate) fn serve(
        &mut self,
        part: Part,
        ready: PollFlags,
        buffer: &mut Vec<u8>,
        log: Option<&mut LogWriter>,
    ) {
        match part {
            Part::End => self.reap(),
            Part::Input => self.write_input(),
            Part::Output(stream) => {
                self.read_output(stream, buffer, log);
            }
            Part::Client(id) => self.serve_client(id, ready),
        }
    }

    /// Clients that have gone since this was last asked.
    pub(crate) fn take_left(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.left)
    }

    /// Writes queued input to the process.
    fn write_input(&mut self) {
        let Some(stdin) = &self.streams.stdin else {
            self.input = Vec::new();
            return;
        };
        let mut written = 0;
        while written < self.input.len() {
            match rustix::io::write(stdin, &self.input[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    // It does not read any more.
                    self.streams.stdin = None;
                    self.input = Vec::new();
                    return;
                }
            }
        }
        self.input.drain(..written);
        if self.input.is_empty() {
            self.input = Vec::new();
            if self.input_ends {
                self.streams.stdin = None;
            }
        }
    }

    /// Closes the standard input, once what is queued is written.
    pub(crate) fn close_stdin(&mut self) {
        self.input_ends = true;
        self.write_input();
    }

    /// Deals with what a client sent or can take.
    fn serve_client(&mut self, id: u64, ready: PollFlags) {
        let Some(index) = self.clients.iter().position(|(known, _)| *known == id) else {
            return;
        };
        let client = &mut self.clients[index].1;
        if ready.contains(PollFlags::OUT) && !client.flush() {
            return self.forget(index);
        }
        if client.has_left() {
            return self.forget(index);
        }
        if client.is_done() {
            self.clients.swap_remove(index);
            return;
        }
        if !ready.contains(PollFlags::IN) {
            if ready.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                self.forget(index);
            }
            return;
        }
        match client.read(&mut self.input) {
            Heard::Input => {}
            Heard::Detached => {
                self.left.push(Left::Detached(client.token()));
                client.hang_up();
                self.clients.swap_remove(index);
            }
            Heard::End if self.stdin_once && self.streams.terminal.is_none() => {
                self.input_ends = true;
            }
            Heard::End => {
                // Docker: without StdinOnce the end of the input ends the whole attachment.
                client.leave();
                if client.has_left() {
                    self.forget(index);
                }
            }
            Heard::Gone => self.forget(index),
        }
        self.write_input();
    }

    /// Drops a client that leaves while the process goes on.
    fn forget(&mut self, index: usize) {
        let (_, client) = self.clients.swap_remove(index);
        client.hang_up();
        self.left.push(Left::Gone(client.token()));
        if client.may_type() && self.stdin_once && !self.has_terminal() {
            self.close_stdin();
        }
    }
}

/// What of a process is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It has ended.
    End,
    /// It takes input.
    Input,
    /// It has output.
    Output(Stream),
    /// One of its clients.
    Client(u64),
}

/// What reading an output brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    /// Something.
    Bytes,
    /// Nothing now.
    NothingYet,
    /// Nothing ever.
    End,
}

/// Makes our end of a stream non-blocking.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}
