//! Socket options that `rustix` has no words for.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use crate::last_error;

/// Lets a socket be bound to an address that is not the host's (`IP_TRANSPARENT`, and its IPv6
/// twin). Needs `CAP_NET_ADMIN` or `CAP_NET_RAW` over the socket's network namespace.
pub fn set_transparent(socket: impl AsFd, ipv6: bool) -> Result<(), Errno> {
    let (level, option) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
    } else {
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    };
    set(socket, level, option, 1)
}

/// Marks every packet of a socket (`SO_MARK`). Needs `CAP_NET_ADMIN`, as above.
pub fn set_mark(socket: impl AsFd, mark: u32) -> Result<(), Errno> {
    set(
        socket,
        libc::SOL_SOCKET,
        libc::SO_MARK,
        libc::c_int::from_ne_bytes(mark.to_ne_bytes()),
    )
}

fn set(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<(), Errno> {
    // SAFETY: the option is an int, and its size is the one given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            libc::socklen_t::try_from(std::mem::size_of::<libc::c_int>()).unwrap_or(4),
        )
    };
    if result < 0 {
        return Err(last_error());
    }
    Ok(())
}
