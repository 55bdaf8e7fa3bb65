//! Telling and undoing the compression of archives. What counts is how the bytes begin, not what
//! a media type claims.

use std::io::{self, BufRead, Read};

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes. Formats that can not be read here are refused by name.
    pub(crate) fn detect(start: &[u8]) -> io::Result<Self> {
        let unsupported = |name: &str| {
            let text = format!("{name} compression is not supported: use gzip, zstd or none");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A skippable frame, which zstd's parallel compressors put in front.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            _ => Ok(Self::None),
        }
    }

    /// The plain bytes of `source`, and how they were compressed.
    pub(crate) fn decoder<'a, R: BufRead + Send + 'a>(
        mut source: R,
    ) -> io::Result<(Self, Box<dyn Read + Send + 'a>)> {
        let compression = Self::detect(source.fill_buf()?)?;
        let reader: Box<dyn Read + Send + 'a> = match compression {
            Self::None => Box::new(source),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            // The library's own bound on the window (128 MiB) stays: it is the memory one stream
            // can make us take.
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        };
        Ok((compression, reader))
    }
}

/// Reads until the buffer's first bytes can be judged: a source may hand out fewer at once.
pub(crate) fn read_start<R: Read>(source: &mut R, length: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match source.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    start.truncate(filled);
    Ok(start)
}
