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
pub(super) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    let done = advance(out.len(), io::ErrorKind::UnexpectedEof, |done| {
        let rest = &mut [IoSliceMut::new(&mut out[done..])];
        preadv2(file, rest, offset + done as u64, DONT_CACHE)
    })?;
    file.read_exact_at(&mut out[done..], offset + done as u64)
}

/// As `FileExt::write_all_at`.
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let done = advance(bytes.len(), io::ErrorKind::WriteZero, |done| {
        let rest = &[IoSlice::new(&bytes[done..])];
        pwritev2(file, rest, offset + done as u64, DONT_CACHE)
    })?;
    file.write_all_at(&bytes[done..], offset + done as u64)
}

/// Repeats a step, which is told how many bytes are done and does some more, until `len` are done or the flag is
/// refused. Returns how many are done.
fn advance(
    len: usize,
    none: io::ErrorKind,
    mut step: impl FnMut(usize) -> rustix::io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < len && !IS_REFUSED.load(Ordering::Relaxed) {
        match step(done) {
            Ok(0) => return Err(none.into()),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => check(errno)?,
        }
    }
    Ok(done)
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
