//! Writing big files past the page cache.
//!
//! A blob of a loaded image is hashed and unpacked while it comes in and then rarely read again:
//! through the cache it would cost a copy, push other things out of memory and be written to the
//! disk at the end all the same.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Alignment of memory and offsets: the most any disk asks for.
const ALIGNMENT_BYTES: usize = 4096;
const BUFFER_BYTES: usize = 1024 * 1024;

/// A file written from its beginning to its end.
#[derive(Debug)]
pub(crate) enum OutFile {
    /// Through the page cache.
    Cached(File),
    /// Past it, in full aligned pieces.
    Direct {
        file: File,
        buffer: Vec<u8>,
        /// Where the aligned part of `buffer` begins.
        start: usize,
        filled: usize,
    },
}

impl OutFile {
    /// Creates a file; past the cache when `size` is worth it and the file system can.
    pub(crate) fn create(path: &Path, size: u64) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        if size >= BUFFER_BYTES as u64 {
            let flag = i32::try_from(OFlags::DIRECT.bits()).expect("open flags fit the C type");
            match options.clone().custom_flags(flag).open(path) {
                Ok(file) => {
                    let buffer = vec![0; BUFFER_BYTES + ALIGNMENT_BYTES];
                    let start = buffer.as_ptr().align_offset(ALIGNMENT_BYTES);
                    return Ok(Self::Direct {
                        file,
                        buffer,
                        start,
                        filled: 0,
                    });
                }
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
        options.open(path).map(Self::Cached)
    }

    /// Writes what is still gathered: the last piece need not be aligned.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let Self::Direct {
            file,
            buffer,
            start,
            filled,
        } = self
        else {
            return Ok(());
        };
        use_cache(file)?;
        file.write_all(&buffer[*start..*start + *filled])?;
        *filled = 0;
        Ok(())
    }
}

fn use_cache(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?)
}

/// Writes a full piece; through the cache from now on where the disk wants it aligned otherwise.
fn write_piece(file: &mut File, mut piece: &[u8]) -> io::Result<()> {
    let mut cached = false;
    while !piece.is_empty() {
        match file.write(piece) {
            Ok(written) => piece = &piece[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if !cached && Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                use_cache(file)?;
                cached = true;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Cached(file) => file.write(bytes),
            Self::Direct {
                file,
                buffer,
                start,
                filled,
            } => {
                let length = bytes.len().min(BUFFER_BYTES - *filled);
                buffer[*start + *filled..*start + *filled + length]
                    .copy_from_slice(&bytes[..length]);
                *filled += length;
                if *filled == BUFFER_BYTES {
                    write_piece(file, &buffer[*start..*start + BUFFER_BYTES])?;
                    *filled = 0;
                }
                Ok(length)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for length in [
            0,
            1,
            4095,
            BUFFER_BYTES - 1,
            BUFFER_BYTES,
            BUFFER_BYTES + 1,
            3 * BUFFER_BYTES + 5000,
        ] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8 ^ (n >> 8) as u8).collect();
            let mut file = OutFile::create(&path, u64::MAX).unwrap();
            for piece in bytes.chunks(77_777) {
                file.write_all(piece).unwrap();
            }
            file.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "{length}");
        }
    }
}
