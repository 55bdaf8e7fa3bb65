//! The files of one log: the current one, and rotated ones beside it.
//!
//! ```text
//! container.log          being written
//! container.log.1        the one before          container.log.1.gz   the same, compressed
//! container.log.2 …      older ones
//! ```
//!
//! Every file is created once and never written again after it got a number, so a reader that
//! holds a descriptor loses nothing. A compressed file remembers what it was made from (see
//! [`Origin`]): that is how a reader that follows finds the successor of its file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

/// What a compressed file's gzip header tells, as JSON in its extra field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GzipNote {
    /// The time of the last entry, as Docker notes it.
    #[serde(rename = "lastTime", default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_time: Option<String>,
    /// The file before it was compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
}

/// Tells files apart after they are gone. The inode number alone is given to the next new file
/// soon, so the beginning of the content and the time of creation belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    inode: u64,
    created_ns: u64,
    head: u64,
}

impl Origin {
    /// The origin of an uncompressed file that has some content.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // Not every file system knows when a file was created.
        let created = metadata
            .created()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let created_ns = created
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .unwrap_or(0);
        let mut bytes = [0; 256];
        let length = file.read_at(&mut bytes, 0)?;
        // FNV-1a: any hash that is the same in every version of the program.
        let head = bytes[..length]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Ok(Self {
            inode: metadata.ino(),
            created_ns,
            head,
        })
    }
}

/// One file of a log, open.
#[derive(Debug)]
pub(crate) enum LogFile {
    /// As it was written. While it is open, no other file gets its inode number.
    Plain { file: File, inode: u64 },
    /// Compressed; made from `origin`, if Wharf made it.
    Gzip { file: File, origin: Option<Origin> },
}

/// The name of the rotated file with this number (0 is the current file).
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        path.to_owned()
    } else {
        suffixed(path, &format!(".{number}"))
    }
}

/// `path` with `suffix` appended to its last component.
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes room for a new current file: every file gets the next number, the oldest goes.
pub(crate) fn shift(path: &Path, max_files: u32) -> io::Result<()> {
    if max_files < 2 {
        return gone_is_fine(fs::remove_file(path));
    }
    let last = numbered(path, max_files - 1);
    gone_is_fine(fs::remove_file(suffixed(&last, ".gz")))?;
    gone_is_fine(fs::remove_file(&last))?;
    for number in (0..max_files - 1).rev() {
        let (from, to) = (numbered(path, number), numbered(path, number + 1));
        if number > 0 {
            gone_is_fine(fs::rename(suffixed(&from, ".gz"), suffixed(&to, ".gz")))?;
        }
        gone_is_fine(fs::rename(from, to))?;
    }
    Ok(())
}

/// The files of a log, oldest first, all opened between two rotations.
pub(crate) fn open_all(path: &Path) -> io::Result<Vec<LogFile>> {
    /// More rotations than this while a few files are opened means a hopelessly small size limit;
    /// then a gap is better than no answer.
    const ATTEMPTS: u32 = 20;
    let mut files = Vec::new();
    for _ in 0..ATTEMPTS {
        files = open_once(path)?;
        let newest = match files.last() {
            Some(LogFile::Plain { inode, .. }) => Some(*inode),
            _ => None,
        };
        if current_inode(path)? == newest {
            break;
        }
    }
    Ok(files)
}

/// The inode of the current file, if there is one.
pub(crate) fn current_inode(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_once(path: &Path) -> io::Result<Vec<LogFile>> {
    /// More rotated files than anyone keeps.
    const NUMBER_MAX: u32 = 10_000;
    let mut files: Vec<LogFile> = Vec::new();
    let mut missing = 0;
    for number in 0..NUMBER_MAX {
        // Newest first: a file that is renamed meanwhile is met again, not missed.
        let Some(file) = open_one(&numbered(path, number))? else {
            missing += 1;
            // In the middle of a rotation the current file and one number may be missing.
            if missing > 2 {
                break;
            }
            continue;
        };
        let met = files.iter().try_fold(false, |met, known| {
            Ok::<_, io::Error>(met || known.is_same(&file)?)
        })?;
        if !met {
            files.push(file);
        }
    }
    files.reverse();
    Ok(files)
}

impl LogFile {
    /// Whether `other` is this file or its compressed form.
    pub(crate) fn is_same(&self, other: &Self) -> io::Result<bool> {
        Ok(match (self, other) {
            (Self::Plain { inode, .. }, Self::Plain { inode: other, .. }) => inode == other,
            (
                Self::Plain { file, .. },
                Self::Gzip {
                    origin: Some(origin),
                    ..
                },
            ) => Origin::of(file)? == *origin,
            (
                Self::Gzip {
                    origin: Some(origin),
                    ..
                },
                Self::Gzip {
                    origin: Some(other),
                    ..
                },
            ) => origin == other,
            _ => false,
        })
    }
}

fn open_one(name: &Path) -> io::Result<Option<LogFile>> {
    match File::open(name) {
        Ok(file) => {
            let inode = file.metadata()?.ino();
            return Ok(Some(LogFile::Plain { file, inode }));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match File::open(suffixed(name, ".gz")) {
        Ok(file) => {
            let origin = gzip_note(&file)?.origin;
            Ok(Some(LogFile::Gzip { file, origin }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the note in a compressed file's header; an unreadable one is empty.
fn gzip_note(file: &File) -> io::Result<GzipNote> {
    let mut head = [0; 4096];
    let length = file.read_at(&mut head, 0)?;
    let mut decoder = GzDecoder::new(&head[..length]);
    // The header is read with the first bytes of data.
    let _ = decoder.read(&mut [0]);
    let note = decoder
        .header()
        .and_then(|header| header.extra())
        .and_then(|extra| serde_json::from_slice(extra).ok());
    Ok(note.unwrap_or_default())
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_move_up_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        for text in ["one", "two", "three", "four"] {
            shift(&path, 3).unwrap();
            fs::write(&path, text).unwrap();
        }
        let names = ["c.log", "c.log.1", "c.log.2"]
            .map(|name| fs::read_to_string(dir.path().join(name)).unwrap());
        assert_eq!(names, ["four", "three", "two"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let texts: Vec<String> = open_all(&path)
            .unwrap()
            .into_iter()
            .map(|f| {
                let LogFile::Plain { file, .. } = f else {
                    panic!("nothing is compressed")
                };
                io::read_to_string(file).unwrap()
            })
            .collect();
        assert_eq!(texts, ["two", "three", "four"]);
    }

    #[test]
    fn one_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        fs::write(&path, "old").unwrap();
        shift(&path, 1).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(open_all(&path).unwrap().is_empty());
    }
}
