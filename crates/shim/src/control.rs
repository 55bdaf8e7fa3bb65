//! One connection of the daemon: requests in, replies and events out.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;
use wharf_shim_protocol::wire::{self, Decoder};
use wharf_shim_protocol::{Message, RequestFrame};

/// A daemon that leaves this much unread is broken; it can connect again and ask for the state.
const QUEUE_MAX: usize = 1 << 20;

/// A control connection.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) id: u64,
    socket: UnixStream,
    decoder: Decoder,
    queue: VecDeque<Outgoing>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Control {
    pub(crate) fn new(id: u64, socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            id,
            socket,
            decoder: Decoder::default(),
            queue: VecDeque::new(),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn interest(&self) -> PollFlags {
        if self.queue.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        }
    }

    /// Receives once. An error, the end of the stream included, ends the connection.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        match wire::receive(self.socket.as_fd(), &mut self.decoder) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next request received in whole.
    pub(crate) fn next_request(&mut self) -> io::Result<Option<(RequestFrame, Vec<OwnedFd>)>> {
        self.decoder.next()
    }

    /// Sends a message, at once if the daemon takes it.
    pub(crate) fn send(&mut self, message: &Message, fds: Vec<OwnedFd>) -> io::Result<()> {
        self.queue.push_back(Outgoing {
            bytes: wire::encode(message)?,
            sent: 0,
            fds,
        });
        self.flush()?;
        let queued: usize = self
            .queue
            .iter()
            .map(|outgoing| outgoing.bytes.len() - outgoing.sent)
            .sum();
        if queued > QUEUE_MAX {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    }

    /// Sends what is queued, as far as the daemon takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(outgoing) = self.queue.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = outgoing.fds.iter().map(AsFd::as_fd).collect();
            match wire::send(self.socket.as_fd(), &outgoing.bytes[outgoing.sent..], &fds) {
                Ok(count) => outgoing.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            // They went with the first byte.
            outgoing.fds.clear();
            if outgoing.sent == outgoing.bytes.len() {
                self.queue.pop_front();
            }
        }
        Ok(())
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
