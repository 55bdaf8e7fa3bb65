//! A bounded pipe of byte chunks between two threads, without system calls and copies per read.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks under way: bounds the memory of one pipe to 2 MiB.
const CHUNK_COUNT_MAX: usize = 8;

enum Message {
    Chunk(Vec<u8>),
    End,
    Failed(io::Error),
}

/// The side that is written to. Dropped without [`PipeWriter::finish`] the reader gets an error.
#[derive(Debug)]
pub(crate) struct PipeWriter {
    sender: SyncSender<Message>,
    chunk: Vec<u8>,
    given_up: Arc<AtomicBool>,
}

/// The side that is read from. Once it is dropped, writes fail.
#[derive(Debug)]
pub(crate) struct PipeReader {
    receiver: Receiver<Message>,
    chunk: Vec<u8>,
    taken: usize,
    ended: bool,
    given_up: Arc<AtomicBool>,
}

pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(CHUNK_COUNT_MAX);
    let given_up = Arc::new(AtomicBool::new(false));
    let writer = PipeWriter {
        sender,
        chunk: Vec::new(),
        given_up: Arc::clone(&given_up),
    };
    (
        writer,
        PipeReader {
            receiver,
            chunk: Vec::new(),
            taken: 0,
            ended: false,
            given_up,
        },
    )
}

impl PipeWriter {
    /// Fills the pipe from a reader, without an extra copy.
    pub(crate) fn copy_from(
        &mut self,
        source: &mut dyn Read,
        mut seen: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let mut filled = 0;
            while filled < CHUNK_BYTES {
                match source.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if filled == 0 {
                return Ok(());
            }
            chunk.truncate(filled);
            seen(&chunk);
            self.send(Message::Chunk(chunk))?;
        }
    }

    /// Ends the stream: the reader sees its end, or the error.
    pub(crate) fn finish(mut self, result: io::Result<()>) {
        let last = std::mem::take(&mut self.chunk);
        if !last.is_empty() && self.send(Message::Chunk(last)).is_err() {
            return;
        }
        let message = match result {
            Ok(()) => Message::End,
            Err(error) => Message::Failed(error),
        };
        drop(self.sender.send(message));
    }

    /// Ends the stream with an error that the reader sees at once, before what is on its way.
    pub(crate) fn give_up(self) {
        self.given_up.store(true, Ordering::Release);
    }

    fn send(&self, message: Message) -> io::Result<()> {
        self.sender
            .send(message)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK_BYTES);
        }
        let length = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..length]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            Ok(())
        } else {
            self.send(Message::Chunk(chunk))
        }
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "the source was closed early");
        if self.given_up.load(Ordering::Acquire) {
            return Err(closed());
        }
        while self.taken == self.chunk.len() && !self.ended {
            match self.receiver.recv() {
                Ok(Message::Chunk(chunk)) => (self.chunk, self.taken) = (chunk, 0),
                Ok(Message::End) => self.ended = true,
                Ok(Message::Failed(error)) => return Err(error),
                Err(_) => return Err(closed()),
            }
        }
        Ok(&self.chunk[self.taken..])
    }

    fn consume(&mut self, length: usize) {
        self.taken += length;
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
