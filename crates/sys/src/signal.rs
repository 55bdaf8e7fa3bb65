//! Signal masks, dispositions and signals as a descriptor.

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::last_error;

/// A set of signals, by number.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries((1..=64).filter(|signal| self.contains(*signal)))
            .finish()
    }
}

impl SignalSet {
    /// No signal.
    pub fn empty() -> Self {
        let mut set = mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the whole set it is given.
        Self(unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        })
    }

    /// Every signal.
    pub fn all() -> Self {
        let mut set = mem::MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the whole set it is given.
        Self(unsafe {
            libc::sigfillset(set.as_mut_ptr());
            set.assume_init()
        })
    }

    /// These signals; numbers that are none are left out.
    pub fn of(signals: &[i32]) -> Self {
        let mut set = Self::empty();
        for signal in signals {
            // SAFETY: the set is initialised; wrong numbers make the call fail without effect.
            unsafe { libc::sigaddset(&raw mut set.0, *signal) };
        }
        set
    }

    /// Whether `signal` is in it.
    pub fn contains(&self, signal: i32) -> bool {
        // SAFETY: the set is initialised; wrong numbers answer -1.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }
}

/// The signal with this number, real-time ones included; `None` if there is none.
pub fn by_number(number: i32) -> Option<Signal> {
    // SAFETY: the number is one of a signal that can be sent. Those the C library keeps for its
    // threads (32 and 33) are only ever sent to other programs, for which they have no meaning.
    (1..=64)
        .contains(&number)
        .then(|| unsafe { Signal::from_raw_unchecked(number) })
}

/// Replaces the calling thread's signal mask and returns the old one.
pub fn set_mask(mask: SignalSet) -> Result<SignalSet, Errno> {
    let mut old = SignalSet::empty();
    // SAFETY: both sets are initialised and outlive the call.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask.0, &raw mut old.0) };
    if result == 0 {
        Ok(old)
    } else {
        Err(Errno::from_raw_os_error(result))
    }
}

/// Gives every signal its default disposition and unblocks all: what a program expects when it is
/// started. Handlers are reset by exec anyway, but what is ignored (`SIGPIPE` by the Rust runtime,
/// anything by whoever started us) would stay so.
pub fn reset_all() -> Result<(), Errno> {
    /// The kernel's `struct sigaction`, big enough for every architecture; all zero is `SIG_DFL`.
    const DEFAULT: [u64; 4] = [0; 4];
    /// Bytes of the kernel's signal set.
    const SET_SIZE: usize = 8;
    for signal in 1..=64 {
        // SAFETY: the action is a valid, zeroed structure and installs no handler. The raw call
        // also reaches the two signals glibc keeps for itself, which it uses with threads only.
        // SIGKILL and SIGSTOP answer EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null_mut::<u64>(),
                SET_SIZE,
            )
        };
    }
    set_mask(SignalSet::empty()).map(drop)
}

/// Waits for one of `signals`, which must be blocked, and takes it: its number.
pub fn wait_for(signals: SignalSet) -> Result<i32, Errno> {
    // SAFETY: the set is initialised; a null pointer asks for no details.
    let signal = unsafe { libc::sigwaitinfo(&raw const signals.0, ptr::null_mut()) };
    if signal < 0 {
        Err(last_error())
    } else {
        Ok(signal)
    }
}

/// A signal received by descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Who sent it, or which child it is about.
    pub pid: i32,
}

/// Signals as a descriptor: readable while one is pending. They must be blocked as well.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// A descriptor for `signals`, non-blocking and close-on-exec.
    pub fn new(signals: SignalSet) -> Result<Self, Errno> {
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe {
            libc::signalfd(
                -1,
                &raw const signals.0,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            )
        };
        if fd < 0 {
            return Err(last_error());
        }
        // SAFETY: the kernel has just made it, nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal; `None` when there is none.
    pub fn read(&self) -> Result<Option<Received>, Errno> {
        // SAFETY: the structure is all integers, for which zero is valid.
        let mut info: libc::signalfd_siginfo = unsafe { mem::zeroed() };
        let size = mem::size_of_val(&info);
        // SAFETY: the buffer is one record of the size given; the kernel writes whole records.
        let count =
            unsafe { libc::read(self.0.as_raw_fd(), ptr::from_mut(&mut info).cast(), size) };
        if count < 0 {
            return match last_error() {
                Errno::AGAIN | Errno::INTR => Ok(None),
                errno => Err(errno),
            };
        }
        let signal = i32::try_from(info.ssi_signo).map_err(|_| Errno::INVAL)?;
        let pid = i32::try_from(info.ssi_pid).map_err(|_| Errno::INVAL)?;
        Ok(Some(Received { signal, pid }))
    }
}

impl std::os::fd::AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read() {
        let set = SignalSet::of(&[libc::SIGUSR1, 999]);
        let old = set_mask(set).unwrap();
        let signals = SignalFd::new(set).unwrap();
        assert_eq!(signals.read().unwrap(), None);
        // SAFETY: sends a blocked signal to this thread.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(
            signals.read().unwrap().map(|received| received.signal),
            Some(libc::SIGUSR1)
        );
        set_mask(old).unwrap();
    }
}
