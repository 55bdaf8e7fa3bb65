//! Compresses a rotated file bit by bit, so that whoever writes the log never waits for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use crate::rotation::{GzipNote, Origin, suffixed};

/// A file on its way from `NAME` to `NAME.gz`.
#[derive(Debug)]
pub(crate) struct Compressing {
    plain: PathBuf,
    input: File,
    output: GzEncoder<File>,
}

impl Compressing {
    /// Begins with the file `plain`, whose last entry has the given time.
    pub(crate) fn begin(plain: &Path, last_time: Option<String>) -> io::Result<Self> {
        let input = File::open(plain)?;
        let note = GzipNote {
            last_time,
            origin: Some(Origin::of(&input)?),
        };
        let output = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(suffixed(plain, ".gz.tmp"))?;
        let output = GzBuilder::new()
            .extra(serde_json::to_vec(&note)?)
            .write(output, Compression::fast());
        Ok(Self {
            plain: plain.to_owned(),
            input,
            output,
        })
    }

    /// Gives up; the plain file stays.
    pub(crate) fn abandon(self) {
        let _ = fs::remove_file(suffixed(&self.plain, ".gz.tmp"));
    }

    /// Compresses some more. Returns whether that was all.
    pub(crate) fn step(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 32 * 1024];
        let length = self.input.read(&mut chunk)?;
        if length > 0 {
            self.output.write_all(&chunk[..length])?;
            return Ok(false);
        }
        self.output.try_finish()?;
        fs::rename(
            suffixed(&self.plain, ".gz.tmp"),
            suffixed(&self.plain, ".gz"),
        )?;
        fs::remove_file(&self.plain)?;
        Ok(true)
    }
}
