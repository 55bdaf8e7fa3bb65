//! Taking a container's interleaved output apart.
//!
//! Without a terminal the engine sends frames on one connection, each with an 8 byte header:
//!
//! ```text
//! +--------+---+---+---+----------------+----------------+
//! | stream | 0 | 0 | 0 | length, u32 BE | length bytes … |
//! +--------+---+---+---+----------------+----------------+
//! ```
//!
//! `stream` is 0 stdin (written to stdout), 1 stdout, 2 stderr, 3 an error of the engine itself.

/// Which stream a piece of output belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output of the container.
    Stdout,
    /// Standard error of the container.
    Stderr,
    /// A message of the engine about a failure of the stream.
    SystemError,
}

/// A frame whose header names no known stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized stream: {0}")]
pub struct UnknownStream(pub u8);

/// Decoder state between two reads; needs no memory beyond one header.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    header: [u8; 8],
    header_len: usize,
    stream: Option<Stream>,
    remaining: u32,
}

impl Demultiplexer {
    /// Feeds the bytes of one read; `sink` gets each piece with its stream.
    pub fn feed<E: From<UnknownStream>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Stream, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if let (Some(stream), 1..) = (self.stream, self.remaining) {
                let take = bytes
                    .len()
                    .min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                let (piece, rest) = bytes.split_at(take);
                self.remaining -= u32::try_from(take).unwrap_or(self.remaining);
                sink(stream, piece)?;
                bytes = rest;
                continue;
            }
            let take = bytes.len().min(8 - self.header_len);
            let (piece, rest) = bytes.split_at(take);
            self.header[self.header_len..self.header_len + take].copy_from_slice(piece);
            self.header_len += take;
            bytes = rest;
            if self.header_len == 8 {
                self.header_len = 0;
                self.stream = Some(match self.header[0] {
                    0 | 1 => Stream::Stdout,
                    2 => Stream::Stderr,
                    3 => Stream::SystemError,
                    other => return Err(UnknownStream(other).into()),
                });
                let length = &self.header[4..];
                self.remaining = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut out = vec![stream, 0, 0, 0];
        out.extend((u32::try_from(data.len()).unwrap()).to_be_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn an_unknown_stream_is_an_error() {
        let result = Demultiplexer::default().feed::<UnknownStream>(&frame(9, b"x"), |_, _| Ok(()));
        assert_eq!(result, Err(UnknownStream(9)));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_streams(
            frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..10),
            chunk in 1usize..50,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(stream, data)| frame(*stream, data)).collect();
            let (mut out, mut err): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
            let mut demultiplexer = Demultiplexer::default();
            for piece in wire.chunks(chunk) {
                demultiplexer.feed::<UnknownStream>(piece, |stream, data| {
                    if stream == Stream::Stdout { out.extend(data) } else { err.extend(data) }
                    Ok(())
                }).unwrap();
            }
            let joined = |wanted| frames.iter().filter(|f| f.0 == wanted).flat_map(|f| f.1.clone()).collect::<Vec<_>>();
            prop_assert_eq!(out, joined(1));
            prop_assert_eq!(err, joined(2));
        }
    }
}
