//! Sealed files in memory.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// A file in memory holding `content`, which nobody can change any more: neither content, nor
/// size, nor the seals. With `executable` it may be executed.
pub fn sealed(name: &str, content: &[u8], executable: bool) -> std::io::Result<OwnedFd> {
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
    let mut file = File::from(fd);
    file.write_all(content)?;
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
    fn sealed_content_stays() {
        let fd = sealed("test", b"content", false).unwrap();
        assert!(rustix::io::write(&fd, b"x").is_err());
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::pread(&fd, &mut buffer, 0).unwrap(), 7);
    }
}
