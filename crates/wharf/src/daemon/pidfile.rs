//! The daemon's pid file: says where to send signals, and keeps a second daemon away.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use wharf_fault::{Error, Result};

/// Locked as long as the daemon lives; removed when it ends in order.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    /// Writes our process id. A file whose daemon was killed has no lock and is taken over.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let failed = |source: std::io::Error| {
            Error::system(format!("cannot write the pid file {}", path.display())).caused_by(source)
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        if file.try_lock().is_err() {
            let pid = std::fs::read_to_string(path).unwrap_or_default();
            if is_alive(pid.trim()) {
                return Err(Error::conflict(format!(
                    "another daemon runs with this pid file, process {}: {}",
                    pid.trim(),
                    path.display()
                )));
            }
            // A daemon killed while it started a shim: the lock goes when that child becomes the shim.
            file.lock().map_err(failed)?;
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            _locked: file,
        })
    }
}

/// Whether the process named in a pid file exists. Text that is no number is no process.
fn is_alive(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}
