//! The process that keeps a user's namespaces and their network.
//!
//! It is started by a daemon that finds none and lives outside of everything it keeps: as the user,
//! in the host's namespaces. Its one thread waits for
//!
//! - a daemon at its socket, which gets the namespaces and an end of the *lifeline* (`lifeline.rs`);
//! - the end of the lifeline: neither daemon nor container is left, so it ends, and with it the
//!   namespaces and the program that connects them;
//! - the end of that program, which is started again, and of the process in the namespaces.
//!
//! When it is killed itself, its daemon ends; the next one's keeper goes on with the namespaces that
//! containers are still in.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, waitpid};

use crate::sandbox::{self, Sandbox};
use crate::uplink::Uplink;
use crate::{Result, RootlessError, cgroup, lifeline};

/// The word that makes this program the keeper; for ourselves only.
pub const COMMAND: &str = "rootless-keeper";

/// The descriptor on which the daemon that starts it waits for its report: in place of an input.
pub(crate) const REPORT_FD: i32 = 0;
/// First byte of the report.
pub(crate) const REPORT_READY: u8 = b'+';

/// A network program that ends sooner than this, or does not start, is started again after a pause.
const UPLINK_LIFE_MIN: Duration = Duration::from_secs(10);
/// The first such pause; each is twice the one before.
const UPLINK_PAUSE: Duration = Duration::from_millis(100);
const UPLINK_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Its socket in the exec root.
pub(crate) fn socket(exec_root: &Path) -> PathBuf {
    exec_root.join("keeper.sock")
}

/// Held while a keeper is started or removes its socket.
pub(crate) fn start_lock(exec_root: &Path) -> PathBuf {
    exec_root.join("keeper.lock")
}

