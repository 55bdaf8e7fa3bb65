//! Reading tar streams record by record, with every number bounded.
//!
//! The `tar` crate decodes header blocks; what spans blocks is done here: extended headers (PAX `x`
//! and `g`, GNU `L` and `K`) with a bound on their size, PAX values with binary content, and bodies
//! handed out as slices of the source's own buffer. Where readers differ this one does what Go's
//! `archive/tar` does, because that is what made and unpacked nearly all images: later PAX records
//! win, an empty PAX value falls back to the header, GNU long names win over PAX, links, directories
//! and devices have no body whatever their size field says.

use std::io::{self, BufRead};

use crate::error::{ArchiveProblem, EntryProblem, ImageError, printable};
use crate::sparse::{BodyMap, PIECE_COUNT_MAX, PaxMap, PaxSparse, Sparse};

const BLOCK_BYTES: usize = 512;
/// Most bytes of the extended headers of one entry.
const EXTENDED_SIZE_MAX: u64 = 1024 * 1024;
/// Most entries of one archive; a bound on the memory and inodes a hostile one can take.
const ENTRY_COUNT_MAX: u64 = 10_000_000;
/// Longest path, as the kernel's (`PATH_MAX` counts the final NUL).
const PATH_LENGTH_MAX: usize = 4095;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// A point in time as the kernel takes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) secs: i64,
    pub(crate) nanos: u32,
}

/// One record. The body, if any, is still in the stream.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As the archive has it: may be absolute, empty or contain `..`.
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Bytes of the body; 0 for everything but files.
    pub(crate) size: u64,
    /// Permission bits, set-user-id, set-group-id and sticky included.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Option<Time>,
    pub(crate) device: (u32, u32),
    /// In the archive's order: of several with the same name the last one counts.
    pub(crate) xattrs: Vec<PaxRecord>,
    /// Where the pieces of the body belong; `None` for a file without holes.
    pub(crate) sparse: Option<Sparse>,
}

impl Entry {
    pub(crate) fn problem(&self, problem: EntryProblem) -> ImageError {
        entry_problem(&self.path, problem)
    }
}

fn entry_problem(path: &[u8], problem: EntryProblem) -> ImageError {
    ImageError::Entry {
        entry: printable(path),
        problem,
    }
}

/// Iterates over the records of a tar stream.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    source: R,
    /// Bytes of the current body not yet taken.
    body: u64,
    /// Bytes between the body's end and the next header.
    padding: u64,
    entries: u64,
    /// Bytes of extended headers since the last entry.
    extended: u64,
    ended: bool,
}

/// Key and value.
pub(crate) type PaxRecord = (Vec<u8>, Vec<u8>);

