//! How the C library's allocator is set: the buffers of fetches are many, as long as chunks, and freed by other threads
//! than those that took them.
#![allow(unsafe_code)]

/// Heaps that all threads share. By default there are eight for each core, and each keeps what it once had: while 10 GB are
/// streamed that came to twice as much memory. To give large buffers back to the system at once would save a little more,
/// and cost as much processor time again, for the kernel clears every page that it gives out.
#[cfg(target_env = "gnu")]
const HEAP_COUNT: i32 = 2;

/// Lets threads share heaps, so that little is kept of what a burst of fetches needed. To be called before there are
/// threads. Other allocators than glibc's stay as they are.
pub fn share_heaps() {
    // SAFETY: mallopt takes any number, and only sets a parameter of the allocator.
    #[cfg(target_env = "gnu")]
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAP_COUNT) } != 1 {
        tracing::debug!("the allocator keeps memory as it likes");
    }
}
