//! `start`: lets the program of a created container go.

use std::process::ExitCode;

use wharf_container_runtime::gate;
use wharf_oci::runtime::Status;

use super::delete::destroy;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::flags::Flags;
use crate::notify::{self, Proxy};
use crate::runtime::{Command, Runtime};
use crate::start::poststart;

pub(super) const COMMAND: Command = Command {
    name: "start",
    words: super::ID,
    count: (1, 1),
    help: "start the program of a created container",
    flags: &[],
    run,
    failure: 1,
    enters: false,
};

fn check(status: Status) -> Result<()> {
    let refused = match status {
        Status::Created => return Ok(()),
        Status::Stopped => "cannot start a container that has stopped",
        Status::Running => "cannot start an already running container",
        Status::Paused => "cannot start a paused container",
        Status::Creating => "cannot start a container that is being created",
    };
    Err(Error::WrongState(refused.to_owned()))
}

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let mut container = Container::open(runtime, &flags.words[0])?;
    // Not to wait for the end of its creation only to refuse.
    check(container.status()?)?;
    let lock = container.directory.lock()?;
    container.refresh()?;
    check(container.status_locked()?)?;
    let proxy = match notify::wanted() {
        Some(manager) if notify::is_prepared(&container.directory) => {
            Some(Proxy::listen(&container.directory, &manager)?)
        }
        _ => None,
    };
    gate::open(&container.directory).map_err(Error::start("start"))?;
    gate::remove(&container.directory).map_err(Error::system("exec fifo"))?;
    let spec = container.spec()?;
    let state = container.state(Status::Running);
    if let Err(error) = poststart(runtime, &spec, &state) {
        destroy(runtime, container, Some(&spec), lock)?;
        return Err(error);
    }
    drop(lock);
    if let (Some(proxy), Some((pid, pidfd))) = (proxy, container.process()) {
        proxy.wait(pid, pidfd)?;
    }
    Ok(ExitCode::SUCCESS)
}
