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

/// Maps all of the program's code and constants now, and in a way that children of this process
/// find them mapped: for a process that waits for work which will begin with a fork.
///
/// A fork leaves the mappings of files out, for the child to fault in bit by bit, except where a
/// mapping holds a page of the process's own. So a page of each is made our own, by writing to it
/// what it holds. The caller must have one thread only.
pub fn map_for_children() -> io::Result<()> {
    unsafe extern "C" {
        /// The program's head, in front of its constants.
        static __executable_start: u8;
    }
    let constants = (&raw const __executable_start).addr();
    let code = map_for_children as fn() -> io::Result<()> as usize;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for (address, access) in [
        (constants, libc::PROT_READ),
        (code, libc::PROT_READ | libc::PROT_EXEC),
    ] {
        let (start, length) = mapping_around(&maps, address).ok_or(Errno::NOENT)?;
        let pointer = start as *mut libc::c_void;
        let checked = |result: libc::c_int| match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: the mapping is the one of this program's constants or of its code, and it keeps
        // its access while it is writable too. With one thread nobody else runs meanwhile, what is
        // written is what was read, and populating it changes no content.
        unsafe {
            checked(libc::mprotect(pointer, length, access | libc::PROT_WRITE))?;
            let byte = pointer.cast::<u8>();
            byte.write_volatile(byte.read_volatile());
            checked(libc::mprotect(pointer, length, access))?;
            checked(libc::madvise(pointer, length, libc::MADV_POPULATE_READ))?;
        }
    }
    Ok(())
}

/// Where in the program's file the constant `part` is.
pub(crate) fn file_offset(part: &'static [u8]) -> io::Result<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let program = std::fs::read_link("/proc/self/exe")?;
    let address = part.as_ptr().addr();
    let found = maps.lines().find_map(|line| {
        let (start, length, ours) = mapping(line, &program)?;
        let offset = u64::from_str_radix(line.split_ascii_whitespace().nth(2)?, 16).ok()?;
        let inside = address.checked_sub(start)?;
        let whole = inside.checked_add(part.len())? <= length;
        (ours && whole).then_some(offset + inside as u64)
    });
    found.ok_or_else(|| Errno::NOENT.into())
}

/// Start and length in bytes of the private mapping in the text of a `maps` file that holds `address`.
fn mapping_around(maps: &str, address: usize) -> Option<(usize, usize)> {
    maps.lines().find_map(|line| {
        let (from, to) = line.split_ascii_whitespace().next()?.split_once('-')?;
        let from = usize::from_str_radix(from, 16).ok()?;
        let to = usize::from_str_radix(to, 16).ok()?;
        (from..to).contains(&address).then_some((from, to - from))
    })
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

    #[test]
    fn children_find_the_program_mapped() {
        use rustix::process::{WaitOptions, waitpid};
        use rustix::thread::ThreadNameSpaceType;

        let child = || {
            let mapped = map_for_children().is_ok();
            // A child of the child, which has touched nothing yet but what it runs.
            let grandchild = crate::clone::fork(|| u8::from(!mapped || resident_kb() < 200));
            let Ok(pid) = grandchild else { return 2 };
            match waitpid(Some(pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => status.exit_status().map_or(3, |code| code as u8),
                _ => 4,
            }
        };
        let (pid, _pidfd) =
            crate::clone::clone_process(ThreadNameSpaceType::empty(), None, child).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }

    /// Resident kilobytes of this program's code mapping.
    fn resident_kb() -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let mut code = false;
        for line in smaps.lines() {
            let mut words = line.split_ascii_whitespace().skip(1);
            if words.next() == Some("r-xp") {
                code = !line.contains('[');
            } else if code && let Some(kb) = field(line, "Rss:") {
                return kb;
            }
        }
        0
    }
}
