//! Memory maps: a file to read, and a buffer on huge pages.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Length of the buffer's data, one huge page: `pread` into it runs at several times the speed of 4 KiB pages.
const BUFFER_LEN: usize = 2 << 20;

/// A mapped region that ends with its owner.
struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is memory that only its owner points to, valid from any thread until it is dropped.
unsafe impl Send for Region {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for Region {}

impl Region {
    fn new(start: *mut std::ffi::c_void, len: usize) -> io::Result<Self> {
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Region { start, len })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of a map made by this module, and nothing borrows it any more.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) } {
            tracing::warn!(%error, "a memory map could not be released");
        }
    }
}

/// A whole file, mapped to read. Whoever writes or cuts the file meanwhile breaks the reader.
pub(crate) struct FileMap(Region);

impl FileMap {
    /// Maps a file.
    ///
    /// # Errors
    /// The file is empty, or cannot be opened or mapped.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: a fresh private map at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::PRIVATE,
                &file,
                0,
            )?
        };
        Region::new(start, len).map(FileMap)
    }
}

impl AsRef<[u8]> for FileMap {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the region is `len` readable bytes for as long as `self` lives; that the file stays as it is, is
        // the condition callers of `Server::add` accept.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.len) }
    }
}

thread_local! {
    static BUFFER: RefCell<Option<Buffer>> = const { RefCell::new(None) };
}

/// Lends `len` bytes of the calling thread's buffer, with whatever was left in them. `None` where there is no buffer
/// of that length: use one of your own.
pub(crate) fn with_buffer<R>(len: usize, work: impl FnOnce(Option<&mut [u8]>) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.is_none() {
            *buffer = Buffer::new().ok();
        }
        work(buffer.as_mut().and_then(|buffer| buffer.get(len)))
    })
}

/// A reusable buffer of 2 MiB, on one huge page where the kernel has one.
struct Buffer {
    region: Region,
    skip: usize,
}

impl Buffer {
    /// Makes a buffer. Its pages are given by the kernel when they are first written.
    fn new() -> io::Result<Self> {
        let len = 2 * BUFFER_LEN;
        // SAFETY: as above; anonymous memory.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let region = Region::new(start, len)?;
        let skip = region.start.as_ptr().align_offset(BUFFER_LEN).min(BUFFER_LEN);
        // SAFETY: the range lies in the region; advice changes no content. Without huge pages it stays 4 KiB pages.
        let advised = unsafe { rustix::mm::madvise(start.byte_add(skip), BUFFER_LEN, Advice::LinuxHugepage) };
        if let Err(error) = advised {
            tracing::debug!(%error, "no huge page for a read buffer");
        }
        Ok(Buffer { region, skip })
    }

    /// Lends the first `len` bytes. `None` beyond 2 MiB.
    fn get(&mut self, len: usize) -> Option<&mut [u8]> {
        // SAFETY: `skip` is at most half of the region, so `BUFFER_LEN` bytes follow it; they are writable, always
        // initialised (anonymous memory is zeroed), and borrowed with `self`.
        let whole =
            unsafe { std::slice::from_raw_parts_mut(self.region.start.as_ptr().add(self.skip), BUFFER_LEN) };
        whole.get_mut(..len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_map_shows_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        assert!(
            FileMap::open(file.path()).is_err(),
            "an empty file cannot be mapped"
        );
        file.write_all(b"content").unwrap();
        assert_eq!(FileMap::open(file.path()).unwrap().as_ref(), b"content");
    }

    #[test]
    fn a_buffer_lends_up_to_its_length() {
        let mut buffer = Buffer::new().unwrap();
        buffer.get(BUFFER_LEN).unwrap().fill(7);
        assert!(buffer.get(100).unwrap().iter().all(|&byte| byte == 7));
        assert!(buffer.get(BUFFER_LEN + 1).is_none());
    }
}
