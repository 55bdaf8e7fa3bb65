//! The files of one log: the current one, and rotated ones beside it.
//!
//! ```text
//! container.log          being written
//! container.log.1        the one before          container.log.1.gz   the same, compressed
//! container.log.2 …      older ones
//! ```
//!
//! Every file is created once and never written again after it got a number, so a reader that
//! holds a descriptor loses nothing. A compressed file remembers which inode it was made from
//! (see [`GzipNote`]): that is how a reader that follows finds the successor of its file.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

/// What a compressed file's gzip header tells, as JSON in its extra field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GzipNote {
    /// The time of the last entry, as Docker notes it.
    #[serde(rename = "lastTime", default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_time: Option<String>,
    /// The inode of the file before it was compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inode: Option<u64>,
}

/// One file of a log, open.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) file: File,
    pub(crate) gzip: bool,
    /// The inode it was written as, before any compression.
    pub(crate) origin: u64,
}

/// The name of the rotated file with this number (0 is the current file).
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 { path.to_owned() } else { suffixed(path, &format!(".{number}")) }
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
        let newest = files.last().map(|file| file.origin);
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
    let mut files = Vec::new();
    for number in 0..NUMBER_MAX {
        // Newest first: a file that is renamed meanwhile is met again, not missed.
        let name = numbered(path, number);
        let Some(file) = open_one(&name)? else {
            if number == 0 {
                continue;
            }
            break;
        };
        if files.iter().any(|known: &LogFile| known.origin == file.origin) {
            continue;
        }
        files.push(file);
    }
    files.reverse();
    Ok(files)
}

fn open_one(name: &Path) -> io::Result<Option<LogFile>> {
    match File::open(name) {
        Ok(file) => {
            let origin = file.metadata()?.ino();
            return Ok(Some(LogFile { file, gzip: false, origin }));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match File::open(suffixed(name, ".gz")) {
        Ok(file) => {
            let origin = match gzip_note(&file)?.inode {
                Some(inode) => inode,
                None => file.metadata()?.ino(),
            };
            Ok(Some(LogFile { file, gzip: true, origin }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the note in a compressed file's header; an unreadable one is empty.
fn gzip_note(file: &File) -> io::Result<GzipNote> {
    use std::io::{Seek, SeekFrom};
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(0))?;
    let mut decoder = GzDecoder::new(BufReader::new((&file).take(4096)));
    // The header is read with the first bytes of data.
    let _ = decoder.read(&mut [0]);
    let note = decoder.header().and_then(|header| header.extra()).and_then(|extra| serde_json::from_slice(extra).ok());
    file.seek(SeekFrom::Start(0))?;
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
        let names = ["c.log", "c.log.1", "c.log.2"].map(|name| fs::read_to_string(dir.path().join(name)).unwrap());
        assert_eq!(names, ["four", "three", "two"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let texts: Vec<String> = open_all(&path).unwrap().into_iter().map(|f| io::read_to_string(f.file).unwrap()).collect();
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
