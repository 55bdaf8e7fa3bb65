//! Kernel settings under /proc/sys/net, in the calling thread's network namespace.

use std::io;

/// Reads `/proc/sys/net/<path>`.
pub(crate) fn read(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/sys/net/{path}"))?
        .trim()
        .to_owned())
}

/// Writes `/proc/sys/net/<path>` unless it has the value already.
pub(crate) fn set(path: &str, value: &str) -> io::Result<()> {
    if read(path).is_ok_and(|old| old == value) {
        return Ok(());
    }
    std::fs::write(format!("/proc/sys/net/{path}"), value)
}

/// Whether the kernel has IPv6 and it is not switched off as a whole.
pub(crate) fn has_ipv6() -> bool {
    read("ipv6/conf/all/disable_ipv6").is_ok_and(|value| value == "0")
}