/// What extended headers say about the next entry.
#[derive(Debug, Default)]
struct Extended {
    pax: Vec<PaxRecord>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            body: 0,
            padding: 0,
            entries: 0,
            extended: 0,
            ended: false,
        }
    }

    /// The next record; what was left of the previous body is skipped.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, ImageError> {
        let mut extended = Extended::default();
        self.extended = 0;
        loop {
            self.skip(self.body + self.padding)?;
            (self.body, self.padding) = (0, 0);
            if self.ended {
                return Ok(None);
            }
            let Some(block) = self.header_block()? else {
                self.ended = true;
                return Ok(None);
            };
            let header = tar::Header::from_byte_slice(&block);
            let size = parse_field(&header.as_old().size)
                .and_then(|size| u64::try_from(size).ok())
                .ok_or(ImageError::Archive(ArchiveProblem::Header))?;
            match header.entry_type().as_byte() {
                b'x' => extended.pax.extend(parse_pax(&self.extended_body(size)?)?),
                b'L' => extended.long_name = Some(self.long_name(size)?),
                b'K' => extended.long_link = Some(self.long_name(size)?),
                // Go hands global headers out as entries, and unpackers ignore them.
                b'g' => drop(self.extended_body(size)?),
                kind => {
                    self.entries += 1;
                    if self.entries > ENTRY_COUNT_MAX {
                        return Err(ImageError::Archive(ArchiveProblem::TooManyEntries(
                            ENTRY_COUNT_MAX,
                        )));
                    }
                    let (mut entry, map) = decode(header, kind, size, extended)?;
                    let size = entry.size;
                    self.set_body(size)?;
                    self.read_sparse_map(&mut entry, header, map)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Completes the map of a sparse file from wherever it is.
    fn read_sparse_map(
        &mut self,
        entry: &mut Entry,
        header: &tar::Header,
        map: Option<PaxMap>,
    ) -> Result<(), ImageError> {
        let sparse = match map {
            None if header.entry_type().as_byte() == b'S' => {
                let (body, padding) = (self.body, self.padding);
                let map = self
                    .read_gnu_map(header)
                    .ok_or_else(|| entry.problem(EntryProblem::SparseMap))?;
                // The blocks of the map are not part of the body.
                (self.body, self.padding) = (body, padding);
                map
            }
            None => return Ok(()),
            Some(PaxMap::Given(sparse)) => sparse,
            Some(PaxMap::InBody { size }) => {
                let mut map = BodyMap::default();
                loop {
                    let mut block = [0; BLOCK_BYTES];
                    if self.body < BLOCK_BYTES as u64 || self.read_block(&mut block)? < BLOCK_BYTES
                    {
                        return Err(entry.problem(EntryProblem::SparseMap));
                    }
                    self.body -= BLOCK_BYTES as u64;
                    if map
                        .block(&block)
                        .map_err(|problem| entry.problem(problem))?
                    {
                        break;
                    }
                }
                Sparse {
                    size,
                    pieces: map.pieces(),
                }
            }
        };
        entry.size = self.body;
        entry.sparse = Some(
            sparse
                .check(self.body)
                .map_err(|problem| entry.problem(problem))?,
        );
        Ok(())
    }

    /// The map of a type `S` header and of the blocks behind it.
    fn read_gnu_map(&mut self, header: &tar::Header) -> Option<Sparse> {
        let number =
            |field: &[u8]| parse_field(field).and_then(|number| u64::try_from(number).ok());
        let gnu = header.as_gnu()?;
        let mut sparse = Sparse {
            size: number(&gnu.realsize)?,
            pieces: Vec::new(),
        };
        let mut add = |pieces: &[tar::GnuSparseHeader]| -> Option<()> {
            // An empty offset ends the list.
            for piece in pieces
                .iter()
                .filter(|piece| piece.offset[0] != 0 && piece.numbytes[0] != 0)
            {
                sparse
                    .pieces
                    .push((number(&piece.offset)?, number(&piece.numbytes)?));
            }
            (sparse.pieces.len() <= PIECE_COUNT_MAX).then_some(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.isextended[0] != 0;
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            let bytes: &mut [u8; BLOCK_BYTES] = block.as_mut_bytes();
            if self.read_block(bytes).ok()? < BLOCK_BYTES {
                return None;
            }
            add(block.sparse())?;
            more = block.is_extended();
        }
        Some(sparse)
    }

    /// The next piece of the current body, empty at its end. [`TarReader::consume`] takes it.
    pub(crate) fn body(&mut self) -> Result<&[u8], ImageError> {
        if self.body == 0 {
            return Ok(&[]);
        }
        let bytes = self.source.fill_buf().map_err(ImageError::Read)?;
        if bytes.is_empty() {
            return Err(ImageError::Archive(ArchiveProblem::Truncated));
        }
        let length = usize::try_from(self.body).map_or(bytes.len(), |body| bytes.len().min(body));
        Ok(&bytes[..length])
    }

    pub(crate) fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.body -= length as u64;
    }

    /// Reads the source to its end, so that a digest over it covers what follows the last record.
    pub(crate) fn drain(&mut self) -> Result<(), ImageError> {
        loop {
            let length = self.source.fill_buf().map_err(ImageError::Read)?.len();
            if length == 0 {
                return Ok(());
            }
            self.source.consume(length);
        }
    }

    fn set_body(&mut self, size: u64) -> Result<(), ImageError> {
        // Leaves room for the padding; no stream is that long anyway.
        if size > i64::MAX as u64 {
            return Err(ImageError::Archive(ArchiveProblem::Header));
        }
        self.body = size;
        self.padding = (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
        Ok(())
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), ImageError> {
        while bytes > 0 {
            let available = self.source.fill_buf().map_err(ImageError::Read)?.len();
            if available == 0 {
                return Err(ImageError::Archive(ArchiveProblem::Truncated));
            }
            let length = usize::try_from(bytes).map_or(available, |bytes| available.min(bytes));
            self.source.consume(length);
            bytes -= length as u64;
        }
        Ok(())
    }

    /// A header with a right checksum; `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, ImageError> {
        let mut block = [0; BLOCK_BYTES];
        match self.read_block(&mut block)? {
            // Archives without the two empty blocks at the end are common enough.
            0 => return Ok(None),
            BLOCK_BYTES => {}
            _ => return Err(ImageError::Archive(ArchiveProblem::Truncated)),
        }
        if block.iter().all(|byte| *byte == 0) {
            return match self.read_block(&mut block)? {
                0 => Ok(None),
                BLOCK_BYTES if block.iter().all(|byte| *byte == 0) => Ok(None),
                _ => Err(ImageError::Archive(ArchiveProblem::Header)),
            };
        }
        let header = tar::Header::from_byte_slice(&block);
        let stored = parse_field(&header.as_old().cksum)
            .ok_or(ImageError::Archive(ArchiveProblem::Header))?;
        // The checksum field itself counts as blanks. Some old programs summed signed bytes.
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&index) {
                b' '
            } else {
                *byte
            };
            unsigned += i64::from(byte);
            signed += i64::from(i8::from_ne_bytes([byte]));
        }
        if stored != unsigned && stored != signed {
            return Err(ImageError::Archive(ArchiveProblem::Header));
        }
        Ok(Some(block))
    }

    fn read_block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> Result<usize, ImageError> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.source.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ImageError::Read(error)),
            }
        }
        Ok(filled)
    }

    fn extended_body(&mut self, size: u64) -> Result<Vec<u8>, ImageError> {
        self.extended = self.extended.saturating_add(size);
        if self.extended > EXTENDED_SIZE_MAX {
            return Err(ImageError::Archive(ArchiveProblem::ExtendedHeaderTooLarge));
        }
        self.set_body(size)?;
        let mut bytes = Vec::new();
        loop {
            let piece = self.body()?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece);
            let length = piece.len();
            self.consume(length);
        }
    }

    /// The body of a GNU long name: ends at the first NUL.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ImageError> {
        let mut name = self.extended_body(size)?;
        if let Some(end) = memchr::memchr(0, &name) {
            name.truncate(end);
        }
        Ok(name)
    }
}

