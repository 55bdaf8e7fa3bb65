//! The whole engine as an ordinary user.
//!
//! `day` is the day of work of `day_of_work.rs` in rootless form: the same steps, in `wharf_tests::day`.
//! Left out there, because an ordinary user cannot have them on a host that delegates no cgroups: limits
//! that bite and `pause` (those are in `systemd.rs`). What is to be tried of those instead is that each says so.

#[path = "rootless/crash.rs"]
mod crash;
#[path = "rootless/day.rs"]
mod day;
#[path = "rootless/host.rs"]
mod host;
#[path = "rootless/namespaces.rs"]
mod namespaces;
#[path = "rootless/ports.rs"]
mod ports;
#[path = "rootless/uplink.rs"]
mod uplink;

use wharf_tests::skip;

/// Whether the programs are there that a rootless engine needs.
fn ready(test: &str) -> bool {
    let missing = ["newuidmap", "pasta", "slirp4netns", "setpriv"]
        .into_iter()
        .find(|program| !std::path::Path::new("/usr/bin").join(program).exists());
    if let Some(program) = missing {
        skip(test, &format!("{program} is not installed"));
    }
    missing.is_none()
}
