//! Keeping the appetite of the C allocator, and of the stack, small.

/// Makes the allocator give memory back early and use few arenas: for small processes that live
/// long. Call it before the first thread is started.
pub fn tune_for_small_footprint(arenas: i32) {
    // SAFETY: mallopt only changes parameters of the allocator; wrong values are ignored.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
    }
}

/// Gives free memory back to the kernel. Returns whether there was any.
pub fn trim() -> bool {
    // SAFETY: malloc_trim only touches the allocator's own free memory and takes its locks.
    unsafe { libc::malloc_trim(0) == 1 }
}

/// Gives back what the main thread's stack has left behind where it was deeper. To be called by
/// that thread.
pub fn release_stack() {
    const PAGE: usize = 4096;
    /// For whoever is called from here.
    const MARGIN: usize = 4 * PAGE;
    /// Less than the gap the kernel keeps below a stack.
    const LENGTH: usize = 64 * PAGE;
    let here = 0_u8;
    let end = ((&raw const here).addr() & !(PAGE - 1)).saturating_sub(MARGIN);
    // SAFETY: below the stack pointer and its red zone nothing is anybody's; what is dropped there
    // comes back as zeroes. The range is the stack and the gap below it, where nothing is mapped,
    // which the kernel answers with an error after it has done the rest.
    unsafe {
        libc::madvise(
            (end - LENGTH) as *mut libc::c_void,
            LENGTH,
            libc::MADV_DONTNEED,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(depth: u32) -> u32 {
        let array = std::hint::black_box([depth; 1024]);
        if depth == 0 {
            return array[7];
        }
        deep(depth - 1) + array[depth as usize % 1024]
    }

    #[test]
    fn the_stack_works_on() {
        let child = crate::clone::fork(|| {
            let before = deep(20);
            release_stack();
            u8::from(deep(20) != before)
        })
        .unwrap();
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child), options)
            .unwrap()
            .unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
}
