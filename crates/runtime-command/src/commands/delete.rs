//! `delete`: what is left of a container goes, and with `--force` the container itself.

use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use wharf_container_runtime::hooks::HookKind;
use wharf_container_runtime::resctrl;
use wharf_oci::runtime::{Spec, Status};

use crate::container::{self, Container};
use crate::error::{Error, Result};
use crate::flags::{Flags, switch};
use crate::runtime::{Command, Runtime};
use crate::start::warn_of_hooks;
use crate::store::{Directory, Lock, ProcessRecord};

pub(super) const COMMAND: Command = Command {
    name: "delete",
    words: super::ID,
    count: (1, 1),
    help: "delete a container that has ended",
    flags: &[switch(
        &["force", "f"],
        "kill it if it still runs; no error if there is none",
    )],
    run,
    failure: 1,
    enters: false,
};

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let force = flags.is("force");
    match delete(runtime, &flags.words[0], force) {
        Err(Error::NoContainer) if force => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

fn delete(runtime: &Runtime, id: &str, force: bool) -> Result<()> {
    let directory = Directory::open(&runtime.root, id)?;
    if force && let Some(record) = directory.read_record()? {
        let creator = record.creator.filter(|_| record.creating);
        // Whoever is creating it fails soon, and lets go of the lock.
        end(&Container::with(directory, record)?)?;
        if let Some(creator) = creator {
            end_hooks(creator)?;
        }
    }
    let directory = Directory::open(&runtime.root, id)?;
    let lock = directory.lock()?;
    let Some(record) = directory.read_record()? else {
        // Its create was ended before it made anything but this.
        return if force {
            directory.remove()
        } else {
            Err(Error::NoContainer)
        };
    };
    let container = Container::with(directory, record)?;
    let status = container.status_locked()?;
    if status != Status::Stopped && !force {
        let status = format!("{status:?}").to_lowercase();
        return Err(Error::WrongState(format!(
            "cannot delete container {id} that is not stopped: {status}"
        )));
    }
    // A create that was ended early has not written it.
    let spec = match container.spec() {
        Err(Error::NoConfig) => None,
        other => Some(other?),
    };
    destroy(runtime, container, spec.as_ref(), lock)
}

/// Removes everything of a container, with whatever still runs in it.
pub(crate) fn destroy(
    runtime: &Runtime,
    container: Container,
    spec: Option<&Spec>,
    lock: Lock,
) -> Result<()> {
    let cgroup = container.cgroup()?;
    // As a rule everything has ended with the first process.
    let all_ended = container.process().is_none()
        && cgroup.as_ref().is_some_and(|cgroup| cgroup.begin_removal());
    if !all_ended {
        end(&container)?;
    }
    if let Some(cgroup) = cgroup {
        cgroup.remove().map_err(Error::system("remove cgroup"))?;
    }
    let linux = spec.and_then(|spec| spec.linux.as_ref());
    if let Some(rdt) = linux.and_then(|linux| linux.intel_rdt.as_ref()) {
        resctrl::remove(rdt, &container.record.id)
            .map_err(Error::system("remove resctrl group"))?;
    }
    let hooks = spec.and_then(|spec| spec.hooks.as_ref());
    let state = crate::container::state_of(&container.record, Status::Stopped, None);
    container.directory.remove()?;
    drop(lock);
    warn_of_hooks(runtime, HookKind::Poststop, hooks, &state);
    Ok(())
}

/// Kills what the process that creates a container waits for: hooks may take forever.
fn end_hooks(creator: ProcessRecord) -> Result<()> {
    let Some((pid, _)) = container::find(creator)? else {
        return Ok(());
    };
    for (_, pidfd) in container::children(pid) {
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(Error::system("kill")(errno)),
        }
    }
    Ok(())
}

/// Kills every process of a container and waits for the end of the first.
fn end(container: &Container) -> Result<()> {
    if let Some((_, pidfd)) = container.process() {
        match pidfd_send_signal(pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(Error::system("kill")(errno)),
        }
    }
    if let Some(cgroup) = container.cgroup()? {
        match cgroup.signal_all(Signal::KILL) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::system("kill")(error)),
        }
    }
    if let Some((_, pidfd)) = container.process() {
        loop {
            match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) {
                Err(Errno::INTR) => {}
                other => break other.map(drop).map_err(Error::system("poll"))?,
            };
        }
    }
    Ok(())
}
