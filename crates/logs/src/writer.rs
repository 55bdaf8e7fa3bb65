//! Writes a container's output to its log.
//!
//! Bytes come in as they were read from the container; lines are cut out of them, long ones into
//! pieces of at most 16 KiB. All entries of one call share a time and are written in one go, so
//! one read costs one write. What can not be written (a full disk) is dropped as a whole: the file
//! never keeps half an entry and the container never stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use memchr::memchr;

use crate::compression::Compressing;
use crate::entry::Stream;
use crate::json_line;
use crate::local_record::{self, Framed, Partial};
use crate::rotation::{numbered, shift, suffixed};
use crate::target::{Driver, LogTarget};
use crate::timestamp::Stamp;

/// The longest text of one entry, in bytes; longer lines continue in the next.
pub const TEXT_MAX: usize = 16 * 1024;

/// How many formatted bytes are gathered before they are written.
const BATCH: usize = 256 * 1024;

/// Writes one container's log.
#[derive(Debug)]
pub struct LogWriter {
    driver: Driver,
    path: PathBuf,
    max_size: u64,
    max_files: u32,
    compress: bool,
    attrs: Vec<u8>,
    file: Option<File>,
    /// Bytes in the file.
    size: u64,
    /// Formatted entries that are not in the file yet.
    batch: Vec<u8>,
    stdout: Line,
    stderr: Line,
    compressing: Option<Compressing>,
    last_ns: i64,
    dropped: u64,
    /// The first failure since it was last reported.
    failure: Option<io::Error>,
}

/// The line a stream is in the middle of.
#[derive(Debug, Default)]
struct Line {
    /// What has come of it since the last entry.
    pending: Vec<u8>,
    /// Set while the line is longer than one entry.
    partial: Option<PartialLine>,
}

#[derive(Debug)]
struct PartialLine {
    id: String,
    ordinal: u32,
    /// All pieces carry the time of the first.
    time_ns: i64,
}

