//! Network namespaces: made and configured from threads of our own, never from a runtime's.

mod pool;
mod worker;

use std::io;
use std::os::fd::OwnedFd;

pub(crate) use pool::Pool;
pub(crate) use worker::{Worker, enter};

/// The calling thread's network namespace.
pub(crate) fn current() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
}

/// A process's network namespace.
pub(crate) fn of_process(pid: u32) -> io::Result<OwnedFd> {
    Ok(std::fs::File::open(format!("/proc/{pid}/ns/net"))?.into())
}

/// Runs `test` on a thread in a network namespace of its own; `None` where that is not allowed.
#[cfg(test)]
pub(crate) fn in_new_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            wharf_sys::netns::unshare_network().ok()?;
            Some(test())
        });
        thread.join().unwrap()
    })
}

/// Whether this process may make network namespaces.
#[cfg(test)]
pub(crate) fn allowed() -> bool {
    std::thread::spawn(|| wharf_sys::netns::unshare_network().is_ok())
        .join()
        .unwrap()
}
