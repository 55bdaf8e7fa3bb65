//! Staying with a process: signals are passed on to it, a terminal's bytes both ways, and its exit
//! status becomes ours.
//!
//! One thread around `poll`, like the shim.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, pidfd_send_signal, wait};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use wharf_sys::signal::{self, SignalFd, SignalSet};

use crate::error::{Error, Result};
use crate::notify::Proxy;

/// Signals that are about this process and nobody else: faults, timers of its own.
const OWN: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
const PIPE: i32 = 13;
const CHILD: i32 = 17;
const WINDOW_CHANGED: i32 = 28;

/// Signals caught for a process that does not exist yet: none is lost from here on.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Starts catching them. To be called while there is one thread, before the process is made.
    pub(crate) fn catch() -> Result<Self> {
        let caught: Vec<i32> = (1..=64).filter(|signal| !OWN.contains(signal)).collect();
        let caught = SignalSet::of(&caught);
        signal::set_mask(caught)
            .and_then(|_| SignalFd::new(caught))
            .map(Self)
            .map_err(Error::system("signals"))
    }
}

/// Reaps what containers leave behind, in place of the system's first process.
pub(crate) fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(Error::system("subreaper"))
}

/// Stays with the child `pid` until it has ended: its exit status, 128 and more for a signal.
pub(crate) fn stay(
    signals: &Signals,
    pid: Pid,
    pidfd: &OwnedFd,
    master: Option<OwnedFd>,
    mut notify: Option<Proxy>,
) -> Result<u8> {
    let mut terminal = master.map(Terminal::take_over).transpose()?;
    loop {
        let (mut signal_ready, mut notify_ready, mut terminal_ready) = (false, false, [false; 3]);
        {
            let mut fds = vec![PollFd::new(&signals.0, PollFlags::IN)];
            if let Some(notify) = &notify {
                fds.push(PollFd::from_borrowed_fd(notify.as_fd(), PollFlags::IN));
            }
            let own = fds.len();
            let (stdin, interest);
            if let Some(terminal) = &terminal {
                interest = terminal.interest();
                fds.push(PollFd::new(&terminal.master, interest));
                if terminal.takes_input() {
                    stdin = io::stdin();
                    fds.push(PollFd::new(&stdin, PollFlags::IN));
                }
            }
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other.map_err(Error::system("poll"))?,
            };
            let ready = |index: usize| fds.get(index).map_or(PollFlags::empty(), PollFd::revents);
            signal_ready |= !ready(0).is_empty();
            notify_ready |= own == 2 && !ready(1).is_empty();
            let error = PollFlags::HUP | PollFlags::ERR;
            terminal_ready[0] |= ready(own).intersects(PollFlags::IN | error);
            terminal_ready[1] |= ready(own).intersects(PollFlags::OUT);
            terminal_ready[2] |= !ready(own + 1).is_empty();
        }
        if notify_ready
            && let Some(proxy) = &mut notify
            && proxy.pass_on(pid)?
        {
            notify = None;
        }
        if let Some(terminal) = &mut terminal {
            terminal.pump(terminal_ready)?;
        }
        if signal_ready && let Some(status) = take_signals(signals, pid, pidfd, terminal.as_ref())?
        {
            if let Some(terminal) = &mut terminal {
                terminal.drain();
            }
            return Ok(status);
        }
    }
}

/// Passes pending signals on; the exit status when the child has ended.
fn take_signals(
    signals: &Signals,
    pid: Pid,
    pidfd: &OwnedFd,
    terminal: Option<&Terminal>,
) -> Result<Option<u8>> {
    let mut ended = None;
    while let Some(received) = signals.0.read().map_err(Error::system("signals"))? {
        match received.signal {
            CHILD => ended = ended.or(reap(pid)?),
            PIPE => {}
            WINDOW_CHANGED => {
                if let Some(terminal) = terminal {
                    terminal.adopt_size();
                }
            }
            number => {
                if let Some(signal) = signal::by_number(number) {
                    // It may have ended just now.
                    let _ = pidfd_send_signal(pidfd, signal);
                }
            }
        }
    }
    Ok(ended)
}

/// Reaps all that have ended; the status of `pid` when it is among them.
fn reap(pid: Pid) -> Result<Option<u8>> {
    let mut status = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((ended, how))) if ended == pid => status = Some(exit_status(how)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(status),
            Err(errno) => return Err(Error::system("wait")(errno)),
        }
    }
}

fn exit_status(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

/// The most passed at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// A terminal of a container's, shown on ours.
struct Terminal {
    master: OwnedFd,
    /// Input the program has not taken yet.
    pending: Vec<u8>,
    input_ended: bool,
    output_ended: bool,
    /// How our own terminal was before.
    before: Option<Termios>,
}

impl Terminal {
    fn take_over(master: OwnedFd) -> Result<Self> {
        let failed = Error::system::<Errno>("terminal");
        rustix::io::ioctl_fionbio(&master, true).map_err(failed)?;
        let before = match tcgetattr(io::stdin()) {
            Ok(before) => {
                let mut raw = before.clone();
                raw.make_raw();
                tcsetattr(io::stdin(), OptionalActions::Now, &raw)
                    .map_err(Error::system("terminal"))?;
                Some(before)
            }
            // No terminal: bytes come from a pipe or a file.
            Err(_) => None,
        };
        let terminal = Self {
            master,
            pending: Vec::new(),
            input_ended: false,
            output_ended: false,
            before,
        };
        terminal.adopt_size();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of ours.
    fn adopt_size(&self) {
        if let Ok(size) = tcgetwinsize(io::stdin()) {
            // It may have been hung up.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        if !self.output_ended {
            interest |= PollFlags::IN;
        }
        if !self.pending.is_empty() {
            interest |= PollFlags::OUT;
        }
        interest
    }

    fn takes_input(&self) -> bool {
        self.pending.is_empty() && !self.input_ended
    }

    /// Moves what is ready: output, the way for input, input.
    fn pump(&mut self, [output, room, input]: [bool; 3]) -> Result<()> {
        if output && !self.output_ended {
            self.pass_output()?;
        }
        if input && self.takes_input() {
            let mut chunk = vec![0; CHUNK];
            match rustix::io::read(io::stdin(), &mut chunk) {
                Ok(0) => self.input_ended = true,
                Ok(count) => {
                    chunk.truncate(count);
                    self.pending = chunk;
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input_ended = true,
            }
        }
        if room || !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Nobody reads any more.
                Err(_) => {
                    self.pending.clear();
                    self.input_ended = true;
                }
            }
        }
        Ok(())
    }

    /// Passes one chunk of output on. Returns whether there was any.
    fn pass_output(&mut self) -> Result<bool> {
        use io::Write as _;
        let mut chunk = [0; CHUNK];
        match rustix::io::read(&self.master, &mut chunk) {
            Ok(0) => self.output_ended = true,
            Ok(count) => {
                let mut out = io::stdout();
                out.write_all(&chunk[..count])
                    .and_then(|()| out.flush())
                    .map_err(Error::system("standard output"))?;
                return Ok(true);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // How a terminal says that nobody has it open any more.
            Err(_) => self.output_ended = true,
        }
        Ok(false)
    }

    /// Passes on what was written before the end.
    fn drain(&mut self) {
        while !self.output_ended && self.pass_output().unwrap_or(false) {}
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing is left to do if our own terminal is gone.
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
        }
    }
}
