//! One client connected to a process's streams: its socket and what it has not taken yet.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, recvmsg, send,
    sendmsg, shutdown,
};
use wharf_logs::Stream;
use wharf_shim_protocol::AttachMode;

use crate::detach::{DetachKeys, Typed};

/// A client that has this much waiting holds its process up, as Docker does.
const QUEUE_MAX: usize = 1 << 20;

/// Bytes read from a client at once.
const READ_SIZE: usize = 16 * 1024;

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    mode: AttachMode,
    terminal: bool,
    keys: DetachKeys,
    /// Output it has not taken; what is before `sent` it has.
    queue: Vec<u8>,
    sent: usize,
    /// It may still send input.
    typing: bool,
    /// No output follows what is queued.
    ending: bool,
    /// It leaves before its process ends.
    leaving: bool,
}

/// What a client did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It sent something, or nothing yet.
    Input,
    /// It will send nothing any more.
    End,
    /// It left with the detach keys.
    Detached,
    /// It is gone.
    Gone,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd, mode: AttachMode, terminal: bool) -> Self {
        let keys = DetachKeys::new(if terminal {
            mode.detach_keys.clone()
        } else {
            Vec::new()
        });
        let typing = mode.stdin;
        Self {
            socket,
            mode,
            terminal,
            keys,
            queue: Vec::new(),
            sent: 0,
            typing,
            ending: false,
            leaving: false,
        }
    }

    pub(crate) fn token(&self) -> u64 {
        self.mode.token
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What to wait for. An empty set still tells when the client has gone.
    pub(crate) fn interest(&self, takes_input: bool) -> PollFlags {
        let mut interest = PollFlags::empty();
        if self.typing && takes_input {
            interest |= PollFlags::IN;
        }
        if self.has_queued() {
            interest |= PollFlags::OUT;
        }
        interest
    }

    /// Whether its queue is so long that the process has to wait.
    pub(crate) fn is_slow(&self) -> bool {
        self.queue.len() - self.sent >= QUEUE_MAX
    }

    pub(crate) fn has_queued(&self) -> bool {
        self.sent < self.queue.len()
    }

    /// No output follows what is queued; whether that is nothing.
    pub(crate) fn end(&mut self) -> bool {
        self.ending = true;
        self.is_done()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ending && !self.has_queued()
    }

    /// Sends output, as far as the client takes it at once; the rest is queued. Returns whether
    /// the client is still there.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let wanted = match stream {
            Stream::Stdout => self.mode.stdout,
            // A terminal has one output, which clients of either stream get.
            Stream::Stderr => self.mode.stderr,
        };
        if !(wanted || self.terminal && self.mode.stderr) || self.ending {
            return true;
        }
        let mut header = [0; 8];
        let mut header_length = 0;
        if self.mode.multiplexed && !self.terminal {
            header[0] = stream.number();
            // One read's worth of output, far below 4 GiB.
            header[4..]
                .copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            header_length = 8;
        }
        let header = &header[..header_length];
        let mut sent = 0;
        if !self.has_queued() {
            let parts = [IoSlice::new(header), IoSlice::new(bytes)];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(
                &self.socket,
                &parts,
                &mut SendAncillaryBuffer::default(),
                flags,
            ) {
                Ok(count) => sent = count,
                Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return false,
            }
        }
        if sent < header.len() + bytes.len() {
            self.queue
                .extend_from_slice(&header[sent.min(header.len())..]);
            self.queue
                .extend_from_slice(&bytes[sent.saturating_sub(header.len())..]);
        }
        true
    }

    /// Sends what is queued. Returns whether the client is still there.
    pub(crate) fn flush(&mut self) -> bool {
        while self.has_queued() {
            match send(
                &self.socket,
                &self.queue[self.sent..],
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    if self.sent > QUEUE_MAX / 2 {
                        self.queue.drain(..self.sent);
                        self.sent = 0;
                    }
                    return true;
                }
                Err(_) => return false,
            }
        }
        self.queue = Vec::new();
        self.sent = 0;
        true
    }

    /// Reads input once and appends it to `input`.
    pub(crate) fn read(&mut self, input: &mut Vec<u8>) -> Heard {
        let mut bytes = [0; READ_SIZE];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        // Descriptors a client may send are dropped by the kernel: there is no room for them.
        let received = recvmsg(
            &self.socket,
            &mut parts,
            &mut RecvAncillaryBuffer::default(),
            RecvFlags::DONTWAIT,
        );
        let count = match received {
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Heard::Input,
            Err(_) => return Heard::Gone,
        };
        if count == 0 {
            self.typing = false;
            return Heard::End;
        }
        match self.keys.filter(&bytes[..count], input) {
            Typed::Pass => Heard::Input,
            Typed::Detach => Heard::Detached,
        }
    }

    /// Whether it was connected to the input and has not ended its side.
    pub(crate) fn may_type(&self) -> bool {
        self.typing
    }

    /// It leaves when it has got what is queued, though its process goes on.
    pub(crate) fn leave(&mut self) {
        self.ending = true;
        self.leaving = true;
    }

    /// Whether it has got everything and leaves its process running.
    pub(crate) fn has_left(&self) -> bool {
        self.leaving && self.is_done()
    }

    /// Ends the connection for the other side too, however many copies of the socket there are.
    pub(crate) fn hang_up(&self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

impl Drop for Client {
    /// A unix socket that is closed with input unread tells its peer of a reset connection in
    /// place of the end of the output. So no more input is taken, and what is there is dropped.
    fn drop(&mut self) {
        let _ = shutdown(&self.socket, Shutdown::Read);
        let mut bytes = [0_u8; READ_SIZE];
        // A socket's buffer holds less than this; over TCP more may come.
        for _ in 0..64 {
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}
