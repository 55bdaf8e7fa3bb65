//! Reads a log: all of it or the last entries, once or following what comes.
//!
//! A reader opens all files of the log between two rotations and then goes through them with
//! large reads. Entries are borrowed from its buffer and handed to a closure; nothing is allocated
//! per entry. When it has come to the end of the file that is being written it says so
//! ([`Progress::CaughtUp`]) and can be asked again when a [`Watch`] wakes: it then finds the
//! successors of its file however often the log was rotated meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;
use memchr::{memchr, memchr_iter, memrchr_iter};

use crate::entry::{Entry, Stream};
use crate::json_line;
use crate::local_record::{self, Framed};
use crate::render::{self, Format};
use crate::rotation::{self, LogFile};
use crate::target::{Driver, LogTarget};
use crate::watch::Watch;

/// Bytes asked for in one read.
const CHUNK: usize = 256 * 1024;

/// The longest line of a json-file that is looked at; a longer one is no log entry.
const LINE_MAX: usize = 4 << 20;

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Those of standard output.
    pub stdout: bool,
    /// Those of standard error.
    pub stderr: bool,
    /// Not older than this, in nanoseconds since the epoch.
    pub since_ns: Option<i64>,
    /// Not younger than this; reading ends with the first younger one. A follower that is to end
    /// when the time has come, though nothing is written then, is ended by its owner.
    pub until_ns: Option<i64>,
    /// Only the last so many of both streams, counted before the other conditions apply (as
    /// Docker does).
    pub tail: Option<u64>,
    /// Go on with what is written later.
    pub follow: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            stdout: true,
            stderr: true,
            since_ns: None,
            until_ns: None,
            tail: None,
            follow: false,
        }
    }
}

/// Where a reader is after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to read now.
    More,
    /// All that is written was read; more may come (only with [`Query::follow`]).
    CaughtUp,
    /// Nothing more will come.
    Finished,
}

/// Reads one container's log.
#[derive(Debug)]
pub struct LogReader {
    driver: Driver,
    path: PathBuf,
    query: Query,
    /// The files still to be read, oldest first.
    files: VecDeque<Source>,
    /// The file that was read last, by which its successor is found.
    last: Option<LogFile>,
    buffer: Vec<u8>,
    /// Where the first unread byte of `buffer` is.
    start: usize,
    /// In the middle of something that is too long to be an entry.
    skipping: bool,
    container_ended: bool,
    finished: bool,
}

