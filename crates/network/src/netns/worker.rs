//! A thread that enters other network namespaces.
//!
//! Some things can be done only from inside a namespace: opening a socket there, writing its
//! /proc/sys/net. The thread goes in, does one job and comes back: resting inside would keep a
//! container's namespace alive after its end.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the thread; it ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    home: Arc<OwnedFd>,
}

impl Worker {
    /// Starts the thread, at home in `home` or, without it, in the caller's namespace.
    pub(crate) fn start(home: Option<&Arc<OwnedFd>>) -> io::Result<Self> {
        let elsewhere = home.is_some();
        let home = match home {
            Some(home) => Arc::clone(home),
            None => Arc::new(super::current()?),
        };
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || queue.into_iter().for_each(|job| job()))?;
        let worker = Self { jobs, home };
        if elsewhere {
            // Every job ends with the way home: the first one leads there.
            worker.run(|| Ok(()))?;
        }
        Ok(worker)
    }

    /// Another thread with the same home.
    pub(crate) fn another(&self) -> io::Result<Self> {
        Self::start(Some(&self.home))
    }

    /// The namespace it is at home in: that of bridges and firewall.
    pub(crate) fn home(&self) -> &OwnedFd {
        &self.home
    }

    /// Runs `job` at home and returns its result.
    pub(crate) fn at_home<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run(job)
    }

    /// Runs `job` in a new namespace and returns its result.
    pub(crate) fn in_new<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run(move || {
            wharf_sys::netns::unshare_network()?;
            job()
        })
    }

    /// Runs `job` in the namespace `netns` and returns its result.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        netns: BorrowedFd<'_>,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let netns: OwnedFd = netns.try_clone_to_owned()?;
        self.run(move || {
            enter(netns.as_fd())?;
            job()
        })
    }

    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let gone = || io::Error::other("the network namespace thread has ended");
        let home = Arc::clone(&self.home);
        self.jobs
            .send(Box::new(move || {
                let result = job();
                drop(sender.send(enter(home.as_fd()).and(result)));
            }))
            .map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())?
    }
}

/// Moves the calling thread into `netns`.
pub(crate) fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(
        netns,
        Some(LinkNameSpaceType::Network),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Socket;
    use crate::netns::{allowed, current};

    #[test]
    fn jobs_run_inside_and_the_thread_comes_home() {
        if !allowed() {
            return;
        }
        let worker = Worker::start(None).unwrap();
        let netns = worker.in_new(current).unwrap();
        let links = worker
            .inside(netns.as_fd(), || Socket::route()?.links())
            .unwrap();
        assert_eq!(links.first().map(|link| link.name.as_str()), Some("lo"));
        let home = rustix::fs::fstat(current().unwrap()).unwrap().st_ino;
        assert_ne!(rustix::fs::fstat(&netns).unwrap().st_ino, home);
        let after = worker
            .run(|| Ok(rustix::fs::fstat(current()?)?.st_ino))
            .unwrap();
        assert_eq!(after, home);
    }
}
