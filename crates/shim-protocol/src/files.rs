//! What a shim leaves on disk.
//!
//! ```text
//! <exec-root>/containers/<id>/shim.sock   listening while the container runs, mode 0600
//! <exec-root>/containers/<id>/shim.json   ShimRecord, while the container runs
//! <exec-root>/containers/<id>/exec-<exec id>.json   ExecStart, written by the daemon (see exec_order)
//! <container dir>/exit.json               ExitRecord, once it has ended or failed to start
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cause::ExitCause;
use crate::message::Failure;

/// The listening socket in a shim's run directory.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("shim.sock")
}

/// The shim record in a shim's run directory.
pub fn record(run_dir: &Path) -> PathBuf {
    run_dir.join("shim.json")
}

/// Where the daemon puts an exec's order when the process is to have more privileges than its
/// container: a shim that has been taken over can send such an order, but not write there. `None`
/// if this is no id.
pub fn exec_order(run_dir: &Path, exec_id: &str) -> Option<PathBuf> {
    let is_id = !exec_id.is_empty() && exec_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then(|| run_dir.join(format!("exec-{exec_id}.json")))
}

/// Connects to the shim whose run directory this is.
pub fn connect(run_dir: &Path) -> io::Result<UnixStream> {
    let dir = fs::File::open(run_dir)?;
    UnixStream::connect(short_socket_path(&dir))
}

/// Listens in a run directory; connections are for whoever may open a socket of mode 0600 there.
pub fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    let dir = fs::File::open(run_dir)?;
    let path = socket(run_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(short_socket_path(&dir))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Whether somebody listens, or has listened, on the socket at `path`. Until it has its mode,
/// [`listen`] may be in the middle of making it.
pub fn is_ready(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o777 == 0o600)
}

/// Socket addresses are limited to 108 bytes, directories are not.
fn short_socket_path(dir: &fs::File) -> PathBuf {
    format!("/proc/self/fd/{}/shim.sock", dir.as_raw_fd()).into()
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit code as Docker shows it: 128 + n after signal n; 0 if it never ran.
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// The process id it had.
    pub pid: i32,
    /// When it started, in nanoseconds since the epoch; 0 if it never ran.
    pub started_at_ns: i64,
    /// When it ended, in nanoseconds since the epoch.
    pub finished_at_ns: i64,
    /// Why it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_failure: Option<Failure>,
    /// What else was seen of its end.
    #[serde(default)]
    pub cause: Box<ExitCause>,
}

/// Where a running container is to be found, for a daemon that can not reach its shim any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// [`crate::VERSION`] of the shim.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// The shim's process id.
    pub shim_pid: i32,
    /// The container's process id.
    pub pid: i32,
    /// When it started, in nanoseconds since the epoch.
    pub started_at_ns: i64,
}

/// Writes `value` as JSON under `path`: complete or not at all, also when the machine stops
/// (`durable`) or only the process does.
pub fn write_atomically<T: Serialize>(path: &Path, value: &T, durable: bool) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".tmp");
    let staged = PathBuf::from(staged);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&staged)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if durable {
        file.sync_data()?;
    }
    drop(file);
    fs::rename(&staged, path)?;
    if durable && let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Reads what [`write_atomically`] wrote; `None` if there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit.json");
        assert_eq!(read::<ExitRecord>(&path).unwrap(), None);
        let record = ExitRecord {
            exit_code: 137,
            signal: Some(9),
            oom_killed: true,
            pid: 12,
            started_at_ns: 1,
            finished_at_ns: 2,
            start_failure: None,
            cause: Box::default(),
        };
        write_atomically(&path, &record, true).unwrap();
        assert_eq!(read(&path).unwrap(), Some(record));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn run_directories_may_have_long_names() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("x".repeat(200));
        fs::create_dir(&run_dir).unwrap();
        assert!(connect(&run_dir).is_err());
        let _first = listen(&run_dir).unwrap();
        let second = listen(&run_dir).unwrap();
        let _client = connect(&run_dir).unwrap();
        second.accept().unwrap();
        assert_eq!(
            fs::metadata(socket(&run_dir)).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
