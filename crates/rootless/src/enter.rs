//! A daemon's way into its user's namespaces.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::keeper::{self, Given};
use crate::{Directories, Missing, Result, RootlessError, cgroup, subordinate};

/// What a daemon inside has to know and to hold.
#[derive(Debug)]
pub struct Inside {
    /// The network namespace of the bridges. The daemon's own is the host's.
    pub network: OwnedFd,
    /// To be held by the daemon and every shim: the namespaces stay as long as one does.
    pub lifeline: OwnedFd,
    /// Open as long as the keeper lives.
    pub keeper: OwnedFd,
    /// The program that connects containers to the outside, or why there is none.
    pub uplink: std::result::Result<String, String>,
    /// The cgroup below which the user may make more, or why there is none.
    pub cgroup_parent: std::result::Result<String, String>,
    /// The user's name on the host.
    pub user: String,
}

/// Joins the user's namespaces, making them where there are none yet. The process is their root
/// afterwards. It must have one thread only.
pub fn enter(directories: &Directories) -> Result<Inside> {
    let exec_root = directories.exec_root();
    let uid = rustix::process::getuid().as_raw();
    let account = subordinate::account(uid).ok_or(Missing::Account { uid })?;
    let (connection, given) = match find(&exec_root)? {
        Some(found) => found,
        None => start(&exec_root)?,
    };
    // As the user: in the namespaces we have other ids.
    let cgroup_parent = given
        .cgroup
        .and_then(|path| cgroup::join(&path).map(|()| path));
    let working_directory = std::env::current_dir();
    let join = |namespace: &OwnedFd, kind, name: &str| {
        move_into_link_name_space(namespace.as_fd(), Some(kind))
            .map_err(|errno| RootlessError::step(format!("join the {name} namespace"), errno))
    };
    join(&given.user, LinkNameSpaceType::User, "user")?;
    join(&given.mount, LinkNameSpaceType::Mount, "mount")?;
    // Joining leads to the root directory; what is relative stays so to where we were.
    if let Ok(folder) = working_directory {
        std::env::set_current_dir(&folder)
            .map_err(|error| RootlessError::step(format!("enter {}", folder.display()), error))?;
    }
    Ok(Inside {
        network: given.network,
        lifeline: given.lifeline,
        keeper: connection.into(),
        uplink: given.uplink,
        cgroup_parent,
        user: account.name,
    })
}

/// The keeper that is there, if it is there to stay.
fn find(exec_root: &Path) -> Result<Option<(UnixStream, Given)>> {
    let Ok(connection) = UnixStream::connect(keeper::socket(exec_root)) else {
        return Ok(None);
    };
    let given = keeper::ask(&connection)
        .map_err(|error| RootlessError::step("ask for the namespaces", error))?;
    Ok(given.map(|given| (connection, given)))
}

/// Starts a keeper, unless another daemon has done so while we waited for our turn.
fn start(exec_root: &Path) -> Result<(UnixStream, Given)> {
    let _turn = turn(exec_root)?;
    if let Some(found) = find(exec_root)? {
        return Ok(found);
    }
    let failed = |error| RootlessError::step("start the process that keeps the namespaces", error);
    let (mut report, report_in) = std::io::pipe().map_err(failed)?;
    // A service manager's sockets are for the daemon.
    wharf_sys::fd::close_on_exec_from(3).map_err(|errno| failed(errno.into()))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("wharf")
        .arg(keeper::COMMAND)
        .arg(exec_root)
        // Signals for the daemon's terminal are none of its business.
        .process_group(0)
        .stdin(report_in)
        .stdout(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the pipe's other end too; only the keeper's copy must count.
    drop(command);
    let gone = || "rootless: the process that keeps the namespaces has ended".to_owned();
    let mut text = vec![0];
    let first = report.read(&mut text).map_err(failed)?;
    text.truncate(first);
    // Its child in the namespaces has a copy of the pipe: the end of the report is no sign.
    if text == [keeper::REPORT_READY] {
        return find(exec_root)?.ok_or_else(|| RootlessError::Keeper(gone()));
    }
    report.read_to_end(&mut text).map_err(failed)?;
    child.wait().map_err(failed)?;
    Err(RootlessError::Keeper(if text.is_empty() {
        gone()
    } else {
        String::from_utf8_lossy(&text).into_owned()
    }))
}

/// Waits until nobody else starts a keeper or, as a keeper, tidies up.
fn turn(exec_root: &Path) -> Result<File> {
    let path = keeper::start_lock(exec_root);
    let failed = |error| RootlessError::step(format!("lock {}", path.display()), error);
    loop {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(exec_root)
            .map_err(|error| RootlessError::step(format!("make {}", exec_root.display()), error))?;
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = match opened {
            // A keeper has just removed the directory.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        lock.lock().map_err(failed)?;
        // A file that is gone by now locks nobody out.
        let same = |there: std::fs::Metadata| Ok(there.ino() == lock.metadata()?.ino());
        if std::fs::metadata(&path).and_then(same).unwrap_or(false) {
            return Ok(lock);
        }
    }
}
