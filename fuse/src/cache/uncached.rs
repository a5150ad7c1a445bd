//! Reads and writes that leave nothing behind in the page cache, where the kernel can (6.14 on ext4, xfs and btrfs).
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

/// Whether kernel or file system have refused the flag.
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// As `FileExt::read_exact_at`.
pub(super) fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() && !IS_REFUSED.load(Ordering::Relaxed) {
        match preadv2(file, &mut [IoSliceMut::new(out)], offset, DONT_CACHE) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                out = out.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => check(errno)?,
        }
    }
    file.read_exact_at(out, offset)
}

/// As `FileExt::write_all_at`.
pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() && !IS_REFUSED.load(Ordering::Relaxed) {
        match pwritev2(file, &[IoSlice::new(bytes)], offset, DONT_CACHE) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => check(errno)?,
        }
    }
    file.write_all_at(bytes, offset)
}

/// Remembers a refusal of the flag; gives other errors back.
fn check(errno: Errno) -> io::Result<()> {
    match errno {
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => {
            IS_REFUSED.store(true, Ordering::Relaxed);
            Ok(())
        }
        errno => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_an_early_end_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, b"content", 5).unwrap();
        let mut out = [0; 9];
        read_exact_at(&file, &mut out, 3).unwrap();
        assert_eq!(&out, b"\0\0content");
        let error = read_exact_at(&file, &mut out, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
