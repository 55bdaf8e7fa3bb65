//! Clients we did not write, other than the reference `docker`.

use wharf_tests::{Daemon, Host, fixtures, run};

/// docker-py against the newest API it knows and against the oldest we serve.
#[test]
fn docker_py_old_and_new() {
    for version in ["1.24", "1.41"] {
        let host = Host::new();
        let daemon = Daemon::start(&host);
        // Debian's own interpreter: the module comes from Debian's package.
        let mut python = host.command("/usr/bin/python3");
        python
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/docker_py.py"))
            .arg(daemon.url())
            .arg(fixtures::busybox())
            .arg(version);
        run(python, None).ok().is("all well");
    }
}
