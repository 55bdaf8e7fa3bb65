//! `restore`: from a bundle and CRIU's images to a container that goes on.
//!
//! CRIU wants the root file system at a mount point, and puts the container's other mounts below
//! it: both happen in a mount namespace of ours, which ends with us.

use std::path::Path;
use std::process::ExitCode;

use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::process::{Pid, Signal, pidfd_send_signal};
use rustix::thread::UnshareFlags;
use wharf_container_runtime::{Criu, Running, Stdio};

use crate::bundle::{self, Bundle};
use crate::commands::checkpoint::{criu, refuse_unsupported};
use crate::console::Console;
use crate::container;
use crate::error::{Error, Result};
use crate::flags::Flags;
use crate::foreground::{self, Signals};
use crate::runtime::Runtime;
use crate::start::{Start, cgroup_path, write_pid_file};
use crate::store::{Directory, ProcessRecord};

/// Makes the container `id` go on as the flags say.
pub(crate) fn restore(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    refuse_unsupported(flags)?;
    if let Some(mode) = flags
        .get("manage-cgroups-mode")
        .filter(|mode| !mode.is_empty())
    {
        return Err(Error::Refused(format!(
            "manage-cgroups-mode {mode:?}: a restore does as its checkpoint did"
        )));
    }
    let id = &flags.words[0];
    let criu = criu(flags)?;
    let pid_file = flags.get("pid-file").map(bundle::absolute).transpose()?;
    let bundle = Bundle::enter(flags.get("bundle"))?;
    check(&bundle)?;
    let console = Console::plan(false, flags.is("detach"), flags.get("console-socket"))?;
    let cgroup = cgroup_path(runtime, &bundle, id)?;
    if cgroup.as_ref().is_some_and(|cgroup| cgroup.systemd) {
        return Err(Error::Refused(
            "--systemd-cgroup: a restored container's cgroup cannot be made by systemd".into(),
        ));
    }
    let (directory, lock) = Directory::create(&runtime.root, id)?;
    let mut start = Start::new(runtime, flags, directory, bundle, cgroup, 0)?;
    let outcome = start
        .directory
        .write_record(&start.record)
        .and_then(|()| start.directory.write_config(&start.text))
        .and_then(|()| carry_out(&mut start, &criu, &console, pid_file.as_deref(), flags));
    match outcome {
        Ok((_, None)) => {
            drop(lock);
            Ok(ExitCode::SUCCESS)
        }
        Ok((running, Some(signals))) => start.stay(lock, running, &signals, None, true),
        Err(error) => {
            start.forget();
            Err(error)
        }
    }
}

fn check(bundle: &Bundle) -> Result<()> {
    let refused = |what: &str| Err(Error::Refused(format!("a restored container {what}")));
    if bundle
        .spec
        .process
        .as_ref()
        .is_some_and(|process| process.terminal)
    {
        return refused("cannot have a terminal");
    }
    if let Some(hooks) = &bundle.spec.hooks
        && !(hooks.prestart.is_empty()
            && hooks.create_runtime.is_empty()
            && hooks.create_container.is_empty()
            && hooks.start_container.is_empty())
    {
        return refused("cannot have hooks before its start: it has started already");
    }
    Ok(())
}

fn carry_out(
    start: &mut Start<'_>,
    criu: &Criu,
    console: &Console,
    pid_file: Option<&Path>,
    flags: &Flags,
) -> Result<(Running, Option<Signals>)> {
    let detached = flags.is("detach");
    let signals = if detached {
        None
    } else {
        // CRIU's program ends before the container does: it becomes our child.
        foreground::become_subreaper()?;
        Some(Signals::catch()?)
    };
    let Stdio::Streams(streams) = console.stdio()? else {
        return Err(Error::Refused(
            "a restored container cannot have a terminal".into(),
        ));
    };
    let rootfs = start.record.rootfs.clone();
    mount_root(&rootfs).map_err(Error::file("mount rootfs", &rootfs))?;
    let running =
        wharf_container_runtime::restore(criu, &start.config, Vec::new(), streams, &rootfs)
            .map_err(Error::Checkpoint)?;
    let told = tell(start, running.pid, pid_file).and_then(|()| start.after_start(&running));
    if let Err(error) = told {
        let _ = pidfd_send_signal(&running.pidfd, Signal::KILL);
        if let Some(cgroup) = &running.cgroup {
            let _ = cgroup.signal_all(Signal::KILL);
            let _ = cgroup.remove();
        }
        return Err(error);
    }
    Ok((running, signals))
}

/// Remembers the first process, and tells whoever wants to know.
fn tell(start: &mut Start<'_>, pid: Pid, pid_file: Option<&Path>) -> Result<()> {
    start.record.process = Some(ProcessRecord {
        pid: pid.as_raw_nonzero().get(),
        start_time: container::start_time(pid).unwrap_or(0),
    });
    start.record.creating = false;
    start.directory.write_record(&start.record)?;
    pid_file.map_or(Ok(()), |file| write_pid_file(file, pid))
}

/// Makes the root file system a mount point, for us and for whom we start.
fn mount_root(rootfs: &Path) -> std::io::Result<()> {
    let away = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    wharf_sys::namespace::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", away)?;
    mount_bind_recursive(rootfs, rootfs)?;
    Ok(())
}