/// The program: `exec_root` is where the socket goes. `report` is an inherited pipe.
pub fn main(exec_root: &Path) -> ExitCode {
    let report = wharf_sys::fd::take_inherited(REPORT_FD).map(File::from);
    let Ok(mut report) = report else {
        return ExitCode::FAILURE;
    };
    let keeper = match Keeper::start(exec_root) {
        Ok(keeper) => keeper,
        Err(error) => {
            // Whoever waits reads it; if nobody does, nobody is to be told.
            drop(report.write_all(wharf_fault::chain(&error).as_bytes()));
            return ExitCode::FAILURE;
        }
    };
    if report.write_all(&[REPORT_READY]).is_err() {
        return ExitCode::FAILURE;
    }
    drop(report);
    match keeper.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

struct Keeper {
    exec_root: PathBuf,
    listener: UnixListener,
    sandbox: Sandbox,
    uplink: Option<Uplink>,
    uplink_since: Instant,
    /// The pause before the next attempt.
    uplink_pause: Duration,
    /// Why there is no uplink, or its name.
    network: String,
    /// Where containers' cgroups are, or why nowhere.
    cgroup: std::result::Result<String, String>,
    lifeline: OwnedFd,
    /// Our own copy of the other end, until the first daemon has one.
    unclaimed: Option<OwnedFd>,
    /// Those who came; they watch for our end, we for theirs.
    daemons: Vec<UnixStream>,
}

impl Keeper {
    fn start(exec_root: &Path) -> Result<Self> {
        Uplink::check()?;
        Uplink::end_leftover(exec_root)
            .map_err(|error| RootlessError::step("end the network program of before", error))?;
        // Before the first child, which will be where we are.
        let cgroup = cgroup::make();
        let sandbox = match Sandbox::find(exec_root) {
            Some(found) => found,
            None => Sandbox::make(exec_root)?,
        };
        let path = socket(exec_root);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RootlessError::step(
                    format!("remove {}", path.display()),
                    error,
                ));
            }
            _ => {}
        }
        let lifeline = lifeline::open(exec_root)
            .and_then(|end| Ok((end, lifeline::other_end(exec_root)?)))
            .map_err(|error| RootlessError::step("make a pipe", error))?;
        let (lifeline, other_end) = lifeline;
        let listener = UnixListener::bind(&path)
            .map_err(|error| RootlessError::step(format!("listen on {}", path.display()), error))?;
        let mut keeper = Self {
            exec_root: exec_root.to_owned(),
            listener,
            sandbox,
            uplink: None,
            uplink_since: Instant::now(),
            uplink_pause: UPLINK_PAUSE,
            network: String::new(),
            cgroup,
            lifeline,
            unclaimed: Some(other_end),
            daemons: Vec::new(),
        };
        keeper.connect();
        Ok(keeper)
    }

    /// Starts the network program. Without one, containers still have each other.
    fn connect(&mut self) {
        match Uplink::start(&self.sandbox, &self.exec_root) {
            Ok(uplink) => {
                self.network = format!("+{}", uplink.name);
                self.uplink = Some(uplink);
            }
            Err(error) => self.network = format!("-{}", wharf_fault::chain(&error)),
        }
        self.uplink_since = Instant::now();
    }

    /// When the network program is to be tried again, from now.
    fn next_attempt(&self) -> Option<Duration> {
        let pause = self.uplink.is_none().then_some(self.uplink_pause)?;
        Some(pause.saturating_sub(self.uplink_since.elapsed()))
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let mut watched = vec![
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.lifeline, PollFlags::IN),
                PollFd::new(&self.sandbox.pidfd, PollFlags::IN),
            ];
            // No event is waited for: an end is always told.
            let ends = self
                .daemons
                .iter()
                .map(|daemon| PollFd::new(daemon, PollFlags::empty()));
            watched.extend(ends);
            if let Some(uplink) = &self.uplink {
                watched.push(PollFd::new(&uplink.pidfd, PollFlags::IN));
            }
            let pause = self
                .next_attempt()
                .map(|pause| Timespec::try_from(pause).unwrap_or_default());
            match poll(&mut watched, pause.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let happened: Vec<bool> = watched
                .iter()
                .map(|watched| !watched.revents().is_empty())
                .collect();
            if happened[0] {
                // A daemon that went away again is no concern of ours.
                drop(self.welcome());
            } else if happened[2] {
                // Killed by somebody. We hold the namespaces, too.
                let killed = self.sandbox.pid;
                match self.sandbox.pin_again() {
                    Ok(sandbox) => self.sandbox = sandbox,
                    Err(error) => return Err(io::Error::other(error)),
                }
                let _ = waitpid(Some(killed), WaitOptions::empty());
            } else if let Some(gone) = happened[3..3 + self.daemons.len()]
                .iter()
                .position(|gone| *gone)
            {
                self.daemons.swap_remove(gone);
            } else if happened.get(3 + self.daemons.len()) == Some(&true) {
                if let Some(uplink) = self.uplink.take() {
                    uplink.reap();
                }
                "-the network program has ended".clone_into(&mut self.network);
                if self.uplink_since.elapsed() >= UPLINK_LIFE_MIN {
                    self.uplink_pause = Duration::ZERO;
                }
            } else if happened[1] {
                break;
            } else if self.next_attempt() == Some(Duration::ZERO) {
                self.uplink_pause = (self.uplink_pause * 2).clamp(UPLINK_PAUSE, UPLINK_PAUSE_MAX);
                self.connect();
            }
        }
        self.leave();
        Ok(())
    }

    fn welcome(&mut self) -> io::Result<()> {
        let (daemon, _) = self.listener.accept()?;
        // The directory is ours alone, and yet: only our own user gets in.
        let peer = rustix::net::sockopt::socket_peercred(&daemon)?;
        if peer.uid != rustix::process::getuid() {
            return Ok(());
        }
        if self.uplink.is_none() {
            self.connect();
        }
        let end = lifeline::other_end(&self.exec_root)?;
        let namespaces = &self.sandbox;
        let fds = [
            namespaces.user.as_fd(),
            namespaces.mount.as_fd(),
            namespaces.network.as_fd(),
            end.as_fd(),
        ];
        let cgroup = match &self.cgroup {
            Ok(path) => format!("+{path}"),
            Err(reason) => format!("-{reason}"),
        };
        let text = format!("{}\0{cgroup}", self.network);
        wharf_sys::scm::send(&daemon, text.as_bytes(), &fds)?;
        self.unclaimed = None;
        self.daemons.push(daemon);
        Ok(())
    }

    /// The end. Whoever connects from here on is refused and starts another keeper.
    fn leave(self) {
        let Self {
            exec_root,
            listener,
            uplink,
            ..
        } = self;
        drop(listener);
        if let Some(uplink) = uplink {
            uplink.end();
        }
        // Unless another is being started: then the socket is its.
        if let Ok(lock) = File::options().write(true).open(start_lock(&exec_root))
            && lock.try_lock().is_ok()
        {
            for file in [
                socket(&exec_root),
                start_lock(&exec_root),
                lifeline::path(&exec_root),
                sandbox::anchor(&exec_root),
            ]
            .into_iter()
            .chain(Uplink::files(&exec_root))
            {
                drop(std::fs::remove_file(file));
            }
            drop(std::fs::remove_dir(&exec_root));
        }
    }
}

/// The daemon's side of [`Keeper::welcome`].
pub(crate) struct Given {
    pub(crate) user: OwnedFd,
    pub(crate) mount: OwnedFd,
    pub(crate) network: OwnedFd,
    pub(crate) lifeline: OwnedFd,
    /// The network program's name, or why there is none.
    pub(crate) uplink: std::result::Result<String, String>,
    /// The cgroup for containers, or why there is none.
    pub(crate) cgroup: std::result::Result<String, String>,
}

/// Asks the keeper at `connection` for everything. `None` when it has just gone.
pub(crate) fn ask(connection: &UnixStream) -> io::Result<Option<Given>> {
    let mut buffer = [0; 4096];
    let (length, fds) = match wharf_sys::scm::receive(connection, &mut buffer) {
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    let Ok([user, mount, network, lifeline]) = <[OwnedFd; 4]>::try_from(fds) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&buffer[..length]);
    let one = |text: &str| match text.split_at_checked(1) {
        Some(("+", name)) => Ok(name.to_owned()),
        Some((_, reason)) => Err(reason.to_owned()),
        None => Err(String::new()),
    };
    let (uplink, cgroup) = text.split_once('\0').unwrap_or((&text, ""));
    Ok(Some(Given {
        user,
        mount,
        network,
        lifeline,
        uplink: one(uplink),
        cgroup: one(cgroup),
    }))
}
