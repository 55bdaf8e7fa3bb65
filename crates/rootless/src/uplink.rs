//! The program that connects the network namespace to the host's network: `pasta`, else
//! `slirp4netns`. It runs on the host's side as the user, and ends with the keeper.
//!
//! Distributions confine `pasta` with AppArmor. Debian 12's profile lets it look into no other process
//! and write to few places, so it is given no paths to either: it starts inside the user namespace,
//! and the network namespace and the pipe for its word are open when it does.

use std::ffi::{CString, OsString};
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitpid,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_sys::{clone, exec, fd, signal};

use crate::prerequisites::find_program;
use crate::sandbox::Sandbox;
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

    /// Connects `sandbox`; returns when that is done. When one program does not do it (some versions of
    /// `pasta` give up on a host that is itself without network), the other one is tried.
    pub fn start(sandbox: &Sandbox, folder: &Path) -> Result<Self> {
        let mut failures = Vec::new();
        for program in programs() {
            match program.start(sandbox, folder) {
                Ok(uplink) => return Ok(uplink),
                Err(error) => failures.push((program.name, error)),
            }
        }
        Err(why_none(&failures))
    }

    /// Ends the program of a keeper that was killed: those that join a user namespace themselves lose
    /// their death signal. Returns when it has gone.
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
    pub fn files(folder: &Path) -> [PathBuf; 1] {
        [mark(folder)]
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

/// The programs by name, the better one first, and the packages that have them.
const PROGRAMS: [(&str, &str); 2] = [(PASTA, "passt"), ("slirp4netns", "slirp4netns")];

fn programs() -> Vec<Program> {
    PROGRAMS
        .into_iter()
        .filter_map(|(name, _)| {
            let path = find_program(name)?;
            Some(Program { name, path })
        })
        .collect()
}

/// What to say when each program that is there has failed: why, and which other one there is.
fn why_none(failures: &[(&'static str, RootlessError)]) -> RootlessError {
    let reasons: Vec<String> = failures
        .iter()
        .map(|(_, error)| {
            let text = wharf_fault::chain(error);
            text.strip_prefix("rootless: ").unwrap_or(&text).to_owned()
        })
        .collect();
    let reason = reasons.join("; ");
    let untried = PROGRAMS
        .into_iter()
        .find(|(name, _)| failures.iter().all(|(failed, _)| failed != name));
    match untried {
        _ if failures.is_empty() => Missing::Uplink.into(),
        Some((_, package)) => Missing::OtherUplink { reason, package }.into(),
        None => RootlessError::NoUplink(reason),
    }
}

/// What of a failed program's words is the reason. Where there are others, it is not what `pasta` can do
/// without: one of the two protocols, a system log.
fn reason(output: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let aside = |line: &str| {
        let no_log = line.starts_with("Failed to send ") && line.ends_with(" to syslog");
        let one_protocol = line.starts_with("No external routable interface for IPv")
            || line.starts_with("No routable interface for IPv");
        no_log || one_protocol
    };
    let telling: Vec<&str> = lines.iter().copied().filter(|line| !aside(line)).collect();
    match (telling.is_empty(), lines.is_empty()) {
        (_, true) => "it ended without a word".to_owned(),
        (true, _) => lines.join("; "),
        (false, _) => telling.join("; "),
    }
}

impl Program {
    fn start(&self, sandbox: &Sandbox, folder: &Path) -> Result<Uplink> {
        let failed =
            |error: std::io::Error| RootlessError::step(format!("start {}", self.name), error);
        // What it says is only of interest if it fails.
        let mut said = unnamed_file(folder).map_err(failed)?;
        // The word that the network is up. The other end is open in the child only, so its end tells too.
        let (ready, ready_in) = std::io::pipe().map_err(failed)?;
        let ready = OwnedFd::from(ready);
        let pid = {
            let given = Given {
                sandbox,
                said: said.try_clone().map_err(failed)?.into(),
                ready: ready_in.into(),
            };
            let parent = rustix::process::getpid();
            let mark = mark(folder);
            clone::fork(|| {
                let marked =
                    mark_of(rustix::process::getpid()).and_then(|text| std::fs::write(&mark, text));
                match marked {
                    Ok(()) => self.become_it(parent, given),
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
            output: reason(&output),
        })
    }

    /// In the child: becomes the program, and dies with the keeper.
    fn become_it(&self, parent: Pid, given: Given<'_>) -> u8 {
        let arguments = self.arguments(given.sandbox);
        if self.prepare(parent, &given).is_err() {
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
        let path = CString::new(self.path.as_os_str().as_bytes());
        if let (Ok(path), Some(arguments)) = (path, arguments) {
            let _ = exec::execve(&path, &arguments, &environment);
        }
        127
    }

    /// `given` is only lent: one of its descriptors may have a number that is filled here.
    fn prepare(&self, parent: Pid, given: &Given<'_>) -> rustix::io::Result<()> {
        let Given {
            sandbox,
            said,
            ready,
        } = given;
        if self.name == PASTA {
            let user = sandbox.user.as_fd();
            move_into_link_name_space(user, Some(LinkNameSpaceType::User))?;
        }
        // Joining a user namespace takes the death signal back: only now.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Rust programs ignore SIGPIPE, and pasta takes that for a failure of its own.
        signal::reset_all()?;
        if rustix::process::getppid() != Some(parent) {
            return Err(rustix::io::Errno::SRCH);
        }
        // Out of the way of the numbers to be filled.
        let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 10);
        let (input, output) = if self.name == PASTA {
            (copy(sandbox.network.as_fd())?, copy(ready.as_fd())?)
        } else {
            use rustix::fs::{Mode, OFlags};
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
            (copy(null.as_fd())?, copy(said.as_fd())?)
        };
        let (said, ready) = (copy(said.as_fd())?, copy(ready.as_fd())?);
        fd::close_on_exec_from(0)?;
        fd::place(input, 0)?;
        fd::place(output, 1)?;
        fd::place(said, 2)?;
        if self.name != PASTA {
            fd::place(ready, READY_FD)?;
        }
        Ok(())
    }

    fn arguments(&self, sandbox: &Sandbox) -> Vec<OsString> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        if self.name == PASTA {
            return words(&PASTA_ARGUMENTS);
        }
        let ready = format!("--ready-fd={READY_FD}");
        let pid = sandbox.pid.as_raw_nonzero().to_string();
        words(&[
            "slirp4netns",
            "--configure",
            "--mtu=65520",
            "--disable-host-loopback",
            "--enable-sandbox",
            "--enable-seccomp",
            &ready,
            &pid,
            "tap0",
        ])
    }
}

/// What the child has of the keeper's.
struct Given<'a> {
    sandbox: &'a Sandbox,
    /// Where the program's words go.
    said: OwnedFd,
    /// Where the word goes that the network is up.
    ready: OwnedFd,
}

const PASTA: &str = "pasta";

/// Of the descriptors it is started with, newer versions keep the first three only: the network
/// namespace is its input and the pipe for its word, its process id, its output.
const PASTA_ARGUMENTS: [&str; 18] = [
    PASTA,
    "--quiet",
    "--foreground",
    "--config-net",
    // No port is forwarded by it, in neither direction, and the gateway's address does not lead to
    // the host's loopback services.
    "-t",
    "none",
    "-u",
    "none",
    "-T",
    "none",
    "-U",
    "none",
    "--no-map-gw",
    // The keeper ends it.
    "--no-netns-quit",
    "--pid",
    "/proc/self/fd/1",
    "--netns",
    "/proc/self/fd/0",
];

/// The descriptor slirp4netns writes to.
const READY_FD: i32 = 3;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(program: &'static str, output: &str) -> (&'static str, RootlessError) {
        let error = RootlessError::Program {
            program: program.to_owned(),
            output: reason(output),
        };
        (program, error)
    }

    #[test]
    fn a_failure_is_told_by_its_reason_and_the_other_program() {
        let pasta = failed(
            "pasta",
            "No external routable interface for IPv6\nFailed to send 66 bytes to syslog\n\
            Couldn't open user namespace /proc/7/ns/user: Permission denied\n",
        );
        let slirp = failed(
            "slirp4netns",
            "open(\"/dev/net/tun\"): denied\nchild failed(1)\n",
        );
        let both = [pasta, slirp];
        assert_eq!(
            why_none(&both[..1]).to_string(),
            "rootless: pasta failed: Couldn't open user namespace \
            /proc/7/ns/user: Permission denied; root installs another program for it with: \
            apt-get install slirp4netns"
        );
        let text = why_none(&both[1..]).to_string();
        assert!(text.ends_with("apt-get install passt"), "{text}");
        let text = why_none(&both).to_string();
        assert!(text.contains("pasta failed: Couldn't open"), "{text}");
        assert!(text.ends_with("denied; child failed(1)"), "{text}");
        assert!(matches!(
            why_none(&[]),
            RootlessError::Missing(Missing::Uplink)
        ));
    }

    #[test]
    fn words_that_are_no_reason_are_told_where_there_are_no_others() {
        let only = "No external routable interface for IPv4\n";
        assert_eq!(reason(only), only.trim());
        assert_eq!(reason("\n"), "it ended without a word");
    }
}
