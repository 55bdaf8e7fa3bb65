//! Archives of local files for a container.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc::{Sender, channel};

use super::place::{Source, split};
use crate::container::options::reason;
use crate::outcome::{Failure, Outcome};

/// A local source that is there.
#[derive(Debug)]
pub(super) struct Local {
    /// As the user wrote it, absolute.
    written: String,
    /// What is read.
    path: PathBuf,
    is_dir: bool,
}

impl Local {
    /// Looks at the source; with `follow` a symbolic link stands for what it leads to.
    pub(super) fn resolve(written: &str, follow: bool) -> Outcome<Self> {
        let wrong = |error: io::Error| Failure::new(format!("lstat {written}: {}", reason(&error)));
        let path = if follow {
            fs::canonicalize(written).map_err(wrong)?
        } else {
            PathBuf::from(written)
        };
        // A slash at the end asks for the directory behind a link.
        let meta = fs::symlink_metadata(&path).map_err(wrong)?;
        if !meta.is_dir() && (written.ends_with('/') || written.ends_with("/.")) {
            return Err(Failure::new("not a directory"));
        }
        Ok(Self {
            written: written.to_owned(),
            path,
            is_dir: meta.is_dir(),
        })
    }

    /// The source as [`super::place`] sees it.
    pub(super) fn source(&self) -> Source {
        Source {
            path: self.written.clone(),
            is_dir: self.is_dir,
            rename: None,
        }
    }

    /// The archive as a stream, with its top entry renamed, and the count of its bytes so far.
    pub(super) fn stream(
        self,
        rename: Option<(String, String)>,
    ) -> (
        impl Stream<Item = io::Result<Bytes>> + Send + use<>,
        Arc<AtomicU64>,
    ) {
        let name = match rename {
            Some((_, name)) => name,
            None => split(&self.written).1,
        };
        let count = Arc::new(AtomicU64::new(0));
        let (sender, receiver) = channel(4);
        let pipe = Pipe {
            sender: sender.clone(),
            count: Arc::clone(&count),
        };
        std::thread::spawn(move || {
            if let Err(error) = write(&self.path, &name, pipe) {
                // The request ends with this error; if it has ended already nobody is told.
                let _ = sender.blocking_send(Err(error));
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|item| (item, receiver))
        });
        (stream, count)
    }
}

fn write(path: &Path, name: &str, pipe: Pipe) -> io::Result<()> {
    /// Bytes per chunk of the request.
    const CHUNK: usize = 256 << 10;
    let mut builder = tar::Builder::new(BufWriter::with_capacity(CHUNK, pipe));
    builder.follow_symlinks(false);
    append(&mut builder, path, Path::new(name), &mut HashMap::new())?;
    builder.into_inner()?.flush()
}

/// Adds a file or a whole tree. A second name of a file is a hard link in the archive too;
/// sockets have no content to copy and are left out.
fn append(
    builder: &mut tar::Builder<impl Write>,
    path: &Path,
    name: &Path,
    seen: &mut HashMap<(u64, u64), PathBuf>,
) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.file_type().is_socket() {
        return Ok(());
    }
    if meta.is_dir() {
        builder.append_dir(name, path)?;
        let mut children = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        children.sort_by_key(fs::DirEntry::file_name);
        for child in children {
            append(builder, &child.path(), &name.join(child.file_name()), seen)?;
        }
        return Ok(());
    }
    if meta.is_file() && meta.nlink() > 1 {
        if let Some(first) = seen.get(&(meta.dev(), meta.ino())) {
            let mut header = tar::Header::new_gnu();
            header.set_metadata(&meta);
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            return builder.append_link(&mut header, name, first);
        }
        seen.insert((meta.dev(), meta.ino()), name.to_owned());
    }
    builder.append_path_with_name(path, name)
}

/// Writes into the request, waiting while it is slow.
#[derive(Debug)]
struct Pipe {
    sender: Sender<io::Result<Bytes>>,
    count: Arc<AtomicU64>,
}

impl Write for Pipe {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.count.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.sender
            .blocking_send(Ok(Bytes::copy_from_slice(data)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("s")).unwrap();
        fs::write(at("s/f"), "text").unwrap();
        fs::hard_link(at("s/f"), at("s/h")).unwrap();
        std::os::unix::fs::symlink("f", at("s/l")).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        append(
            &mut builder,
            &at("s"),
            Path::new("new"),
            &mut HashMap::new(),
        )
        .unwrap();
        let archive = builder.into_inner().unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let found: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link = entry
                    .link_name()
                    .unwrap()
                    .map(|link| link.display().to_string());
                format!(
                    "{} {:?} {}",
                    entry.path().unwrap().display(),
                    entry.header().entry_type(),
                    link.unwrap_or_default()
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                "new Directory ",
                "new/f Regular ",
                "new/h Link new/f",
                "new/l Symlink f"
            ]
        );
    }
}
