//! `pause` and `resume`.

use std::process::ExitCode;

use wharf_oci::runtime::Status;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::Flags;
use crate::runtime::{Command, Runtime};

pub(super) const PAUSE: Command = Command {
    name: "pause",
    words: super::ID,
    count: (1, 1),
    help: "suspend all processes of a container",
    flags: &[],
    run: pause,
    failure: 1,
    enters: false,
};

pub(super) const RESUME: Command = Command {
    name: "resume",
    words: super::ID,
    count: (1, 1),
    help: "resume the processes of a paused container",
    flags: &[],
    run: resume,
    failure: 1,
    enters: false,
};

fn pause(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let container = Container::open(runtime, &flags.words[0])?;
    match container.status()? {
        Status::Running | Status::Created => {}
        status => {
            let status = format!("{status:?}").to_lowercase();
            return Err(Error::WrongState(format!(
                "container not running or created: {status}"
            )));
        }
    }
    let cgroup = container.cgroup()?.ok_or_else(no_cgroup)?;
    cgroup.pause().map_err(Error::system("pause"))?;
    Ok(ExitCode::SUCCESS)
}

fn resume(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let container = Container::open(runtime, &flags.words[0])?;
    if container.status()? != Status::Paused {
        return Err(Error::NotPaused);
    }
    let cgroup = container.cgroup()?.ok_or_else(no_cgroup)?;
    cgroup.resume().map_err(Error::system("resume"))?;
    Ok(ExitCode::SUCCESS)
}

fn no_cgroup() -> Error {
    Error::WrongState("the container has no cgroup, so it cannot be paused".into())
}
