//! A client that finds no daemon on the default socket starts one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::user;

/// Where the log of root's daemon goes: nobody's terminal is its own.
const LOG: &str = "/run/wharf.log";

/// Starts `wharf daemon` in a session of its own; returns when it serves clients.
///
/// Two clients that do this at once both succeed: the daemon that finds the socket taken ends, and
/// its client finds the other one.
pub(crate) fn start_daemon() -> io::Result<()> {
    let log_path = match user::directories().map_err(io::Error::other)? {
        None => PathBuf::from(LOG),
        Some(directories) => directories.log(),
    };
    let (mut ready, writer) = io::pipe()?;
    let log = File::options().create(true).append(true).open(&log_path)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["daemon", "--ready-fd=1"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(log);
    command.arg0("wharf").process_group(0);
    let mut child = command.spawn()?;
    // The command holds the pipe's other end too; only the daemon's copy must count.
    drop(command);
    let mut line = String::new();
    ready.read_to_string(&mut line)?;
    if line.trim_end() == "ready" {
        return Ok(());
    }
    let status = child.wait()?;
    Err(io::Error::other(match line.strip_prefix("failed: ") {
        Some(reason) => reason.trim_end().to_owned(),
        None => format!(
            "the daemon did not start ({status}); its log is {}",
            log_path.display()
        ),
    }))
}
