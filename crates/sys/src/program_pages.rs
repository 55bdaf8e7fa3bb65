//! Our own program's pages: mapped as they are used, and never unmapped by the kernel alone.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Unmaps the program's code and constants that are mapped but clean. They stay in the page cache
/// and come back at the next use, at the cost of a minor fault per 64 kB: for a process that has
/// done much and now rests.
///
/// Returns how many kilobytes were mapped there.
pub fn release_clean() -> io::Result<usize> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut released = 0;
    for (start, length, resident_kb) in clean_mappings(&maps, &program) {
        // SAFETY: the range is a private, read-only mapping of a file without a single page that
        // differs from the file (`clean_mappings` looks for that), so what is dropped here is read
        // again, the same, from the file. It is this process's own mapping of its program, which
        // nobody unmaps while it runs.
        let result =
            unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        if result != 0 {
            return Err(Errno::from_io_error(&io::Error::last_os_error())
                .unwrap_or(Errno::INVAL)
                .into());
        }
        released += resident_kb;
    }
    Ok(released)
}

/// Start, length in bytes and resident kilobytes of `program`'s mappings in the text of an `smaps`
/// that are not writable and hold no page of their own (relocated constants are such pages).
fn clean_mappings(smaps: &str, program: &Path) -> Vec<(usize, usize, usize)> {
    let mut found = Vec::new();
    let mut current: Option<(usize, usize)> = None;
    let mut resident = 0;
    for line in smaps.lines() {
        if let Some((start, length, ours)) = mapping(line, program) {
            current = ours.then_some((start, length));
        } else if let Some(kb) = field(line, "Rss:") {
            resident = kb;
        } else if let Some(own) = field(line, "Anonymous:")
            && let Some((start, length)) = current.take()
            && own == 0
            && resident > 0
        {
            found.push((start, length, resident));
        }
    }
    found
}

/// A mapping's head line: start, length, and whether it is a private read-only one of `program`.
fn mapping(line: &str, program: &Path) -> Option<(usize, usize, bool)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let from = usize::from_str_radix(from, 16).ok()?;
    let to = usize::from_str_radix(to, 16).ok()?;
    let permissions = words.next()?;
    let path = words.nth(3).unwrap_or_default();
    let ours =
        !permissions.contains('w') && permissions.ends_with('p') && Path::new(path) == program;
    Some((from, to.checked_sub(from)?, ours))
}

/// The kilobytes of a line like `Rss:   12 kB`.
fn field(line: &str, name: &str) -> Option<usize> {
    line.strip_prefix(name)?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_read_only_mappings_of_the_program_count() {
        let smaps = "\
1000-3000 r-xp 00000000 08:01 7 /bin/program
Rss:                   8 kB
Anonymous:             0 kB
3000-4000 r--p 00002000 08:01 7 /bin/program
Rss:                   4 kB
Anonymous:             4 kB
4000-5000 rw-p 00003000 08:01 7 /bin/program
Rss:                   4 kB
Anonymous:             0 kB
6000-7000 r-xp 00000000 08:01 9 /bin/other
Rss:                   4 kB
Anonymous:             0 kB
8000-9000 r--p 00000000 08:01 7 /bin/program
Rss:                   0 kB
Anonymous:             0 kB
";
        assert_eq!(
            clean_mappings(smaps, Path::new("/bin/program")),
            [(0x1000, 0x2000, 8)]
        );
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        assert!(release_clean().unwrap() > 0);
        assert_eq!(format!("{:?}", std::env::args().count() > 0), "true");
    }
}
