//! What a container sends, put into the file system.
//!
//! The archive is hostile: nothing of it may land outside the destination. Paths with `..` are
//! refused, and so is every entry whose directory leads out of the destination through a symbolic
//! link the archive brought. What stands in the way is replaced, never written through.

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::{Buf as _, Bytes};
use tar::{Archive, Entry, EntryType};
use wharf_client::Response;

use super::place::renamed;
use crate::outcome::{Failure, Outcome};

/// Copies the archive to standard output as it is; returns its size.
pub(super) async fn to_stdout(mut response: Response) -> Outcome<u64> {
    let mut out = io::stdout().lock();
    let mut count = 0;
    while let Some(chunk) = response.chunk().await? {
        count += chunk.len() as u64;
        out.write_all(&chunk)?;
    }
    out.flush()?;
    Ok(count)
}

/// Unpacks the archive into `directory` with its top entry renamed; returns its size.
pub(super) async fn run(
    mut response: Response,
    directory: PathBuf,
    rename: Option<(String, String)>,
) -> Outcome<u64> {
    let (sender, receiver) = sync_channel::<Bytes>(4);
    let worker = std::thread::spawn(move || {
        let mut input = Input {
            receiver,
            current: Bytes::new(),
        };
        let unpacked = unpack(&mut input, &directory, rename.as_ref());
        // What follows the end of the archive is padding.
        if unpacked.is_ok() {
            io::copy(&mut input, &mut io::sink())?;
        }
        unpacked
    });
    let mut count = 0;
    while let Some(chunk) = response.chunk().await? {
        count += chunk.len() as u64;
        if sender.send(chunk).is_err() {
            break;
        }
    }
    drop(sender);
    match worker.join() {
        Ok(Ok(())) => Ok(count),
        Ok(Err(error)) => Err(Failure::new(error.to_string())),
        Err(_) => Err(Failure::new("unpacking the archive failed")),
    }
}

/// The archive as it arrives.
struct Input {
    receiver: Receiver<Bytes>,
    current: Bytes,
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.recv() {
                Ok(chunk) => self.current = chunk,
                Err(_) => return Ok(0),
            }
        }
        let take = self.current.len().min(out.len());
        out[..take].copy_from_slice(&self.current[..take]);
        self.current.advance(take);
        Ok(take)
    }
}

fn unpack(input: impl Read, directory: &Path, rename: Option<&(String, String)>) -> io::Result<()> {
    let root = fs::canonicalize(directory)?;
    let mut archive = Archive::new(input);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(false);
    // Times of directories change while they are filled: they are set at the end.
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = renamed(&entry.path()?, rename);
        let Some(target) = inside(&root, &path)? else {
            continue;
        };
        place_entry(&mut entry, &root, &target, rename)?;
        if entry.header().entry_type().is_dir() {
            directories.push((target, entry.header().mode()?, entry.header().mtime()?));
        }
    }
    for (path, mode, mtime) in directories.into_iter().rev() {
        finish_directory(&path, mode, mtime)?;
    }
    Ok(())
}

/// The place of an entry, its directory made; `None` for the destination itself.
fn inside(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let refuse = || io::Error::other(format!("invalid path in the archive: {}", path.display()));
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => relative.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refuse()),
        }
    }
    let Some(name) = relative.file_name() else {
        return Ok(None);
    };
    let parent = root.join(relative.parent().unwrap_or(Path::new("")));
    if !parent.exists() {
        // Each part is looked at before the next is made, so that no link leads outside.
        let mut made = root.to_owned();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            made.push(part);
            match fs::create_dir(&made) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            if !fs::canonicalize(&made)?.starts_with(root) {
                return Err(refuse());
            }
        }
    }
    let parent = fs::canonicalize(parent)?;
    if !parent.starts_with(root) {
        return Err(refuse());
    }
    Ok(Some(parent.join(name)))
}

fn place_entry(
    entry: &mut Entry<'_, impl Read>,
    root: &Path,
    target: &Path,
    rename: Option<&(String, String)>,
) -> io::Result<()> {
    let kind = entry.header().entry_type();
    if make_room(target, kind.is_dir())? {
        return Ok(());
    }
    match kind {
        EntryType::Directory => fs::create_dir(target),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Symlink => {
            entry.unpack(target).map(drop)
        }
        EntryType::Link => {
            let missing =
                || io::Error::other(format!("{}: a hard link to nothing", target.display()));
            let link = entry.link_name()?.ok_or_else(missing)?;
            let source = inside(root, &renamed(&link, rename))?.ok_or_else(missing)?;
            fs::hard_link(source, target)
        }
        other => Err(io::Error::other(format!(
            "{}: special files ({other:?}) are not copied out of containers",
            target.display()
        ))),
    }
}