fn decode(
    header: &tar::Header,
    kind: u8,
    size: u64,
    extended: Extended,
) -> Result<(Entry, Option<PaxMap>), ImageError> {
    let mut path = header.path_bytes().into_owned();
    let mut link = header
        .link_name_bytes()
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    let mut xattrs: Vec<PaxRecord> = Vec::new();
    let (mut size, mut uid, mut gid, mut mtime, mut atime) = (size, None, None, None, None);
    let mut number_problem = None;
    let mut sparse = PaxSparse::default();
    let mut sparse_problem = None;
    for (key, value) in extended.pax {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            xattrs.push((name.to_vec(), value));
            continue;
        }
        if value.is_empty() {
            continue;
        }
        match key.as_slice() {
            b"path" => path = value,
            b"linkpath" => link = value,
            b"size" => match parse_number(&value) {
                Some(number) => size = number,
                None => number_problem = Some("size"),
            },
            b"uid" => uid = Some(parse_number(&value)),
            b"gid" => gid = Some(parse_number(&value)),
            b"mtime" => mtime = Some(parse_time(&value)),
            b"atime" => atime = Some(parse_time(&value)),
            key if key.starts_with(b"GNU.sparse.") => {
                sparse_problem = sparse
                    .record(&key[b"GNU.sparse.".len()..], &value)
                    .err()
                    .or(sparse_problem);
            }
            _ => {}
        }
    }
    path = sparse.name.take().unwrap_or(path);
    path = extended.long_name.unwrap_or(path);
    link = extended.long_link.unwrap_or(link);
    let problem = |problem| entry_problem(&path, problem);
    if path.len() > PATH_LENGTH_MAX || link.len() > PATH_LENGTH_MAX {
        return Err(problem(EntryProblem::PathTooLong));
    }
    if memchr::memchr(0, &path).is_some() || memchr::memchr(0, &link).is_some() {
        return Err(problem(EntryProblem::NulInPath));
    }
    if let Some(field) = number_problem {
        return Err(problem(EntryProblem::Number(field)));
    }
    let kind = match kind {
        // Archives from before 1988 mark directories with a slash.
        0 if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => {
            return Err(problem(EntryProblem::Type(format!(
                "'{}'",
                char::from(other).escape_default()
            ))));
        }
    };
    let map = match sparse_problem {
        Some(found) => return Err(problem(found)),
        None if kind == EntryKind::File => sparse.finish().map_err(problem)?,
        None => None,
    };
    let old = header.as_old();
    let owner = |pax: Option<Option<u64>>, header: &[u8], field| {
        let number = match pax {
            Some(number) => number.and_then(|number| u32::try_from(number).ok()),
            None => parse_field(header).and_then(|number| u32::try_from(number).ok()),
        };
        number
            // The kernel reads the highest number as "leave as it is".
            .filter(|number| *number != u32::MAX)
            .ok_or_else(|| problem(EntryProblem::Number(field)))
    };
    let uid = owner(uid, &old.uid, "user id")?;
    let gid = owner(gid, &old.gid, "group id")?;
    let mtime = match mtime {
        Some(time) => time,
        None => parse_field(&old.mtime).map(|secs| Time { secs, nanos: 0 }),
    }
    .ok_or_else(|| problem(EntryProblem::Number("modification time")))?;
    let device = match kind {
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            // Ustar and GNU headers have them in the same place, older ones not at all.
            let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
                (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
                (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
                (None, None) => return Err(problem(EntryProblem::Number("device number"))),
            };
            let number = |field: &[u8]| {
                parse_field(field)
                    .and_then(|number| u32::try_from(number).ok())
                    .ok_or_else(|| problem(EntryProblem::Number("device number")))
            };
            (number(major)?, number(minor)?)
        }
        _ => (0, 0),
    };
    let mode = header
        .mode()
        .map_err(|_| problem(EntryProblem::Number("mode")))?
        & 0o7777;
    let entry = Entry {
        size: if kind == EntryKind::File { size } else { 0 },
        link,
        kind,
        mode,
        uid,
        gid,
        mtime,
        atime: atime.flatten(),
        device,
        xattrs,
        sparse: None,
        path,
    };
    Ok((entry, map))
}

