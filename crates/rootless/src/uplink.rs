//! The program that connects the network namespace to the host's network: `pasta`, else
//! `slirp4netns`. It runs on the host's side as the user, and ends with the keeper.

use std::ffi::{CString, OsString};
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitpid,
};
use wharf_sys::{clone, exec, fd, signal};

use crate::prerequisites::find_program;
use crate::sandbox::{Sandbox, namespace_file};
use crate::{Missing, Result, RootlessError};

/// One of the programs, at work.
#[derive(Debug)]
pub struct Uplink {
    /// Its name.
    pub name: &'static str,
    pid: Pid,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
}

/// Which program, and where it is.
#[derive(Debug, Clone)]
struct Program {
    name: &'static str,
    path: PathBuf,
}

impl Uplink {
    /// Checks that there is one, before anything is made.
    pub fn check() -> Result<()> {
        if programs().is_empty() {
            return Err(Missing::Uplink.into());
        }
        let device = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun");
        device.map(drop).map_err(|_| Missing::Tunnel.into())
    }

    /// Connects `sandbox`; returns when that is done. A host that is itself without network makes
    /// some versions of `pasta` give up, so the other program is tried then.
    pub fn start(sandbox: &Sandbox, folder: &Path) -> Result<Self> {
        let mut failures = Vec::new();
        for program in programs() {
            match program.start(sandbox, folder) {
                Ok(uplink) => return Ok(uplink),
                Err(error) => failures.push(error),
            }
        }
        Err(failures
            .into_iter()
            .next()
            .unwrap_or_else(|| Missing::Uplink.into()))
    }

    /// Ends the program of a keeper that was killed: joining a user namespace took its death signal
    /// away. Returns when it has gone.
    pub fn end_leftover(folder: &Path) -> std::io::Result<()> {
        let file = mark(folder);
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Ok(());
        };
        let pid = text
            .split_once(' ')
            .and_then(|(pid, _)| Pid::from_raw(pid.parse().ok()?));
        if let Some(pid) = pid
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
            // Only now: from here on the number cannot become another's.
            && mark_of(pid).is_ok_and(|mark| mark == text)
        {
            match pidfd_send_signal(&pidfd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
            wait_for_end(&pidfd)?;
        }
        std::fs::remove_file(&file)
    }

    /// What it leaves in `folder`.
    pub fn files(folder: &Path) -> [PathBuf; 2] {
        [fifo(folder), mark(folder)]
    }

    /// Takes the ended process off the list of children.
    pub fn reap(self) {
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }

    /// Ends it.
    pub fn end(self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.reap();
    }
}

fn programs() -> Vec<Program> {
    ["pasta", "slirp4netns"]
        .into_iter()
        .filter_map(|name| {
            let path = find_program(name)?;
            Some(Program { name, path })
        })
        .collect()
}

impl Program {
    fn start(&self, sandbox: &Sandbox, folder: &Path) -> Result<Uplink> {
        let failed =
            |error: std::io::Error| RootlessError::step(format!("start {}", self.name), error);
        // What it says is only of interest if it fails.
        let mut said = unnamed_file(folder).map_err(failed)?;
        let (ready, ready_in) = self.readiness(folder).map_err(failed)?;
        let arguments = self.arguments(sandbox, folder);
        let pid = {
            let said = said.try_clone().map_err(failed)?;
            let parent = rustix::process::getpid();
            let mark = mark(folder);
            clone::fork(|| {
                let marked =
                    mark_of(rustix::process::getpid()).and_then(|text| std::fs::write(&mark, text));
                match marked {
                    Ok(()) => become_program(&self.path, parent, &arguments, said, ready_in),
                    Err(_) => 126,
                }
            })
            .map_err(|errno| failed(errno.into()))?
        };
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        let uplink = Uplink {
            name: self.name,
            pid,
            pidfd,
        };
        if wait_until_ready(&ready, &uplink.pidfd).map_err(failed)? {
            return Ok(uplink);
        }
        uplink.end();
        let mut output = String::new();
        said.rewind()
            .and_then(|()| said.read_to_string(&mut output))
            .map_err(failed)?;
        Err(RootlessError::Program {
            program: self.name.to_owned(),
            output: output.trim().replace('\n', "; "),
        })
    }

    /// Where the word comes that the network is up: our end and, if it inherits one, the program's.
    ///
    /// pasta writes its process id to a file at that moment, and that file is a pipe; slirp4netns
    /// has a descriptor for it.
    fn readiness(&self, folder: &Path) -> std::io::Result<(OwnedFd, Option<OwnedFd>)> {
        if self.name == "slirp4netns" {
            let (reader, writer) = std::io::pipe()?;
            return Ok((reader.into(), Some(writer.into())));
        }
        let fifo = fifo(folder);
        match std::fs::remove_file(&fifo) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        use rustix::fs::{CWD, FileType, Mode, OFlags};
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        // Not blocking: nobody writes yet.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = rustix::fs::open(&fifo, flags, Mode::empty())?;
        Ok((reader, None))
    }