/// Removes what an entry replaces; `true` when a directory is there already and stays.
fn make_room(target: &Path, directory: bool) -> io::Result<bool> {
    let Ok(meta) = fs::symlink_metadata(target) else {
        return Ok(false);
    };
    match (meta.is_dir(), directory) {
        (true, true) => Ok(true),
        (true, false) => Err(io::Error::other(format!(
            "cannot overwrite directory \"{0}\" with non-directory \"{0}\"",
            target.display()
        ))),
        (false, true) if !meta.is_symlink() => Err(io::Error::other(format!(
            "cannot overwrite non-directory \"{0}\" with directory \"{0}\"",
            target.display()
        ))),
        (false, _) => fs::remove_file(target).map(|()| false),
    }
}

fn finish_directory(path: &Path, mode: u32, mtime: u64) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    let directory = fs::File::open(path)?;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(mtime);
    directory.set_times(fs::FileTimes::new().set_modified(time))
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    /// An archive of entries: kind, path, content or link name.
    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, path, text) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if kind.is_dir() { 0o755 } else { 0o640 });
            header.set_mtime(1_000_000);
            let content: &[u8] = if kind.is_file() { text.as_bytes() } else { b"" };
            header.set_size(content.len() as u64);
            // Written by hand: the library refuses paths an attacker would use.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            if !kind.is_file() && !kind.is_dir() {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn a_tree_arrives_under_its_new_name() {
        let dir = tempfile::tempdir().unwrap();
        let tar = archive(&[
            (EntryType::Directory, "s/", ""),
            (EntryType::Regular, "s/f", "text"),
            (EntryType::Symlink, "s/l", "f"),
            (EntryType::Link, "s/h", "s/f"),
        ]);
        unpack(tar.as_slice(), dir.path(), Some(&pair("s", "new"))).unwrap();
        let at = |name: &str| dir.path().join("new").join(name);
        assert_eq!(fs::read_to_string(at("h")).unwrap(), "text");
        assert_eq!(fs::read_link(at("l")).unwrap(), Path::new("f"));
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(at("f")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.mtime()), (0o640, 1_000_000));
        assert_eq!(
            fs::metadata(dir.path().join("new")).unwrap().mtime(),
            1_000_000
        );
    }

    #[test]
    fn nothing_lands_outside() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().to_str().unwrap().to_owned();
        let through = format!("{victim}/");
        for entries in [
            &[(EntryType::Regular, "../evil", "x")][..],
            &[
                (EntryType::Symlink, "l", victim.as_str()),
                (EntryType::Regular, "l/evil", "x"),
            ],
            &[
                (EntryType::Symlink, "l", through.as_str()),
                (EntryType::Directory, "l/evil/", ""),
            ],
            &[
                (EntryType::Symlink, "l", victim.as_str()),
                (EntryType::Regular, "l/a/b/evil", "x"),
            ],
            &[(EntryType::Link, "h", "../../../../../../etc/passwd")],
        ] {
            let dir = tempfile::tempdir().unwrap();
            assert!(
                unpack(archive(entries).as_slice(), dir.path(), None).is_err(),
                "{entries:?}"
            );
            assert_eq!(
                fs::read_dir(outside.path()).unwrap().count(),
                0,
                "{entries:?}"
            );
        }
    }

    #[test]
    fn a_link_in_the_way_is_replaced_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("kept");
        fs::write(&file, "kept").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&file, dir.path().join("f")).unwrap();
        unpack(
            archive(&[(EntryType::Regular, "f", "new")]).as_slice(),
            dir.path(),
            None,
        )
        .unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "new");
    }

    #[test]
    fn files_and_directories_do_not_replace_each_other() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        let error = |entries| {
            unpack(archive(entries).as_slice(), dir.path(), None)
                .unwrap_err()
                .to_string()
        };
        assert!(error(&[(EntryType::Regular, "d", "x")]).starts_with("cannot overwrite directory"));
        assert!(
            error(&[(EntryType::Directory, "f/", "")])
                .starts_with("cannot overwrite non-directory")
        );
        assert!(error(&[(EntryType::Char, "c", "")]).contains("special files"));
    }
}
