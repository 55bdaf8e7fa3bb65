//! Frames on a unix stream socket, with descriptors.
//!
//! [`encode`] and [`Decoder`] are pure; [`send`] and [`receive`] move bytes and descriptors over
//! any socket, blocking or not (`WouldBlock` is returned as is), so tokio can use them through
//! `UnixStream::async_io`. [`Connection`] is the blocking whole.
//!
//! Descriptors arrive with the first byte of their frame at the latest and wait in the decoder's
//! queue; each message says how many of them are its own.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Message, RequestFrame};

/// The largest frame accepted, in bytes without its length.
pub const FRAME_MAX: usize = 4 << 20;

/// The most descriptors in one frame.
pub const FDS_MAX: usize = 32;

/// A message that can be a frame.
pub trait Frame: Serialize + DeserializeOwned {
    /// How many descriptors travel with it.
    fn fd_count(&self) -> usize;
}

impl Frame for RequestFrame {
    fn fd_count(&self) -> usize {
        self.fds
    }
}

impl Frame for Message {
    fn fd_count(&self) -> usize {
        self.fds()
    }
}

/// The bytes of a frame.
pub fn encode<F: Frame>(message: &F) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > FRAME_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("frame of {length} bytes is too long"),
        ));
    }
    let length = u32::try_from(length).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Turns received bytes and descriptors into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a received descriptor.
    pub fn push_fd(&mut self, fd: OwnedFd) {
        self.fds.push_back(fd);
    }

    /// Decodes the next whole message and its descriptors; `None` when more bytes are needed. After an
    /// error the connection is of no use any more.
    #[allow(
        clippy::should_implement_trait,
        reason = "it is generic over the message"
    )]
    pub fn next<F: Frame>(&mut self) -> io::Result<Option<(F, Vec<OwnedFd>)>> {
        let Some(prefix) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > FRAME_MAX {
            return Err(invalid(format!("frame of {length} bytes is too long")));
        }
        let Some(body) = self.bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let message: F =
            serde_json::from_slice(body).map_err(|error| invalid(format!("bad frame: {error}")))?;
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() {
            // Start messages are large and come once: do not keep their room.
            self.bytes = Vec::new();
        }
        let count = message.fd_count();
        if count > self.fds.len() {
            return Err(invalid(format!(
                "{count} descriptors announced, {} received",
                self.fds.len()
            )));
        }
        Ok(Some((message, self.fds.drain(..count).collect())))
    }
}

/// Sends `bytes`, which begin a frame if there are `fds`. Returns how many bytes went; the
/// descriptors went with them if any did.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > FDS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} descriptors are too many", fds.len()),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no room for the descriptors",
        ));
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}

/// Receives once into `decoder`. Returns how many bytes came; 0 means the peer has gone.
pub fn receive(socket: BorrowedFd<'_>, decoder: &mut Decoder) -> io::Result<usize> {
    let mut chunk = [0; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut chunk)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fds.for_each(|fd| decoder.push_fd(fd));
        }
    }
    decoder.push(&chunk[..received.bytes]);
    Ok(received.bytes)
}

/// A blocking connection: sends whole frames, waits for whole frames.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    decoder: Decoder,
}

impl Connection {
    /// Talks over `socket`.
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            decoder: Decoder::default(),
        }
    }

    /// The socket, for timeouts and polling.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends one message with its descriptors.
    pub fn send<F: Frame>(&mut self, message: &F, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = encode(message)?;
        let mut sent = send(self.socket.as_fd(), &bytes, fds)?;
        while sent < bytes.len() {
            sent += send(self.socket.as_fd(), &bytes[sent..], &[])?;
        }
        Ok(())
    }

    /// Waits for the next message; `None` when the peer has closed.
    pub fn receive<F: Frame>(&mut self) -> io::Result<Option<(F, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            match receive(self.socket.as_fd(), &mut self.decoder) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Event, Failure, FailureKind, Reply, Request, Target};

    fn reply(id: u64, fds: usize) -> Message {
        Message::Reply {
            id,
            fds,
            result: Ok(Reply::Held {
                names: vec![format!("fd{id}"); fds],
            }),
        }
    }

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (one, two) = UnixStream::pair().unwrap();
        let (mut one, mut two) = (Connection::new(one), Connection::new(two));
        let file = tempfile::tempfile().unwrap();
        one.send(&reply(1, 0), &[]).unwrap();
        one.send(&reply(2, 2), &[file.as_fd(), file.as_fd()])
            .unwrap();
        one.send(&reply(3, 1), &[file.as_fd()]).unwrap();
        for (id, count) in [(1, 0), (2, 2), (3, 1)] {
            let (message, fds) = two.receive::<Message>().unwrap().unwrap();
            assert!(matches!(message, Message::Reply { id: got, .. } if got == id));
            assert_eq!(fds.len(), count);
        }
        drop(one);
        assert!(two.receive::<Message>().unwrap().is_none());
    }

    #[test]
    fn a_large_frame_passes() {
        let (one, two) = UnixStream::pair().unwrap();
        let (mut one, mut two) = (Connection::new(one), Connection::new(two));
        let text = "x".repeat(1 << 20);
        let sent = text.clone();
        let sender = std::thread::spawn(move || {
            let failure = Failure::new(FailureKind::System, sent);
            one.send(
                &Message::Reply {
                    id: 7,
                    fds: 0,
                    result: Err(failure),
                },
                &[],
            )
            .unwrap();
        });
        let (message, _) = two.receive::<Message>().unwrap().unwrap();
        let Message::Reply {
            result: Err(failure),
            ..
        } = message
        else {
            panic!("a failure was sent")
        };
        assert_eq!(failure.message, text);
        sender.join().unwrap();
    }

    #[test]
    fn announced_descriptors_must_be_there() {
        let mut decoder = Decoder::default();
        decoder.push(&encode(&reply(1, 1)).unwrap());
        assert!(decoder.next::<Message>().is_err());
    }

    #[test]
    fn requests_read_back() {
        let frame = RequestFrame {
            id: 9,
            fds: 0,
            op: Request::Signal {
                target: Target::Exec("e".into()),
                signal: 15,
                all: false,
                origin: Default::default(),
            },
        };
        let mut decoder = Decoder::default();
        for byte in encode(&frame).unwrap() {
            assert!(decoder.next::<RequestFrame>().unwrap().is_none());
            decoder.push(&[byte]);
        }
        let (back, _) = decoder.next::<RequestFrame>().unwrap().unwrap();
        assert!(
            matches!(back.op, Request::Signal { signal: 15, target: Target::Exec(id), .. } if id == "e")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next::<Message>() {}
        }

        #[test]
        fn frames_survive_any_splitting(code in any::<i32>(), cut in 1usize..40) {
            let event = Message::Event(Event::ExecExited { exec_id: "x".into(), exit_code: code });
            let mut bytes = encode(&event).unwrap();
            bytes.extend(encode(&event).unwrap());
            let mut decoder = Decoder::default();
            let mut seen = 0;
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                while let Some((message, _)) = decoder.next::<Message>().unwrap() {
                    let Message::Event(Event::ExecExited { exit_code, .. }) = message else { panic!("an event") };
                    assert_eq!(exit_code, code);
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, 2);
        }
    }
}
