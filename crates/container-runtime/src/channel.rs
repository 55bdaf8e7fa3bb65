//! What parent and child tell each other while a process starts: one packet per message over a
//! socket pair that exec closes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use wharf_sys::scm;

use crate::error::{Stage, StartError};

/// First bytes of the packets.
const TERMINAL: u8 = b'T';
const MOUNTED: u8 = b'M';
const READY: u8 = b'R';
const LISTENER: u8 = b'L';
const FAILED: u8 = b'E';
const GO: u8 = b'G';
const BORN: u8 = b'B';
const SUPPLY: u8 = b'S';

/// Room for the longest packet: an error with its subject.
const PACKET_MAX: usize = 8192;

/// The parent's end.
#[derive(Debug)]
pub(crate) struct ParentEnd(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(crate) struct ChildEnd(OwnedFd);

/// User and group, and descriptors in their places.
pub(crate) type Supplied = ((u32, u32), Vec<Option<OwnedFd>>);

/// Both ends of a new channel.
pub(crate) fn pair() -> Result<(ParentEnd, ChildEnd), StartError> {
    let (parent, child) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| StartError::new(Stage::Clone, errno, "socket pair"))?;
    Ok((ParentEnd(parent), ChildEnd(child)))
}

/// What the child said.
#[derive(Debug)]
pub(crate) enum Report {
    /// The master of its terminal.
    Terminal(OwnedFd),
    /// The listener of its filter, which waits to be handed on.
    Listener(OwnedFd),
    /// The same by its number in the child.
    ListenerNumber(RawFd),
    /// Everything is mounted and the root is about to change: hooks are due.
    Mounted,
    /// Everything is done and the user's program waits for the word.
    Ready,
    /// A process that was made in the child's place.
    Born(OwnedFd),
    /// The user's program runs (or the child is dead).
    Closed,
}

impl ParentEnd {
    /// Lets the child go on.
    pub(crate) fn go(&self) -> Result<(), StartError> {
        self.go_with(&[])
    }

    /// Lets the child go on with these descriptors.
    pub(crate) fn go_with(&self, fds: &[BorrowedFd<'_>]) -> Result<(), StartError> {
        match scm::send(&self.0, &[GO], fds) {
            // The child is dead or has failed: its report says so.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(StartError::new(Stage::Clone, errno, "")),
        }
    }

    /// Hands over descriptors, some of which may be missing, and the IDs `as_whom` the child is to
    /// use them.
    pub(crate) fn supply(
        &self,
        as_whom: (u32, u32),
        places: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), StartError> {
        for places in places.chunks(scm::FDS_MAX) {
            let mut packet = vec![SUPPLY];
            packet.extend(as_whom.0.to_le_bytes());
            packet.extend(as_whom.1.to_le_bytes());
            packet.extend(places.iter().map(|place| u8::from(place.is_some())));
            let fds: Vec<BorrowedFd<'_>> = places.iter().copied().flatten().collect();
            match scm::send(&self.0, &packet, &fds) {
                // The child is dead or has failed: its report says so.
                Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
                Err(errno) => return Err(StartError::new(Stage::Clone, errno, "descriptors")),
            }
        }
        Ok(())
    }

    /// Waits for the child's next word; its failure is ours.
    pub(crate) fn report(&self) -> Result<Report, StartError> {
        let mut packet = [0; PACKET_MAX];
        let (count, mut fds) = loop {
            match scm::receive(&self.0, &mut packet) {
                // A child that ends with a word of ours unread leaves this error, once, in front
                // of what it has said.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                other => break other.map_err(|errno| StartError::new(Stage::Clone, errno, ""))?,
            }
        };
        let died = || StartError::refused(Stage::Died, "");
        match packet.get(..count) {
            Some([]) => Ok(Report::Closed),
            Some([TERMINAL, ..]) => Ok(Report::Terminal(fds.pop().ok_or_else(died)?)),
            Some([LISTENER, a, b, c, d]) => Ok(match fds.pop() {
                Some(listener) => Report::Listener(listener),
                None => Report::ListenerNumber(RawFd::from_le_bytes([*a, *b, *c, *d])),
            }),
            Some([MOUNTED, ..]) => Ok(Report::Mounted),
            Some([READY, ..]) => Ok(Report::Ready),
            Some([BORN, ..]) => Ok(Report::Born(fds.pop().ok_or_else(died)?)),
            Some([FAILED, error @ ..]) => Err(StartError::decode(error).unwrap_or_else(died)),
            _ => Err(died()),
        }
    }
}

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ChildEnd {
    /// Waits for the parent's word, and takes the descriptors that come with it. If the parent is
    /// gone, so is the reason to live.
    pub(crate) fn wait(&self) -> Result<Vec<OwnedFd>, StartError> {
        let mut word = [0];
        loop {
            match scm::receive(&self.0, &mut word) {
                Ok((1, fds)) if word[0] == GO => return Ok(fds),
                Err(Errno::INTR) => {}
                _ => return Err(StartError::refused(Stage::Died, "")),
            }
        }
    }

    /// Waits for `count` places the parent [supplies](ParentEnd::supply).
    pub(crate) fn supplies(&self, count: usize) -> Result<Supplied, StartError> {
        let died = || StartError::refused(Stage::Died, "");
        let mut as_whom = (0, 0);
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            let mut packet = [0; 9 + scm::FDS_MAX];
            let (length, fds) = match scm::receive(&self.0, &mut packet) {
                Err(Errno::INTR) => continue,
                other => other.map_err(|_| died())?,
            };
            let mut fds = fds.into_iter();
            let Some([SUPPLY, u0, u1, u2, u3, g0, g1, g2, g3, present @ ..]) = packet.get(..length)
            else {
                return Err(died());
            };
            as_whom = (
                u32::from_le_bytes([*u0, *u1, *u2, *u3]),
                u32::from_le_bytes([*g0, *g1, *g2, *g3]),
            );
            for present in present {
                places.push(match present {
                    0 => None,
                    // A descriptor may have been lost to a limit.
                    _ => Some(fds.next().ok_or_else(|| {
                        StartError::new(Stage::Clone, Errno::MFILE, "descriptors")
                    })?),
                });
            }
        }
        Ok((as_whom, places))
    }

