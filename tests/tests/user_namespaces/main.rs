//! Containers in user namespaces of their own: the daemon-wide remap, ranges of ids, and whose files
//! are whose on the host.

mod files;
mod modes;
mod options;
mod ranges;
mod remap;

use serde_json::Value;
use wharf_tests::{Daemon, Host, fixtures};

/// A host with accounts and subordinate ids of its own.
fn host() -> Host {
    let host = Host::new();
    let folder = host.join("etc");
    host.sh(&format!(
        "mkdir -p {0}/up {0}/work && mount -t overlay etc -o lowerdir=/etc,upperdir={0}/up,workdir={0}/work /etc && \
         echo 'mapper:x:4700:4700::/:/bin/false' >> /etc/passwd && echo 'mapper:x:4700:' >> /etc/group && \
         echo 'mapper:700000:65536' > /etc/subuid && echo 'mapper:800000:65536' > /etc/subgid",
        folder.display()
    ))
    .ok();
    host
}

/// One start of a daemon that has `busybox`.
fn daemon<'h>(host: &'h Host, arguments: &[&str]) -> Daemon<'h> {
    let daemon = Daemon::start_with(host, arguments);
    daemon.load(&fixtures::busybox());
    daemon
}

/// `first:host:size` of a container's user ids, as the kernel says.
fn uid_map(daemon: &Daemon<'_>, container: &str) -> Vec<String> {
    let text = daemon
        .docker(&["exec", container, "cat", "/proc/self/uid_map"])
        .ok()
        .stdout;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(":");
    text.lines().map(words).collect()
}

/// Owner and group of a path of the host.
fn owner(host: &Host, path: &std::path::Path) -> String {
    host.sh(&format!("stat -c %u:%g {}", path.display()))
        .ok()
        .text()
}

fn inspect(daemon: &Daemon<'_>, container: &str) -> Value {
    let text = daemon.docker(&["inspect", container]).ok().stdout;
    let list: Value = serde_json::from_str(&text).unwrap();
    list[0].clone()
}