impl LogReader {
    /// Opens the log of `target`. A log that was never written is empty; the driver `none` has
    /// nothing to read, which is [`io::ErrorKind::Unsupported`].
    pub fn open(target: &LogTarget, query: Query) -> io::Result<Self> {
        if target.driver == Driver::None {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "configured logging driver does not support reading",
            ));
        }
        let files = rotation::open_all(&target.path)?;
        let mut reader = Self {
            driver: target.driver,
            path: target.path.clone(),
            query,
            files: files.into_iter().map(Source::new).collect(),
            last: None,
            buffer: Vec::new(),
            start: 0,
            skipping: false,
            container_ended: false,
            finished: false,
        };
        match reader.query.tail {
            Some(tail) => reader.keep_last(tail)?,
            None => reader.pass_over_old_files()?,
        }
        Ok(reader)
    }

    /// A watch on this log, to be made before the first batch is read.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::on(&self.path)
    }

    /// Says that the container has ended and its log is complete: a following reader finishes
    /// when it has read all.
    pub fn container_ended(&mut self) {
        self.container_ended = true;
    }

    /// Reads on: calls `each` for some entries, as many as one read brings.
    pub fn next_batch(&mut self, mut each: impl FnMut(&Entry<'_>)) -> io::Result<Progress> {
        while !self.finished {
            if self.files.is_empty() && self.query.follow {
                self.open_successors()?;
            }
            if self.files.is_empty() {
                // Not written yet, or caught between the two steps of a rotation.
                return Ok(self.caught_up(&mut each));
            }
            if self.fill()? > 0 {
                self.decode(false, &mut each);
                return Ok(if self.finished {
                    self.finish()
                } else {
                    Progress::More
                });
            }
            if !self.first_is_complete()? {
                return Ok(self.caught_up(&mut each));
            }
            // Something may have been written between our read and the rotation.
            if self.fill()? == 0 {
                self.decode(true, &mut each);
                self.next_file();
            } else {
                self.decode(false, &mut each);
            }
        }
        Ok(self.finish())
    }

    /// Reads on like [`next_batch`](Self::next_batch) and appends the entries as `docker logs`
    /// sends them.
    pub fn render_batch(&mut self, format: Format, out: &mut Vec<u8>) -> io::Result<Progress> {
        self.next_batch(|entry| render::append(entry, format, out))
    }

    /// All that is there was read: waits, or ends with what is left in the buffer.
    fn caught_up(&mut self, each: &mut impl FnMut(&Entry<'_>)) -> Progress {
        if self.query.follow && !self.container_ended {
            if self.start == self.buffer.len() {
                self.buffer = Vec::new();
                self.start = 0;
            }
            return Progress::CaughtUp;
        }
        self.decode(true, each);
        self.finish()
    }

    fn finish(&mut self) -> Progress {
        self.finished = true;
        self.files.clear();
        self.last = None;
        self.buffer = Vec::new();
        self.start = 0;
        Progress::Finished
    }

    /// Reads some more of the first file; 0 at its end (for now).
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let Some(source) = self.files.front_mut() else {
            return Ok(0);
        };
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let result = source.read(&mut self.buffer[filled..]);
        self.buffer
            .truncate(filled + *result.as_ref().unwrap_or(&0));
        result
    }

    /// Whether the first file will not grow any more.
    fn first_is_complete(&self) -> io::Result<bool> {
        let Some(first) = self.files.front() else {
            return Ok(true);
        };
        let inode = match &first.file {
            LogFile::Plain { inode, .. } if self.files.len() == 1 => *inode,
            _ => return Ok(true),
        };
        // Without `follow` the file that was newest when we began is the last one.
        Ok(self.query.follow && rotation::current_inode(&self.path)? != Some(inode))
    }

    fn next_file(&mut self) {
        self.last = self.files.pop_front().map(|source| source.file);
        self.buffer.clear();
        self.start = 0;
        self.skipping = false;
    }

    /// Opens the files that were begun after the last one read.
    fn open_successors(&mut self) -> io::Result<()> {
        let files = rotation::open_all(&self.path)?;
        let mut read_before = 0;
        if let Some(last) = &self.last {
            for (index, file) in files.iter().enumerate() {
                if last.is_same(file)? {
                    read_before = index + 1;
                }
            }
        }
        self.files = files
            .into_iter()
            .skip(read_before)
            .map(Source::new)
            .collect();
        Ok(())
    }

    /// Hands out the whole entries in the buffer; with `whole_file` nothing follows them.
    fn decode(&mut self, whole_file: bool, each: &mut impl FnMut(&Entry<'_>)) {
        match self.driver {
            Driver::JsonFile => self.decode_lines(whole_file, each),
            Driver::Local => self.decode_records(each),
            Driver::None => {}
        }
    }

    fn decode_lines(&mut self, whole_file: bool, each: &mut impl FnMut(&Entry<'_>)) {
        while self.start < self.buffer.len() && !self.finished {
            let unread = &self.buffer[self.start..];
            let (line, taken) = match memchr(b'\n', unread) {
                Some(end) => (&unread[..end], end + 1),
                None if whole_file => (unread, unread.len()),
                None if unread.len() > LINE_MAX => {
                    self.skipping = true;
                    self.start = self.buffer.len();
                    return;
                }
                None => return,
            };
            self.start += taken;
            if std::mem::take(&mut self.skipping)
                || self.files.front_mut().is_some_and(Source::passes_over)
            {
                continue;
            }
            if let Some(entry) = json_line::parse(line) {
                self.finished |= deliver(&self.query, &entry, each);
            }
        }
    }

    fn decode_records(&mut self, each: &mut impl FnMut(&Entry<'_>)) {
        if self.skipping {
            self.start = self.buffer.len();
        }
        while self.start < self.buffer.len() && !self.finished {
            let (record, taken) = match local_record::frame(&self.buffer[self.start..]) {
                Framed::Record(record, taken) => (record, taken),
                Framed::Incomplete => return,
                Framed::Broken => {
                    // Nothing tells where the next record begins: the rest of this file is lost.
                    self.skipping = true;
                    self.start = self.buffer.len();
                    return;
                }
            };
            self.start += taken;
            if self.files.front_mut().is_some_and(Source::passes_over) {
                continue;
            }
            if let Some(entry) = local_record::parse(record) {
                self.finished |= deliver(&self.query, &entry, each);
            }
        }
    }

    /// Leaves only the last `tail` entries of all files to be read.
    fn keep_last(&mut self, mut tail: u64) -> io::Result<()> {
        let mut first = self.files.len();
        for (index, source) in self.files.iter_mut().enumerate().rev() {
            first = index;
            tail -= source.keep_last(self.driver, tail)?;
            if tail == 0 {
                break;
            }
        }
        self.files.drain(..first);
        Ok(())
    }

    /// Drops rotated files that were last written before anything that is wanted.
    fn pass_over_old_files(&mut self) -> io::Result<()> {
        let Some(since_ns) = self.query.since_ns else {
            return Ok(());
        };
        while self.files.len() > 1 {
            let LogFile::Plain { file, .. } = &self.files[0].file else {
                return Ok(());
            };
            let metadata = file.metadata()?;
            let written_ns = metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec());
            if written_ns >= since_ns {
                return Ok(());
            }
            self.files.pop_front();
        }
        Ok(())
    }
}

/// Calls `each` if the entry is wanted. Returns whether nothing wanted can follow.
fn deliver(query: &Query, entry: &Entry<'_>, each: &mut impl FnMut(&Entry<'_>)) -> bool {
    if query.since_ns.is_some() || query.until_ns.is_some() {
        let time_ns = entry.time_ns();
        if query.until_ns.is_some_and(|until| time_ns > until) {
            return true;
        }
        if query.since_ns.is_some_and(|since| time_ns < since) {
            return false;
        }
    }
    let wanted = match entry.stream {
        Stream::Stdout => query.stdout,
        Stream::Stderr => query.stderr,
    };
    if wanted {
        each(entry);
    }
    false
}

/// One file being read.
#[derive(Debug)]
struct Source {
    file: LogFile,
    /// Present for a compressed file once it is read.
    decoder: Option<Box<MultiGzDecoder<BufReader<File>>>>,
    /// Entries to pass over first.
    skip: u64,
}

impl Source {
    fn new(file: LogFile) -> Self {
        Self {
            file,
            decoder: None,
            skip: 0,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match &mut self.file {
                LogFile::Plain { file, .. } => file.read(into),
                LogFile::Gzip { file, .. } => {
                    let decoder = match &mut self.decoder {
                        Some(decoder) => decoder,
                        none => none.insert(Box::new(MultiGzDecoder::new(BufReader::new(
                            file.try_clone()?,
                        )))),
                    };
                    // A compressed file that was cut off gives what is left of it.
                    decoder.read(into).or(Ok(0))
                }
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn passes_over(&mut self) -> bool {
        let pass = self.skip > 0;
        self.skip -= u64::from(pass);
        pass
    }

    /// Arranges that only the last `count` entries are read. Returns how many there are of them.
    fn keep_last(&mut self, driver: Driver, count: u64) -> io::Result<u64> {
        if let LogFile::Plain { file, .. } = &mut self.file {
            let found = match driver {
                Driver::JsonFile => Some(seek_to_last_lines(file, count)?),
                Driver::Local => seek_to_last_records(file, count)?,
                Driver::None => Some(0),
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let total = self.count(driver)?;
        self.skip = total.saturating_sub(count);
        Ok(total.min(count))
    }

    /// Counts the entries by reading the file, and goes back to its beginning.
    fn count(&mut self, driver: Driver) -> io::Result<u64> {
        let mut total = 0;
        let mut buffer = Vec::new();
        loop {
            let filled = buffer.len();
            buffer.resize(filled + CHUNK, 0);
            let got = self.read(&mut buffer[filled..])?;
            buffer.truncate(filled + got);
            if got == 0 {
                break;
            }
            match driver {
                Driver::Local => {
                    let mut start = 0;
                    loop {
                        match local_record::frame(&buffer[start..]) {
                            Framed::Record(_, taken) => {
                                start += taken;
                                total += 1;
                            }
                            Framed::Incomplete => break,
                            Framed::Broken => {
                                self.rewind()?;
                                return Ok(total);
                            }
                        }
                    }
                    buffer.drain(..start);
                }
                Driver::JsonFile | Driver::None => {
                    total += memchr_iter(b'\n', &buffer).count() as u64;
                    buffer.clear();
                }
            }
        }
        self.rewind()?;
        Ok(total)
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.decoder = None;
        match &mut self.file {
            LogFile::Plain { file, .. } | LogFile::Gzip { file, .. } => {
                file.seek(SeekFrom::Start(0)).map(|_| ())
            }
        }
    }
}

/// Moves to the last `count` lines, reading backwards. Returns how many lines there are from there.
fn seek_to_last_lines(file: &mut File, count: u64) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut newlines = 0;
    let mut chunk = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        chunk.resize(usize::try_from(end - begin).map_err(io::Error::other)?, 0);
        file.read_exact_at(&mut chunk, begin)?;
        for at in memrchr_iter(b'\n', &chunk) {
            // The newline that ends the line before those we want.
            if newlines == count {
                file.seek(SeekFrom::Start(begin + at as u64 + 1))?;
                return Ok(count);
            }
            newlines += 1;
        }
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(newlines)
}

/// Moves to the last `count` records. `None` if the file can not be read backwards: its last
/// record is being written, or torn.
fn seek_to_last_records(file: &mut File, count: u64) -> io::Result<Option<u64>> {
    let mut at = file.metadata()?.len();
    let mut found = 0;
    while at > 0 && found < count {
        let (mut suffix, mut prefix) = ([0; 4], [0; 4]);
        if at < 8 {
            return Ok(None);
        }
        file.read_exact_at(&mut suffix, at - 4)?;
        let Some(begin) = at.checked_sub(u64::from(u32::from_be_bytes(suffix)) + 8) else {
            return Ok(None);
        };
        file.read_exact_at(&mut prefix, begin)?;
        if prefix != suffix {
            return Ok(None);
        }
        at = begin;
        found += 1;
    }
    file.seek(SeekFrom::Start(at))?;
    Ok(Some(found))
}
