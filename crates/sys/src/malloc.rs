//! Keeping the C allocator's appetite small.

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