impl LogWriter {
    /// Opens the log for appending; repairs what a crash left of the last entry.
    pub fn open(target: &LogTarget) -> io::Result<Self> {
        let attrs = match target.driver {
            _ if target.attrs.is_empty() => Vec::new(),
            Driver::JsonFile => serde_json::to_vec(&target.attrs)?,
            Driver::Local => local_record::encode_attrs(
                target.attrs.iter().map(|(k, v)| (k.as_str(), v.as_str())),
            ),
            Driver::None => Vec::new(),
        };
        let mut writer = Self {
            driver: target.driver,
            path: target.path.clone(),
            max_size: target.max_size.unwrap_or(u64::MAX),
            max_files: target.max_files.max(1),
            compress: target.compress,
            attrs,
            file: None,
            size: 0,
            batch: Vec::new(),
            stdout: Line::default(),
            stderr: Line::default(),
            compressing: None,
            last_ns: 0,
            dropped: 0,
            failure: None,
        };
        if writer.driver != Driver::None {
            if let Some(dir) = writer.path.parent() {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir)?;
            }
            writer.open_file()?;
            writer.repair()?;
            writer.resume_compression();
        }
        Ok(writer)
    }

    /// Logs `bytes` that came from `stream` at `now_ns` (nanoseconds since the epoch). An error
    /// says that entries were lost; the writer can be used on.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now_ns: i64) -> io::Result<()> {
        if self.driver == Driver::None {
            return Ok(());
        }
        self.last_ns = now_ns;
        let stamp = Stamp::trimmed(now_ns);
        let mut line = std::mem::take(self.line(stream));
        self.cut_lines(&mut line, stream, bytes, now_ns, &stamp);
        *self.line(stream) = line;
        self.flush();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Logs what is left of lines without a newline: the container has closed its output.
    pub fn finish(&mut self, now_ns: i64) -> io::Result<()> {
        let stamp = Stamp::trimmed(now_ns);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut line = std::mem::take(self.line(stream));
            if !line.pending.is_empty() {
                let text = std::mem::take(&mut line.pending);
                self.entry(&mut line, stream, &text, false, now_ns, &stamp);
            }
        }
        self.flush();
        self.batch = Vec::new();
        // The next writer of this log does it instead of us.
        if let Some(compressing) = self.compressing.take() {
            compressing.abandon();
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Gives back memory that is only needed while a lot is written.
    pub fn relax(&mut self) {
        self.batch = Vec::new();
        for line in [&mut self.stdout, &mut self.stderr] {
            if line.pending.is_empty() {
                line.pending = Vec::new();
            }
        }
    }

    /// Whether [`compress_some`](Self::compress_some) has something to do.
    pub fn wants_to_compress(&self) -> bool {
        self.compressing.is_some()
    }

    /// Compresses a small part of a rotated file; to be called when there is nothing else to do.
    pub fn compress_some(&mut self) {
        if let Some(compressing) = &mut self.compressing {
            match compressing.step() {
                Ok(false) => {}
                // An uncompressed file is as good; it is tried again when the log is next opened.
                Ok(true) | Err(_) => self.compressing = None,
            }
        }
    }

    /// How many bytes of formatted entries were lost because they could not be written.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped
    }

    fn line(&mut self, stream: Stream) -> &mut Line {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn cut_lines(
        &mut self,
        line: &mut Line,
        stream: Stream,
        mut bytes: &[u8],
        now_ns: i64,
        stamp: &Stamp,
    ) {
        while !bytes.is_empty() {
            // A newline must come within TEXT_MAX bytes of the entry's beginning.
            let room = TEXT_MAX - line.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = memchr(b'\n', window) {
                if line.pending.is_empty() {
                    self.entry(line, stream, &window[..end], true, now_ns, stamp);
                } else {
                    line.pending.extend_from_slice(&window[..end]);
                    let mut text = std::mem::take(&mut line.pending);
                    self.entry(line, stream, &text, true, now_ns, stamp);
                    text.clear();
                    line.pending = text;
                }
                bytes = &bytes[end + 1..];
                continue;
            }
            line.pending.extend_from_slice(window);
            bytes = &bytes[window.len()..];
            if line.pending.len() == TEXT_MAX {
                let mut text = std::mem::take(&mut line.pending);
                let end = character_boundary(&text);
                self.entry(line, stream, &text[..end], false, now_ns, stamp);
                text.drain(..end);
                line.pending = text;
            }
        }
    }

    fn entry(
        &mut self,
        line: &mut Line,
        stream: Stream,
        text: &[u8],
        whole: bool,
        now_ns: i64,
        stamp: &Stamp,
    ) {
        if self.size + self.batch.len() as u64 >= self.max_size {
            self.flush();
            if let Err(error) = self.rotate() {
                self.fail(error);
            }
        } else if self.batch.len() >= BATCH {
            self.flush();
        }
        if whole && line.partial.is_none() {
            match self.driver {
                Driver::JsonFile => {
                    json_line::append(
                        &mut self.batch,
                        text,
                        true,
                        stream,
                        &self.attrs,
                        stamp.as_bytes(),
                    );
                }
                Driver::Local => {
                    local_record::append(&mut self.batch, text, stream, None, &self.attrs, now_ns)
                }
                Driver::None => {}
            }
            return;
        }
        let partial = line.partial.get_or_insert_with(|| PartialLine {
            id: format!("{now_ns:032x}{:032x}", self.size + self.batch.len() as u64),
            ordinal: 0,
            time_ns: now_ns,
        });
        partial.ordinal += 1;
        match self.driver {
            Driver::JsonFile => {
                let stamp = Stamp::trimmed(partial.time_ns);
                json_line::append(
                    &mut self.batch,
                    text,
                    whole,
                    stream,
                    &self.attrs,
                    stamp.as_bytes(),
                );
            }
            Driver::Local => {
                let time_ns = partial.time_ns;
                let piece = Partial {
                    id: &partial.id,
                    ordinal: partial.ordinal,
                    last: whole,
                };
                local_record::append(
                    &mut self.batch,
                    text,
                    stream,
                    Some(piece),
                    &self.attrs,
                    time_ns,
                );
            }
            Driver::None => {}
        }
        if whole {
            line.partial = None;
        }
    }

    /// Writes the gathered entries, all or none.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let length = batch.len() as u64;
        match self.append(&batch) {
            Ok(()) => self.size += length,
            Err(error) => {
                self.dropped += length;
                self.fail(error);
            }
        }
        self.batch = batch;
        self.batch.clear();
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            // A rotation failed half way; a new file is better than no log.
            self.open_file()?;
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(bytes).inspect_err(|_| {
            // Half an entry would spoil the next one. If this fails too, readers skip it.
            let _ = file.set_len(self.size);
        })
    }

    fn fail(&mut self, error: io::Error) {
        self.failure.get_or_insert(error);
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Two rotations within one compression: the file must be whole before it moves.
        while self.compressing.is_some() {
            self.compress_some();
        }
        self.file = None;
        shift(&self.path, self.max_files)?;
        self.open_file()?;
        if self.compress && self.max_files > 1 {
            let last = Stamp::fixed(self.last_ns);
            let last = String::from_utf8_lossy(last.as_bytes()).into_owned();
            // Compression saves room; without it the log is still complete.
            self.compressing = Compressing::begin(&numbered(&self.path, 1), Some(last)).ok();
        }
        Ok(())
    }

    fn open_file(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Makes the end of the file the end of an entry.
    fn repair(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if self.size == 0 {
            return Ok(());
        }
        match self.driver {
            Driver::JsonFile => {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                    self.size += 1;
                }
            }
            Driver::Local => {
                let whole = whole_records(file, self.size)?;
                if whole < self.size {
                    file.set_len(whole)?;
                    self.size = whole;
                }
            }
            Driver::None => {}
        }
        Ok(())
    }

    fn resume_compression(&mut self) {
        let rotated = numbered(&self.path, 1);
        let _ = fs::remove_file(suffixed(&rotated, ".gz.tmp"));
        if self.compress && self.max_files > 1 && rotated.exists() {
            self.compressing = Compressing::begin(&rotated, None).ok();
        }
    }
}

