//! What can fail while a container or an exec starts, and how Docker words it.

use std::fmt;

use wharf_fault::{Fault, Kind};

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    /// The document asks for something impossible or not offered; the subject says what.
    Config = 1,
    /// A process could not be made.
    Clone,
    /// A namespace could not be joined; the subject is its type.
    Namespace,
    /// The cgroup or one of its limits; the subject is the file or setting.
    Cgroup,
    /// The root file system; the subject is the layer or step.
    Rootfs,
    /// A mount; the subject is `source` and `destination` joined by a NUL.
    Mount,
    /// A device node; the subject is its path.
    Device,
    /// A masked or read-only path; the subject is the path.
    Path,
    /// A kernel parameter; the subject is its name.
    Sysctl,
    /// Host or domain name.
    Hostname,
    /// The terminal.
    Terminal,
    /// A resource limit; the subject is its name.
    Rlimit,
    /// `/proc/self/oom_score_adj`.
    OomScore,
    /// The user or group was not found or is malformed; the subject is Docker's sentence.
    User,
    /// Setting user or group IDs.
    Identity,
    /// Capabilities.
    Capabilities,
    /// Installing the system call filter.
    Seccomp,
    /// A security label.
    Label,
    /// Changing to the working directory; the subject is the directory.
    WorkingDirectory,
    /// A hook; the subject is its path.
    Hook,
    /// The program was not found by `$PATH`; the subject is its name.
    ProgramNotInPath,
    /// The program named by a path does not exist; the subject is its name.
    ProgramMissing,
    /// The program cannot be executed; the subject is its name.
    ProgramNotExecutable,
    /// The child died without a word.
    Died,
    /// The container is not running (any more).
    NotRunning,
    /// A network device of the host's; the subject is its name.
    NetDevice,
    /// The resource control group (`resctrl`); the subject is the file or setting.
    Resctrl,
}

impl Stage {
    const ALL: [Self; 27] = [
        Self::Config,
        Self::Clone,
        Self::Namespace,
        Self::Cgroup,
        Self::Rootfs,
        Self::Mount,
        Self::Device,
        Self::Path,
        Self::Sysctl,
        Self::Hostname,
        Self::Terminal,
        Self::Rlimit,
        Self::OomScore,
        Self::User,
        Self::Identity,
        Self::Capabilities,
        Self::Seccomp,
        Self::Label,
        Self::WorkingDirectory,
        Self::Hook,
        Self::ProgramNotInPath,
        Self::ProgramMissing,
        Self::ProgramNotExecutable,
        Self::Died,
        Self::NotRunning,
        Self::NetDevice,
        Self::Resctrl,
    ];
}

/// Why a container or an exec did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// The step that failed.
    pub stage: Stage,
    /// The kernel's error number; 0 where the kernel had no part in it.
    pub errno: i32,
    /// What the step was about, see [`Stage`].
    pub subject: String,
}

/// The longest subject carried from the child, in bytes.
const SUBJECT_MAX: usize = 4096;

impl StartError {
    /// A failure of `stage` with the kernel's `errno`.
    pub fn new(stage: Stage, errno: rustix::io::Errno, subject: impl Into<String>) -> Self {
        Self {
            stage,
            errno: errno.raw_os_error(),
            subject: subject.into(),
        }
    }

    /// A failure that is not the kernel's.
    pub fn refused(stage: Stage, subject: impl Into<String>) -> Self {
        Self {
            stage,
            errno: 0,
            subject: subject.into(),
        }
    }

    /// The exit status Docker gives a container that did not start for this reason.
    pub fn exit_code(&self) -> i32 {
        match self.stage {
            Stage::ProgramNotInPath | Stage::ProgramMissing => 127,
            Stage::ProgramNotExecutable => 126,
            _ => 128,
        }
    }

    /// The whole sentence Docker's daemon answers when a container does not start.
    pub fn docker_create_message(&self) -> String {
        self.docker_message(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
             failed",
        )
    }

    /// The whole sentence Docker's daemon answers when an exec does not start.
    pub fn docker_exec_message(&self) -> String {
        self.docker_message("OCI runtime exec failed: exec failed")
    }

    fn docker_message(&self, prefix: &str) -> String {
        match self.stage {
            // What Docker's daemon finds out by itself, before there is a runtime to blame.
            Stage::User | Stage::Config => self.to_string(),
            _ => format!("{prefix}: unable to start container process: {self}: unknown"),
        }
    }