/// Records `"<length> <key>=<value>\n"`, the length in decimal and including itself.
fn parse_pax(mut bytes: &[u8]) -> Result<Vec<PaxRecord>, ImageError> {
    let malformed = || ImageError::Archive(ArchiveProblem::ExtendedHeader);
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let blank = memchr::memchr(b' ', &bytes[..bytes.len().min(20)]).ok_or_else(malformed)?;
        let length = parse_number(&bytes[..blank])
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(malformed)?;
        if length <= blank + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &bytes[blank + 1..length - 1];
        let equals = memchr::memchr(b'=', record).ok_or_else(malformed)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || memchr::memchr(0, key).is_some() {
            return Err(malformed());
        }
        records.push((key.to_vec(), value.to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds with an optional fraction: `-12.5`, `1350244992.023960108`.
fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match memchr::memchr(b'.', digits) {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &[][..]),
    };
    let secs = i64::try_from(parse_number(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanos = 0_u32;
    for position in 0..9 {
        nanos = nanos * 10
            + fraction
                .get(position)
                .map_or(0, |digit| u32::from(digit - b'0'));
    }
    Some(match (negative, nanos) {
        (false, _) => Time { secs, nanos },
        (true, 0) => Time {
            secs: -secs,
            nanos: 0,
        },
        // Nanoseconds count forward from the second before.
        (true, _) => Time {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

/// A number of a header: octal digits between blanks and NULs (none is 0), or GNU's binary form with
/// the highest bit set, which may be negative.
fn parse_field(field: &[u8]) -> Option<i64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        let negative = first & 0x40 != 0;
        let mut number = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        for byte in rest {
            number = number.checked_mul(256)? + i128::from(*byte);
        }
        return i64::try_from(number).ok();
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(field.len());
    let digits = field[start..].split(is_blank).next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_fractions_and_signs() {
        assert_eq!(
            parse_time(b"1.5"),
            Some(Time {
                secs: 1,
                nanos: 500_000_000
            })
        );
        assert_eq!(
            parse_time(b"-1.25"),
            Some(Time {
                secs: -2,
                nanos: 750_000_000
            })
        );
        assert_eq!(parse_time(b"7"), Some(Time { secs: 7, nanos: 0 }));
        assert_eq!(
            parse_time(b"1.0000000019"),
            Some(Time { secs: 1, nanos: 1 })
        );
        for bad in [&b""[..], b"x", b"1.x", b"--1", b"99999999999999999999"] {
            assert_eq!(parse_time(bad), None);
        }
    }

    #[test]
    fn header_numbers_in_all_their_forms() {
        assert_eq!(parse_field(b"0000644\0"), Some(0o644));
        assert_eq!(parse_field(b"   644 \0"), Some(0o644));
        assert_eq!(parse_field(&[0; 8]), Some(0));
        assert_eq!(parse_field(b"77777777777"), Some(0o77_777_777_777));
        assert_eq!(
            parse_field(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]),
            Some(65_536)
        );
        assert_eq!(parse_field(&[0xff; 12]), Some(-1));
        assert_eq!(
            parse_field(&[
                0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
            ]),
            None
        );
        assert_eq!(parse_field(b"12x4567\0"), None);
        assert_eq!(parse_field(b"9\0"), None);
    }

    #[test]
    fn pax_values_may_contain_line_ends() {
        let records = parse_pax(b"9 a=b\nc\n\n6 k=v\n").unwrap();
        assert_eq!(
            records,
            [
                (b"a".to_vec(), b"b\nc\n".to_vec()),
                (b"k".to_vec(), b"v".to_vec())
            ]
        );
        for bad in [
            &b"6 k=v"[..],
            b"3 =\n",
            b"0 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"x a=b\n",
            b"5 kv\n",
        ] {
            assert!(parse_pax(bad).is_err());
        }
    }
}