/// How many of `size` bytes are whole records.
fn whole_records(file: &mut File, size: u64) -> io::Result<u64> {
    // Only the last record can be torn, so its two lengths tell.
    let mut length = [0; 4];
    if size >= 8 {
        file.seek(SeekFrom::End(-4))?;
        file.read_exact(&mut length)?;
        let total = u64::from(u32::from_be_bytes(length)) + 8;
        if total <= size {
            let mut prefix = [0; 4];
            file.seek(SeekFrom::Start(size - total))?;
            file.read_exact(&mut prefix)?;
            if prefix == length && total > 8 {
                return Ok(size);
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    let mut reader = io::BufReader::new(file);
    let mut whole = 0;
    loop {
        let mut bytes = vec![0; 4];
        match reader.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
        let length = u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        (&mut reader)
            .take((length + 4).min(local_record::RECORD_MAX as u64 + 4))
            .read_to_end(&mut bytes)?;
        match local_record::frame(&bytes) {
            Framed::Record(_, total) => whole += total as u64,
            Framed::Incomplete | Framed::Broken => return Ok(whole),
        }
    }
}

/// Where to cut a full entry so that no character is torn: at most three bytes before its end.
fn character_boundary(text: &[u8]) -> usize {
    let tail = text.len().saturating_sub(3)..text.len();
    for at in tail.rev() {
        let length = match text[at] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => break,
        };
        // The character begins here and does not end in this text.
        return if at + length > text.len() {
            at
        } else {
            text.len()
        };
    }
    text.len()
}
