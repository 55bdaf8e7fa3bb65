//! Readiness of a service (`sd_notify(3)`): the service manager started *us* and gave us a socket;
//! the container's program gets one of ours, and what it says there is passed on, together with
//! which process the service's main one is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;
use wharf_oci::runtime::{Mount, Spec};

use crate::error::{Error, Result};
use crate::store::Directory;

const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Where the container finds the socket.
const INSIDE: &str = "/run/notify";

/// The longest message, in bytes.
const MESSAGE_MAX: usize = 4096;

/// The service manager's socket, if there is one.
pub(crate) fn wanted() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|path| !path.is_empty())
}

/// Puts the socket into the document.
pub(crate) fn add_to(spec: &mut Spec, directory: &Directory) {
    let words = ["bind", "nosuid", "noexec", "nodev", "ro"];
    let source = directory.path().join(DIRECTORY);
    spec.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.to_string_lossy().into_owned()),
        options: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process
            .env
            .retain(|variable| !variable.starts_with("NOTIFY_SOCKET="));
        process.env.push(format!("{VARIABLE}={INSIDE}/{SOCKET}"));
    }
}

/// Makes the directory of the socket, to be mounted; the socket may come later.
pub(crate) fn make_directory(directory: &Directory) -> Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    mkdirat(directory, DIRECTORY, mode).map_err(Error::system("notify directory"))
}

/// Removes socket and directory, if there are any.
pub(crate) fn remove_socket(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let gone = |result| match result {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        other => other,
    };
    gone(unlinkat(
        directory,
        format!("{DIRECTORY}/{SOCKET}"),
        AtFlags::empty(),
    ))?;
    gone(unlinkat(directory, DIRECTORY, AtFlags::REMOVEDIR))
}

/// Our socket, and whom to tell.
#[derive(Debug)]
pub(crate) struct Proxy {
    socket: UnixDatagram,
    manager: UnixDatagram,
}

impl Proxy {
    /// Listens in `directory` for the service manager at `manager`.
    pub(crate) fn listen(directory: &Directory, manager: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        // By way of the descriptor: a socket's name has little room for a path.
        let name = format!(
            "/proc/self/fd/{}/{DIRECTORY}/{SOCKET}",
            fd_number(directory.as_fd())
        );
        let failed = || Error::file("notify socket", directory.path().join(DIRECTORY));
        let socket = UnixDatagram::bind(&name).map_err(failed())?;
        // The container's user may be anybody.
        std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o777)).map_err(failed())?;
        Ok(Self {
            socket,
            manager: connect(manager)?,
        })
    }

    /// Passes one message on if it says that the service is ready; then it is done.
    pub(crate) fn pass_on(&mut self, main: Pid) -> Result<bool> {
        let mut message = [0; MESSAGE_MAX];
        let count = match self.socket.recv(&mut message) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(false),
            other => other.map_err(Error::system("notify socket"))?,
        };
        let Some(ready) = message[..count]
            .split(|byte| *byte == b'\n')
            .find(|line| line.starts_with(b"READY="))
        else {
            return Ok(false);
        };
        let mut text = ready.to_vec();
        text.extend(format!("\nMAINPID={}\n", main.as_raw_nonzero()).bytes());
        self.manager
            .send(&text)
            .map_err(Error::system("notify the service manager"))?;
        self.wait_until_read()?;
        Ok(true)
    }

    /// The manager knows senders by their process, which must live until it has looked.
    fn wait_until_read(&self) -> Result<()> {
        let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(Error::system("pipe"))?;
        match wharf_sys::scm::send(&self.manager, b"BARRIER=1", &[ours.as_fd()]) {
            Ok(_) => {}
            // A manager that takes no descriptors has no barrier either.
            Err(_) => return Ok(()),
        }
        drop(ours);
        // It closes its copy when it has read everything before; older ones do at once.
        let patience = rustix::event::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&theirs, PollFlags::HUP)], Some(&patience))
            .map(drop)
            .map_err(Error::system("poll"))
    }

    /// Waits until the service is ready or has ended.
    pub(crate) fn wait(mut self, main: Pid, pidfd: &OwnedFd) -> Result<()> {
        loop {
            let ready = {
                let mut fds = [
                    PollFd::new(&self.socket, PollFlags::IN),
                    PollFd::new(pidfd, PollFlags::IN),
                ];
                match poll(&mut fds, None) {
                    Err(Errno::INTR) => continue,
                    other => other.map_err(Error::system("poll"))?,
                };
                !fds[0].revents().is_empty()
            };
            if !ready || self.pass_on(main)? {
                return Ok(());
            }
        }
    }
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn connect(manager: &str) -> Result<UnixDatagram> {
    use std::os::linux::net::SocketAddrExt as _;
    let failed = || Error::file("connect to notify socket", Path::new(manager));
    let socket = UnixDatagram::unbound().map_err(failed())?;
    match manager.strip_prefix('@') {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name)
            .and_then(|address| socket.connect_addr(&address)),
        None => socket.connect(manager),
    }
    .map_err(failed())?;
    Ok(socket)
}

fn fd_number(fd: BorrowedFd<'_>) -> i32 {
    use std::os::fd::AsRawFd as _;
    fd.as_raw_fd()
}

/// Whether the container has the directory of the socket mounted.
pub(crate) fn is_prepared(directory: &Directory) -> bool {
    rustix::fs::statat(directory, DIRECTORY, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
