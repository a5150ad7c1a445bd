//! A file whose reads and writes leave nothing behind in the page cache, where the kernel can (6.14 on ext4, xfs and
//! btrfs).
//!
//! What is read from a cached blob goes into the page cache of the mount that asked; a second copy under the blob's
//! own file would halve the memory for both. Pages that are there already are used, and stay.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

/// RWF_DONTCACHE, which the bindings do not name yet.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// A file that is read and written past the page cache.
pub(super) struct UncachedFile {
    file: File,
    /// Whether the kernel, or the file system of this file, has refused the flag. Of each file, since one process may
    /// have files on several file systems.
    is_refused: AtomicBool,
}

impl UncachedFile {
    /// The file itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Takes a file.
    pub(super) fn new(file: File) -> Self {
        UncachedFile {
            file,
            is_refused: AtomicBool::new(false),
        }
    }

    /// As `FileExt::read_exact_at`.
    pub(super) fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let done = self.advance(out.len(), io::ErrorKind::UnexpectedEof, |done| {
            let rest = &mut [IoSliceMut::new(&mut out[done..])];
            preadv2(&self.file, rest, offset + done as u64, DONT_CACHE)
        })?;
        self.file.read_exact_at(&mut out[done..], offset + done as u64)
    }

    /// As `FileExt::write_all_at`.
    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let done = self.advance(bytes.len(), io::ErrorKind::WriteZero, |done| {
            let rest = &[IoSlice::new(&bytes[done..])];
            pwritev2(&self.file, rest, offset + done as u64, DONT_CACHE)
        })?;
        self.file.write_all_at(&bytes[done..], offset + done as u64)
    }

    /// Repeats a step, which is told how many bytes are done and does some more, until `len` are done or the flag is
    /// refused. Returns how many are done.
    fn advance(
        &self,
        len: usize,
        none: io::ErrorKind,
        mut step: impl FnMut(usize) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut done = 0;
        while done < len && !self.is_refused.load(Ordering::Relaxed) {
            match step(done) {
                Ok(0) => return Err(none.into()),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) if is_refusal(errno) => self.is_refused.store(true, Ordering::Relaxed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(done)
    }
}

/// Whether an error is about the flag: the kernel or the file system does not know it (EOPNOTSUPP), or the kernel does
/// not know calls with flags at all (ENOSYS). EINVAL is not: it is about the offset or the length.
fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    fn refused(file: &UncachedFile) -> bool {
        file.is_refused.load(Ordering::Relaxed)
    }

    fn bytes_come_back(file: &UncachedFile) {
        file.write_all_at(b"content", 5).unwrap();
        let mut out = [0; 9];
        file.read_exact_at(&mut out, 3).unwrap();
        assert_eq!(&out, b"\0\0content");
        let error = file.read_exact_at(&mut out, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn bytes_come_back_and_an_early_end_is_an_error() {
        bytes_come_back(&UncachedFile::new(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn a_file_system_without_the_flag_is_used_without_it() {
        let memory = memfd_create("uncached", MemfdFlags::CLOEXEC).unwrap();
        let file = UncachedFile::new(memory.into());
        bytes_come_back(&file);
        assert!(
            refused(&file),
            "files in memory have no other place than the page cache"
        );
    }

    #[test]
    fn an_error_of_the_call_itself_is_no_refusal() {
        let file = UncachedFile::new(tempfile::tempfile().unwrap());
        file.write_all_at(b"content", 0).unwrap();
        let before = refused(&file);
        // An offset that no file can have.
        let error = file.read_exact_at(&mut [0; 4], u64::MAX - 8).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        assert_eq!(refused(&file), before);
    }
}
