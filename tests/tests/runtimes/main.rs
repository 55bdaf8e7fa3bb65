//! Containers run by other OCI runtimes: Debian's `runc` and `crun`, through the same interface.
//!
//! What the built-in runtime does is looked at elsewhere; here is what an engine must do around a
//! foreign program: streams, terminals, exit codes, limits, pauses, restarts of both sides, and
//! that nothing is left behind.

mod isolation;
mod life;
mod limits;
mod mappings;
mod settings;

use std::collections::BTreeSet;

use wharf_tests::traces::traces;
use wharf_tests::{Daemon, Host, fixtures};

const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// A host on which `runtime` works, and the flag that makes a daemon offer it as `other`.
fn host_for(test: &str, runtime: &str) -> Option<(Host, String)> {
    let host = Host::new();
    let path = host.sh(&format!("command -v {runtime}"));
    if path.code != 0 {
        wharf_tests::skip(test, &format!("{runtime} is not installed"));
        return None;
    }
    // A null device of the host's own: runtimes give their standard streams to a container's root.
    host.sh(&format!(
        "mkdir {0} && mount -t tmpfs tmpfs {0} && mknod -m 666 {0}/null c 1 3 && mount --bind {0}/null /dev/null",
        host.join("nodes").display()
    ))
    .ok();
    // crun refuses hybrid hosts whose v2 mount has a controller.
    host.sh("umount /sys/fs/cgroup/unified 2>/dev/null; true")
        .ok();
    Some((host, format!("--add-runtime=other={}", path.text())))
}

/// Runs `body` with a daemon per runtime.
fn with_each(test: &str, body: impl Fn(&Daemon<'_>, &dyn Fn(&[&str]) -> wharf_tests::Output)) {
    for runtime in RUNTIMES {
        let Some((host, flag)) = host_for(test, runtime) else {
            continue;
        };
        let daemon = Daemon::start_with(&host, &[&flag]);
        daemon.load(&fixtures::busybox());
        let run = |arguments: &[&str]| {
            let mut all = vec!["run", "--runtime", "other"];
            all.extend(arguments);
            daemon.docker(&all)
        };
        // A daemon that has started a container keeps ready what the next one takes.
        run(&["--rm", "busybox", "true"]).ok();
        body(&daemon, &run);
        host.sh("stat -c '%a %u:%g' /dev/null").ok().is("666 0:0");
    }
}

/// What must be the same before and after.
fn kept(daemon: &Daemon<'_>) -> BTreeSet<String> {
    traces(daemon, "data/containers exec -mindepth 1")
}
