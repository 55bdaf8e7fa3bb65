//! The text of /etc/hosts, /etc/hostname and /etc/resolv.conf, as Docker writes it.

mod hosts;
mod resolv_conf;

pub(crate) use hosts::{HostsInput, render_hosts, resolve_extra_hosts};
pub(crate) use resolv_conf::{ExtServer, HostResolver, internal_resolv_conf, legacy_resolv_conf};