    fn arguments(&self, sandbox: &Sandbox, folder: &Path) -> Vec<OsString> {
        let pid = sandbox.pid.as_raw_nonzero().to_string();
        if self.name == "slirp4netns" {
            let mut words: Vec<OsString> = [
                "slirp4netns",
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
            ]
            .map(OsString::from)
            .to_vec();
            words.push(format!("--ready-fd={READY_FD}").into());
            words.extend([pid.into(), "tap0".into()]);
            return words;
        }
        let mut words: Vec<OsString> = ["pasta", "--quiet", "--foreground", "--config-net"]
            .map(OsString::from)
            .to_vec();
        // No port is forwarded by it, in neither direction, and the gateway's address does not
        // lead to the host's loopback services.
        words.extend(
            [
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
                "--no-map-gw",
            ]
            .map(OsString::from),
        );
        words.extend(["--pid".into(), fifo(folder).into_os_string()]);
        words.push("--userns".into());
        words.push(namespace_file(sandbox.pid, "user").into_os_string());
        words.push("--netns".into());
        words.push(namespace_file(sandbox.pid, "net").into_os_string());
        words
    }
}

/// The descriptor slirp4netns writes to.
const READY_FD: i32 = 3;

fn fifo(folder: &Path) -> PathBuf {
    folder.join("uplink.ready")
}

/// The file that says which process it is.
fn mark(folder: &Path) -> PathBuf {
    folder.join("uplink.pid")
}

/// A process as nobody else ever is: its number, and when it began (`proc_pid_stat(5)`, field 22).
fn mark_of(pid: Pid) -> std::io::Result<String> {
    let pid = pid.as_raw_nonzero();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let began = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_whitespace().nth(19))
        .ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(format!("{pid} {began}"))
}

fn unnamed_file(folder: &Path) -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::from_raw_mode(0o600))?.into())
}

/// The child: becomes the program, and dies with the keeper.
fn become_program(
    path: &Path,
    parent: Pid,
    arguments: &[OsString],
    said: std::fs::File,
    ready: Option<OwnedFd>,
) -> u8 {
    let placed = || -> rustix::io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Rust programs ignore SIGPIPE, and pasta takes that for a failure of its own.
        signal::reset_all()?;
        if rustix::process::getppid() != Some(parent) {
            return Err(rustix::io::Errno::SRCH);
        }
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        // Out of the way of the numbers to be filled.
        let said = rustix::io::fcntl_dupfd_cloexec(&said, 10)?;
        let ready = ready
            .map(|ready| rustix::io::fcntl_dupfd_cloexec(&ready, 10))
            .transpose()?;
        fd::close_on_exec_from(0)?;
        fd::place(rustix::io::fcntl_dupfd_cloexec(&null, 10)?, 0)?;
        fd::place(rustix::io::fcntl_dupfd_cloexec(&said, 10)?, 1)?;
        fd::place(said, 2)?;
        if let Some(ready) = ready {
            fd::place(ready, READY_FD)?;
        }
        Ok(())
    };
    if placed().is_err() {
        return 126;
    }
    let text = |word: &OsString| CString::new(word.clone().into_vec()).ok();
    let arguments: Option<Vec<CString>> = arguments.iter().map(text).collect();
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let mut variable = name.into_vec();
        variable.push(b'=');
        variable.extend(value.into_vec());
        CString::new(variable).ok()
    });
    let environment: Vec<CString> = environment.collect();
    if let (Ok(path), Some(arguments)) = (CString::new(path.as_os_str().as_bytes()), arguments) {
        let _ = exec::execve(&path, &arguments, &environment);
    }
    127
}

/// Waits for the word or the end of the program, whichever comes first.
fn wait_until_ready(ready: &OwnedFd, pidfd: &OwnedFd) -> std::io::Result<bool> {
    loop {
        let mut watched = [
            PollFd::new(ready, PollFlags::IN),
            PollFd::new(pidfd, PollFlags::IN),
        ];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if watched[0].revents().contains(PollFlags::IN) {
            return Ok(true);
        }
        if !watched[1].revents().is_empty() {
            return Ok(false);
        }
        // The pipe was closed without a word; the program's end is what is left to wait for.
        if watched[0].revents().contains(PollFlags::HUP) {
            wait_for_end(pidfd)?;
            return Ok(false);
        }
    }
}

fn wait_for_end(pidfd: &OwnedFd) -> std::io::Result<()> {
    let mut end = [PollFd::new(pidfd, PollFlags::IN)];
    loop {
        match poll(&mut end, None) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}
