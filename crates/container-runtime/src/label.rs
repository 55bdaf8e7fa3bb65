//! Security labels: of the process, entered at exec, and of its mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

use crate::error::{Stage, StartError};

/// The labels a process will have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
}

/// Labels that only need to be written.
#[derive(Debug)]
pub(crate) struct OpenLabels(Vec<OpenLabel>);

#[derive(Debug)]
struct OpenLabel {
    file: OwnedFd,
    text: String,
    /// What errors call it.
    subject: String,
}

impl Labels {
    /// Opens what they are written to, in the host's `/proc`: the container's own may be anything
    /// (CVE-2019-16884).
    pub(crate) fn open(&self) -> Result<OpenLabels, StartError> {
        let mut open = Vec::new();
        if let Some(profile) = &self.apparmor {
            // Since Linux 5.8 every security module has attributes of its own; before, they share
            // one.
            let files = [
                c"/proc/thread-self/attr/apparmor/exec",
                c"/proc/thread-self/attr/exec",
            ];
            let subject = format!("{profile:?} (AppArmor profile)");
            let file = files
                .into_iter()
                .find_map(|path| open_attribute(path).ok())
                .ok_or_else(|| StartError::new(Stage::Label, Errno::NOENT, subject.clone()))?;
            open.push(OpenLabel {
                file,
                text: format!("exec {profile}"),
                subject,
            });
        }
        if let Some(label) = &self.selinux {
            let subject = format!("{label:?}");
            let file = open_attribute(c"/proc/thread-self/attr/exec")
                .map_err(|errno| StartError::new(Stage::Label, errno, subject.clone()))?;
            open.push(OpenLabel {
                file,
                text: label.clone(),
                subject,
            });
        }
        Ok(OpenLabels(open))
    }
}

fn open_attribute(path: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatfs(&file)?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::NODEV);
    }
    Ok(file)
}

impl OpenLabels {
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|label| label.file.as_fd())
    }

    /// Makes the next exec enter them.
    pub(crate) fn enter_at_exec(&self) -> Result<(), StartError> {
        for label in &self.0 {
            rustix::io::write(&label.file, label.text.as_bytes())
                .map_err(|errno| StartError::new(Stage::Label, errno, label.subject.clone()))?;
        }
        Ok(())
    }
}

/// The SELinux label `label` of the document's `field`, if there is one and the host has SELinux.
pub(crate) fn selinux(field: &str, label: Option<&str>) -> Result<Option<String>, StartError> {
    let Some(label) = label.filter(|label| !label.is_empty()) else {
        return Ok(None);
    };
    let refuse = |why: &str| StartError::refused(Stage::Config, format!("{field}: {why}"));
    if label.contains('\0') {
        return Err(refuse("the label contains a NUL"));
    }
    if !host_has_selinux() {
        return Err(refuse("SELinux is not enabled on this host"));
    }
    Ok(Some(label.to_owned()))
}

/// Whether SELinux is enabled on this host.
pub fn host_has_selinux() -> bool {
    rustix::fs::access(c"/sys/fs/selinux/enforce", rustix::fs::Access::EXISTS).is_ok()
}

/// Whether all files of a new file system of this kind can be given one label when it is mounted.
/// The kernel labels what shows itself.
pub(crate) fn takes_context(filesystem: &str) -> bool {
    !matches!(
        filesystem,
        "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2" | "selinuxfs"
    )
}
