//! File descriptors as such: inheritance, ranges, sockets from a service manager.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags};

use crate::{checked, last_error};

/// Sets close-on-exec on every open descriptor from `first` on.
pub fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let first = libc::c_uint::try_from(first).map_err(|_| Errno::BADF)?;
    // SAFETY: no memory is passed; setting the flag invalidates no descriptor.
    checked(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Closes every open descriptor from `first` on but `kept`. For use between clone and exec: what
/// owned the others is not to be used, nor dropped, any more.
pub fn close_from_except(first: RawFd, kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut from = libc::c_uint::try_from(first).map_err(|_| Errno::BADF)?;
    for number in kept {
        let number = libc::c_uint::try_from(number).map_err(|_| Errno::BADF)?;
        if number > from {
            close_range(from, number - 1)?;
        }
        from = from.max(number + 1);
    }
    close_range(from, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: no memory is passed. Owners of the closed descriptors are given up by the contract
    // of the only caller.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Makes `fd` the descriptor `number`, open across exec, closing whatever had that number. For
/// use between clone and exec, where nobody else knows that number.
pub fn place(fd: OwnedFd, number: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        rustix::io::fcntl_setfd(&fd, FdFlags::empty())?;
        let _ = fd.into_raw_fd();
        return Ok(());
    }
    // SAFETY: both are plain numbers; that the old `number` is closed is what the caller asks.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err(last_error());
    }
    Ok(())
}

/// Takes over the descriptor `number` that the process was started with, and makes it
/// close-on-exec. Fails with `EBADF` when it is not open. To be called once per number, at the
/// start of the program, before anything else can own it.
pub fn take_inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers; fails when the descriptor is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(last_error());
    }
    // SAFETY: it is open, and by this function's contract nothing in this process owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The listening sockets a service manager passed (`sd_listen_fds(3)`): descriptors from 3 on,
/// counted by `LISTEN_FDS` if `LISTEN_PID` names this process. Call it once, at program start.
pub fn listen_fds() -> Vec<OwnedFd> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<i64>().ok();
    if number("LISTEN_PID") != Some(i64::from(std::process::id())) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, 1000);
    (0..count)
        .filter_map(|index| take_inherited(3 + RawFd::try_from(index).ok()?).ok())
        .collect()
}

/// Which kinds of socket a descriptor may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketFamily {
    /// A unix socket.
    Unix,
    /// A TCP socket over IPv4 or IPv6.
    Inet,
    /// Anything else, or no socket.
    Other,
}

/// Bytes sent over the unix stream socket `fd` that its peer has not read yet (`SIOCOUTQ`, in units
/// of buffer memory: only zero means the same as zero bytes). Fails on other kinds of sockets, for
/// which the kernel counts something else.
pub fn unread_by_peer(fd: impl std::os::fd::AsFd) -> Result<usize, Errno> {
    let fd = fd.as_fd();
    if socket_family(fd) != SocketFamily::Unix {
        return Err(Errno::AFNOSUPPORT);
    }
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request stores one int, for which there is room.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(last_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// What kind of socket `fd` is.
pub fn socket_family(fd: impl std::os::fd::AsFd) -> SocketFamily {
    match rustix::net::sockopt::socket_domain(fd) {
        Ok(rustix::net::AddressFamily::UNIX) => SocketFamily::Unix,
        Ok(rustix::net::AddressFamily::INET | rustix::net::AddressFamily::INET6) => {
            SocketFamily::Inet
        }
        _ => SocketFamily::Other,
    }
}

/// Whether the descriptor `number` is open.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: plain numbers; asking for the flags changes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}
