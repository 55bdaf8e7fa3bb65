//! Running CRIU, by its command line: it is not on a start path, its options are stable, and no
//! protocol has to be carried by a program that stays with a container.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use wharf_sys::program_file::ProgramFile;
use wharf_sys::spawn::Spawn;

use super::CheckpointError;

/// CRIU's program and where it works.
#[derive(Debug, Clone)]
pub struct Criu {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its environment, `NAME=value`: it runs `tar`, `ip` and the like.
    pub environment: Vec<String>,
    /// Where images are written to, or read from.
    pub images: PathBuf,
    /// Where its log goes.
    pub work: PathBuf,
}

impl Criu {
    /// Runs one command (`dump`, `restore`). `inherited` become descriptors 3 and following;
    /// through `doors` it enters a cgroup.
    pub(super) fn run(
        &self,
        command: &'static str,
        words: &[String],
        inherited: &[BorrowedFd<'_>],
        doors: &[BorrowedFd<'_>],
    ) -> Result<(), CheckpointError> {
        let failed = |errno: Errno| CheckpointError::Start {
            program: self.program.clone(),
            source: errno.into(),
        };
        let log = self.work.join(format!("{command}.log"));
        let ProgramFile {
            file,
            mut arguments,
        } = ProgramFile::open(&self.program).map_err(failed)?;
        let mut all = vec![
            command.to_owned(),
            "--images-dir".to_owned(),
            self.images.display().to_string(),
            "--work-dir".to_owned(),
            self.work.display().to_string(),
            "--log-file".to_owned(),
            format!("{command}.log"),
            "-v4".to_owned(),
        ];
        all.extend_from_slice(words);
        let string = |word: String| CString::new(word).map_err(|_| failed(Errno::INVAL));
        for word in all {
            arguments.push(string(word)?);
        }
        let environment = self
            .environment
            .iter()
            .cloned()
            .map(string)
            .collect::<Result<Vec<_>, _>>()?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(failed)?;
        let mut fds = vec![(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2)];
        fds.extend(inherited.iter().zip(3..).map(|(fd, number)| (*fd, number)));
        let spawn = Spawn {
            program: wharf_sys::spawn::Program::File(file.as_fd()),
            arguments: &arguments,
            environment: &environment,
            fds: &fds,
            doors,
            new_session: false,
            working_directory: None,
        };
        let (_, pidfd) = spawn.start().map_err(failed)?;
        let status = wait(&pidfd).map_err(failed)?;
        if status == Some(0) {
            return Ok(());
        }
        Err(CheckpointError::Failed {
            command,
            reason: reason(&log),
            log,
        })
    }
}

fn wait(pidfd: &OwnedFd) -> Result<Option<i32>, Errno> {
    loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(status) => return Ok(status.and_then(|status| status.exit_status())),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The first error of a log, which is the cause of the others.
fn reason(log: &Path) -> String {
    let text = std::fs::read(log).map(|text| String::from_utf8_lossy(&text).into_owned());
    match &text {
        Ok(text) => first_error(text)
            .unwrap_or("no error in its log")
            .to_owned(),
        Err(error) => format!("no log: {error}"),
    }
}

fn first_error(log: &str) -> Option<&str> {
    let errors = log
        .lines()
        .filter_map(|line| line.split_once("Error (").map(|(_, rest)| rest))
        .filter_map(|rest| rest.split_once("): ").map(|(_, words)| words));
    // Said, and gone on with, wherever the limit cannot be raised.
    errors
        .filter(|words| !words.starts_with("rlimit: "))
        .map(str::trim)
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_the_cause() {
        let log = "(00.1) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: no\n\
                   (00.2) Warn  (criu/x.c:1): careful\n\
                   (00.3) Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=10 path=/dev/null\n\
                   (00.4) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(
            first_error(log),
            Some("Can't lookup mount=24 for fd=10 path=/dev/null")
        );
        assert_eq!(first_error("fine\n"), None);
    }
}
