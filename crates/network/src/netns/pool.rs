//! Ready-made things, kept filled by a thread off the path.
//!
//! A taker gets what is ready; else one taker waits for what is being made just now, which is
//! quicker than beginning anew, and the others get nothing and make their own. Finding the pool
//! empty doubles what is kept, up to a limit; a time without takers brings it back to the
//! beginning. What is unused vanishes with the daemon, since nothing outside holds it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A pool of `T`; dropping it ends the thread and drops what is left.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    wanted: Condvar,
}

#[derive(Debug)]
struct State<T> {
    ready: VecDeque<T>,
    target: usize,
    /// The target to begin with and to come back to.
    least: usize,
    max: usize,
    /// The last attempt failed; the next taker starts another.
    failed: bool,
    /// A taker waits for what is being made.
    awaited: bool,
    /// How often something was asked for.
    takes: u64,
    closed: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Pool<T> {
    /// Keeps `target` things ready, up to `max` on demand. `make` and `discard`, which ends one
    /// that is not needed any more, run on the pool's own thread.
    pub(crate) fn start(
        name: &str,
        target: usize,
        max: usize,
        make: impl Fn() -> io::Result<T> + Send + 'static,
        discard: impl Fn(T) + Send + 'static,
    ) -> io::Result<Self> {
        let state = State {
            ready: VecDeque::new(),
            target: target.min(max),
            least: target.min(max),
            max,
            failed: false,
            awaited: false,
            takes: 0,
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wanted: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(128 * 1024)
            .spawn({
                let shared = Arc::clone(&shared);
                move || fill(&shared, &make, &discard)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The oldest ready thing.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.shared.state();
        state.takes = state.takes.wrapping_add(1);
        if state.ready.is_empty() {
            let being_made = state.target > 0 && !state.failed && !state.closed;
            state.target = (state.target * 2).clamp(1, state.max.max(1)).min(state.max);
            if being_made && !state.awaited {
                state.awaited = true;
                while state.ready.is_empty() && !state.failed && !state.closed {
                    state = self
                        .shared
                        .wanted
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                state.awaited = false;
            }
        }
        state.failed = false;
        let taken = state.ready.pop_front();
        drop(state);
        self.shared.wanted.notify_all();
        taken
    }

    /// Everything that is ready, for the caller to throw away.
    pub(crate) fn drain(&self) -> Vec<T> {
        let drained = std::mem::take(&mut self.shared.state().ready).into();
        self.shared.wanted.notify_all();
        drained
    }

    /// Waits until the pool is full or making failed. For measurements.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        let mut state = self.shared.state();
        while !state.failed && state.ready.len() < state.target {
            state = self
                .shared
                .wanted
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Filling up again waits for this much quiet while enough is left: what has just been taken is
/// for a container that is starting, and the machine is its.
const QUIET: Duration = Duration::from_millis(25);

/// After this much time without a taker the pool is as small as in the beginning.
const LULL: Duration = Duration::from_secs(10);

fn fill<T>(shared: &Shared<T>, make: &impl Fn() -> io::Result<T>, discard: &impl Fn(T)) {
    let mut filling = true;
    loop {
        let mut state = shared.state();
        loop {
            if state.closed {
                return;
            }
            if state.failed || state.ready.len() >= state.target {
                filling = false;
                if state.target <= state.least {
                    state = shared
                        .wanted
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let takes = state.takes;
                let (next, waited) = shared
                    .wanted
                    .wait_timeout(state, LULL)
                    .unwrap_or_else(PoisonError::into_inner);
                state = next;
                if waited.timed_out() && state.takes == takes {
                    state.target = state.least;
                    let least = state.least.min(state.ready.len());
                    let surplus = state.ready.split_off(least);
                    drop(state);
                    surplus.into_iter().for_each(discard);
                    state = shared.state();
                }
                continue;
            }
            if filling || state.ready.len() <= state.target / 2 {
                break;
            }
            let takes = state.takes;
            let (next, waited) = shared
                .wanted
                .wait_timeout(state, QUIET)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            filling = waited.timed_out() && state.takes == takes;
        }
        filling = true;
        drop(state);
        let made = make();
        let mut state = shared.state();
        match made {
            Ok(thing) => state.ready.push_back(thing),
            Err(error) => {
                state.failed = true;
                tracing::warn!(error = %error, "cannot prepare a network namespace ahead");
            }
        }
        drop(state);
        shared.wanted.notify_all();
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let left = std::mem::take(&mut state.ready);
        drop(state);
        self.shared.wanted.notify_all();
        // The pool's own thread may be the last to hold its owner.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn things_come_in_the_order_they_were_made() {
        let count = AtomicU32::new(0);
        let make = move || Ok(count.fetch_add(1, Ordering::Relaxed));
        let pool = Pool::start("test", 2, 4, make, drop).unwrap();
        pool.settle();
        assert_eq!((pool.take(), pool.take()), (Some(0), Some(1)));
    }

    #[test]
    fn a_pool_fills_up_again() {
        let pool = Pool::start("test", 4, 8, || Ok(()), drop).unwrap();
        for taken in 0..20 {
            pool.settle();
            for _ in 0..taken % 6 {
                pool.take();
            }
        }
        pool.settle();
    }

    #[test]
    fn failure_does_not_spin() {
        let pool = Pool::<()>::start("test", 1, 1, || Err(io::Error::other("no")), drop).unwrap();
        pool.settle();
        assert_eq!(pool.take(), None);
    }
}