    /// Hands over the process made in our place.
    pub(crate) fn send_born(&self, pidfd: impl AsFd) -> Result<(), StartError> {
        scm::send(&self.0, &[BORN], &[pidfd.as_fd()])
            .map(drop)
            .map_err(|errno| StartError::new(Stage::Clone, errno, ""))
    }

    /// Hands over the terminal's master.
    pub(crate) fn send_terminal(&self, master: impl AsFd) -> Result<(), StartError> {
        scm::send(&self.0, &[TERMINAL], &[master.as_fd()])
            .map(drop)
            .map_err(|errno| StartError::new(Stage::Terminal, errno, ""))
    }

    /// Says that everything is mounted.
    pub(crate) fn send_mounted(&self) -> Result<(), StartError> {
        self.send(MOUNTED)
    }

    /// Says that only the user's program is missing.
    pub(crate) fn send_ready(&self) -> Result<(), StartError> {
        self.send(READY)
    }

    fn send(&self, word: u8) -> Result<(), StartError> {
        scm::send(&self.0, &[word], &[])
            .map(drop)
            .map_err(|errno| StartError::new(Stage::Clone, errno, ""))
    }

    /// Hands over the listener of the filter that is now installed: by the one call no filter
    /// leaves to its listener, or as a message where the filter lets that through.
    pub(crate) fn send_listener(
        &self,
        listener: &OwnedFd,
        as_message: bool,
    ) -> Result<(), StartError> {
        let mut packet = vec![LISTENER];
        packet.extend(listener.as_raw_fd().to_le_bytes());
        let sent = if as_message {
            scm::send(&self.0, &packet, &[listener.as_fd()])
        } else {
            rustix::io::write(&self.0, &packet)
        };
        sent.map(drop)
            .map_err(|errno| StartError::new(Stage::Seccomp, errno, "listener"))
    }

    /// Says what failed. Nothing can be done if that fails too.
    pub(crate) fn send_error(&self, error: &StartError) {
        let mut packet = vec![FAILED];
        packet.extend(error.encode());
        let _ = scm::send(&self.0, &packet, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supplies_arrive_in_their_places() {
        let (parent, child) = pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let places: Vec<_> = (0..50)
            .map(|index| (index % 3 != 0).then(|| null.as_fd()))
            .collect();
        parent.supply((7, 8), &places).unwrap();
        let (as_whom, supplied) = child.supplies(50).unwrap();
        assert_eq!(as_whom, (7, 8));
        for (index, place) in supplied.iter().enumerate() {
            assert_eq!(place.is_some(), index % 3 != 0);
        }
    }

    #[test]
    fn a_failure_is_heard_even_if_our_word_was_not() {
        let (parent, child) = pair().unwrap();
        let error = StartError::new(Stage::Mount, Errno::NOENT, "x");
        parent.go().unwrap();
        child.send_error(&error);
        drop(child);
        parent.go().unwrap();
        assert_eq!(parent.report().unwrap_err(), error);
        assert!(matches!(parent.report(), Ok(Report::Closed)));
    }
}