    /// The error as the child sends it: stage, errno, subject.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.stage as u8];
        bytes.extend(self.errno.to_le_bytes());
        let mut end = self.subject.len().min(SUBJECT_MAX);
        while !self.subject.is_char_boundary(end) {
            end -= 1;
        }
        bytes.extend(&self.subject.as_bytes()[..end]);
        bytes
    }

    /// Reads [`encode`](Self::encode)'s form.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let [stage, e0, e1, e2, e3, subject @ ..] = bytes else {
            return None;
        };
        let stage = *Stage::ALL.get(usize::from(*stage).checked_sub(1)?)?;
        let errno = i32::from_le_bytes([*e0, *e1, *e2, *e3]);
        Some(Self {
            stage,
            errno,
            subject: String::from_utf8_lossy(subject).into_owned(),
        })
    }

    /// The kernel's words for the error number, as Go prints them (lower case, no number).
    pub(crate) fn reason(&self) -> String {
        let text = std::io::Error::from_raw_os_error(self.errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut characters = text.chars();
        match characters.next() {
            Some(first) if characters.clone().next().is_some_and(char::is_lowercase) => {
                first.to_lowercase().chain(characters).collect()
            }
            _ => text.to_owned(),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = &self.subject;
        match self.stage {
            Stage::ProgramNotInPath => {
                write!(f, "exec: {subject:?}: executable file not found in $PATH")
            }
            Stage::ProgramMissing => {
                write!(f, "exec: {subject:?}: stat {subject}: {}", self.reason())
            }
            Stage::ProgramNotExecutable => write!(f, "exec: {subject:?}: {}", self.reason()),
            Stage::User | Stage::Config => f.write_str(subject),
            Stage::Mount => {
                let (source, destination) = subject.split_once('\0').unwrap_or(("", subject));
                write!(
                    f,
                    "error mounting {source:?} to rootfs at {destination:?}: {}",
                    self.reason()
                )?;
                if self.errno == rustix::io::Errno::NOTDIR.raw_os_error() {
                    f.write_str(
                        ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified \
                         host path exists and is the expected type",
                    )?;
                }
                Ok(())
            }
            Stage::WorkingDirectory => {
                write!(
                    f,
                    "chdir to cwd ({subject:?}) set in config.json failed: {}",
                    self.reason()
                )
            }
            Stage::Died => f.write_str("the container's first process died before its program ran"),
            Stage::NotRunning => f.write_str("the container is not running"),
            stage => {
                f.write_str(stage.failed_step())?;
                if !subject.is_empty() {
                    write!(f, " {subject}")?;
                }
                if self.errno != 0 {
                    write!(f, ": {}", self.reason())?;
                }
                Ok(())
            }
        }
    }
}

impl Stage {
    /// The step in words, for stages without a sentence of their own.
    fn failed_step(self) -> &'static str {
        match self {
            Self::Clone => "cannot create process",
            Self::Namespace => "cannot join namespace",
            Self::Cgroup => "cannot set up cgroup",
            Self::Rootfs => "cannot set up rootfs",
            Self::Device => "cannot create device node",
            Self::Path => "cannot protect path",
            Self::Sysctl => "cannot write sysctl",
            Self::Hostname => "cannot set host name",
            Self::Terminal => "cannot set up terminal",
            Self::Rlimit => "error setting rlimit type",
            Self::OomScore => "cannot write oom_score_adj",
            Self::Identity => "cannot set user or group",
            Self::Capabilities => "unable to apply caps",
            Self::Seccomp => "unable to init seccomp",
            Self::Label => "cannot set security label",
            Self::Hook => "error running hook",
            Self::NetDevice => "cannot move network device",
            Self::Resctrl => "cannot set up resctrl group",
            _ => "cannot start",
        }
    }
}

impl std::error::Error for StartError {}

impl Fault for StartError {
    fn kind(&self) -> Kind {
        match self.stage {
            // Docker answers 400 for a command that cannot be run and for what the user named
            // wrongly; the kernel's and the host's refusals are 500.
            Stage::ProgramNotInPath
            | Stage::ProgramMissing
            | Stage::ProgramNotExecutable
            | Stage::User
            | Stage::Config => Kind::InvalidParameter,
            Stage::NotRunning => Kind::Conflict,
            _ => Kind::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn every_stage_crosses_the_socket() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index + 1);
            let error = StartError::new(stage, Errno::ACCESS, "a subject");
            assert_eq!(StartError::decode(&error.encode()), Some(error));
        }
        assert_eq!(StartError::decode(b""), None);
        assert_eq!(StartError::decode(b"\xff0000x"), None);
    }

    #[test]
    fn messages_are_dockers() {
        let text = |stage, errno, subject: &str| StartError::new(stage, errno, subject).to_string();
        assert_eq!(
            text(Stage::ProgramNotInPath, Errno::NOENT, "foo"),
            r#"exec: "foo": executable file not found in $PATH"#
        );
        assert_eq!(
            text(Stage::ProgramMissing, Errno::NOENT, "/foo"),
            r#"exec: "/foo": stat /foo: no such file or directory"#
        );
        assert_eq!(
            text(Stage::ProgramNotExecutable, Errno::ISDIR, "/etc"),
            r#"exec: "/etc": is a directory"#
        );
        assert_eq!(
            text(Stage::ProgramNotExecutable, Errno::ACCESS, "/x"),
            r#"exec: "/x": permission denied"#
        );
        assert_eq!(
            text(Stage::WorkingDirectory, Errno::ACCESS, "/root"),
            r#"chdir to cwd ("/root") set in config.json failed: permission denied"#
        );
        assert!(text(Stage::Mount, Errno::NOTDIR, "/a\0/b").starts_with(
            r#"error mounting "/a" to rootfs at "/b": not a directory: Are you trying to mount a directory"#
        ));
    }

    #[test]
    fn long_subjects_are_cut_between_characters() {
        let error = StartError::refused(Stage::Config, "é".repeat(4000));
        let back = StartError::decode(&error.encode()).unwrap();
        assert!(back.subject.len() <= SUBJECT_MAX && error.subject.starts_with(&back.subject));
    }
}
