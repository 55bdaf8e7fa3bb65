//! Sealed files in memory.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// A file in memory holding `content`, which nobody can change any more: neither content, nor
/// size, nor the seals. With `executable` it may be executed.
pub fn sealed(name: &str, content: &[u8], executable: bool) -> io::Result<OwnedFd> {
    let mut file = new(name, executable)?;
    file.write_all(content)?;
    seal(file)
}

/// The same for a part of our own program: read from its file, which spares the kernel mapping
/// every page of it first.
pub fn sealed_part(name: &str, content: &'static [u8], executable: bool) -> io::Result<OwnedFd> {
    let copied = new(name, executable).and_then(|file| {
        let program = File::open("/proc/self/exe")?;
        let mut offset = crate::program_pages::file_offset(content)?;
        let end = offset + content.len() as u64;
        while offset < end {
            let left = usize::try_from(end - offset).map_err(io::Error::other)?;
            if rustix::fs::sendfile(&file, &program, Some(&mut offset), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        seal(file)
    });
    // It may be executed but not read.
    copied.or_else(|_| sealed(name, content, executable))
}

fn new(name: &str, executable: bool) -> io::Result<File> {
    let kind = if executable {
        MemfdFlags::EXEC
    } else {
        MemfdFlags::NOEXEC_SEAL
    };
    let base = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create(name, base | kind) {
        // Before Linux 6.3 there are no such flags and every such file is executable.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, base)?,
        other => other?,
    };
    Ok(fd.into())
}

fn seal(file: File) -> io::Result<OwnedFd> {
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_program_is_what_is_mapped() {
        static PART: [u8; 5000] = {
            let mut part = [0; 5000];
            let mut n = 0;
            while n < part.len() {
                part[n] = (n % 251) as u8;
                n += 1;
            }
            part
        };
        let fd = sealed_part("test", std::hint::black_box(&PART), false).unwrap();
        assert!(rustix::io::write(&fd, b"x").is_err());
        let mut buffer = [0; 6000];
        assert_eq!(rustix::io::pread(&fd, &mut buffer, 0).unwrap(), 5000);
        assert_eq!(buffer[..5000], PART);
    }

    #[test]
    fn sealed_content_stays() {
        let fd = sealed("test", b"content", false).unwrap();
        assert!(rustix::io::write(&fd, b"x").is_err());
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::pread(&fd, &mut buffer, 0).unwrap(), 7);
    }
}
