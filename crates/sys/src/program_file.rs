//! Opening a program's file for [`Spawn`](crate::spawn::Spawn), scripts included.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The first line of a script that names its interpreter, in bytes, as the kernel has it.
const SHEBANG_MAX: usize = 256;

/// A program ready to be spawned.
#[derive(Debug)]
pub struct ProgramFile {
    /// The file to execute.
    pub file: OwnedFd,
    /// Its name and whatever comes before the caller's arguments.
    pub arguments: Vec<CString>,
}

impl ProgramFile {
    /// Opens the program at `path`. A script is run by its interpreter: the kernel could not name
    /// it to that one, because the descriptor it is executed from is closed by then.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        match interpreter(path)? {
            Some(words) => {
                let file = open(&PathBuf::from(&words[0]))?;
                let mut arguments = Vec::with_capacity(words.len() + 1);
                for word in words {
                    arguments.push(CString::new(word).map_err(|_| Errno::INVAL)?);
                }
                arguments.push(name);
                Ok(Self { file, arguments })
            }
            None => Ok(Self {
                file: open(path)?,
                arguments: vec![name],
            }),
        }
    }
}

/// The interpreter and its argument, if the program is a script.
fn interpreter(path: &Path) -> Result<Option<Vec<String>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        // It may be executed all the same.
        Err(Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mut head = [0; SHEBANG_MAX];
    let count = rustix::io::read(file, &mut head)?;
    Ok(shebang(&head[..count]))
}

/// `#!interpreter [argument]`: as the kernel, which takes the rest of the line for one argument.
fn shebang(head: &[u8]) -> Option<Vec<String>> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim();
    let (interpreter, argument) = line
        .split_once([' ', '\t'])
        .map_or((line, ""), |(interpreter, argument)| {
            (interpreter, argument.trim())
        });
    let words: Vec<String> = [interpreter, argument]
        .into_iter()
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_their_interpreter() {
        let words = |head: &str| shebang(head.as_bytes());
        assert_eq!(words("\x7fELF"), None);
        assert_eq!(words("#!/bin/sh\nx"), Some(vec!["/bin/sh".into()]));
        assert_eq!(
            words("#! /usr/bin/env  sh -e\n"),
            Some(vec!["/usr/bin/env".into(), "sh -e".into()])
        );
        assert_eq!(words("#!\n"), None);
    }
}
