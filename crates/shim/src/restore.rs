//! A start message that begins with a checkpoint: the runtime library restores through CRIU.

use rustix::process::{getpid, set_child_subreaper};
use wharf_container_runtime::{ContainerConfig, Criu, NamespaceFd, Running, Stdio};
use wharf_shim_protocol::{Failure, FailureKind, Restore, Start, Target};

use crate::bundle::Bundle;
use crate::launch::{no_streams, rootfs, stdio};
use crate::process::Process;

/// Starts the container of a start message from a checkpoint. Takes what it needs out of it.
pub(crate) fn restored(
    start: &mut Start,
    namespaces: Vec<NamespaceFd>,
    from: Restore,
) -> Result<(Running, Process), Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(FailureKind::System, wharf_fault::chain(error))
    };
    // CRIU's program ends before the container does.
    set_child_subreaper(Some(getpid())).map_err(|errno| failed(&errno))?;
    let mut bundle = Bundle::make(&start.run_dir, &start.rootfs, true, None)?;
    // Identity, capabilities and the system call filter are in the images.
    let config = ContainerConfig {
        spec: std::mem::take(&mut *start.spec),
        rootfs: rootfs(start.rootfs.clone()),
        init: start.init,
        ..ContainerConfig::default()
    };
    let (theirs, streams) = stdio(false, start.open_stdin).map_err(|error| no_streams(&error))?;
    let Stdio::Streams(theirs) = theirs else {
        return Err(Failure::new(
            FailureKind::InvalidParameter,
            "a restored container has no terminal",
        ));
    };
    let criu = Criu {
        program: from.criu,
        environment: from.environment,
        images: from.images,
        work: from.work,
    };
    let restored =
        wharf_container_runtime::restore(&criu, &config, namespaces, theirs, bundle.root());
    // The container has mounts of its own by now.
    bundle.unmount();
    let running = restored.map_err(|error| failed(&error))?;
    let pidfd = running
        .pidfd
        .try_clone()
        .map_err(|error| no_streams(&error))?;
    let process = Process::new(Target::Main, running.pid, pidfd, streams, start.stdin_once);
    Ok((running, process))
}
