//! How far the kernel's numbers of requests have come. Where the kernel cannot send requests again (before Linux 6.9), the
//! next server has to answer what this one took and did not answer, and numbers are all it needs for that: with an
//! error.
//!
//! The mark is written long before it is reached, so it costs one write for many thousands of requests, and is right
//! at whatever moment the server dies.

use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::adaptor::Number;

/// Numbers between two writes.
const STEP: u64 = 1 << 17;

/// Numbers by which the mark stays ahead: more than are given out while one request is on its way to a thread.
const AHEAD: u64 = STEP / 2;

/// Numbers of the kernel's requests are this far apart (`FUSE_REQ_ID_STEP`).
const NUMBER_STEP: u64 = 2;

/// Numbers below the mark that are answered, the latest ones first: a second's worth of work, and more than come while
/// a request waits for its source (15 s unless configured otherwise) at 60,000 requests a second.
const LOOK_BACK: u64 = 1 << 21;

/// The mark of a connection.
pub(super) struct Mark {
    file: Option<File>,
    end: AtomicU64,
}

/// Beside the mount point.
fn path(mountpoint: &Path) -> PathBuf {
    mountpoint.with_extension("mark")
}

impl Mark {
    /// Of a connection that no other server goes on with.
    pub(super) fn none() -> Self {
        Mark {
            file: None,
            end: AtomicU64::new(u64::MAX),
        }
    }

    /// Of a new connection.
    pub(super) fn create(mountpoint: &Path) -> io::Result<Self> {
        Ok(Mark {
            file: Some(File::create(path(mountpoint))?),
            end: AtomicU64::new(0),
        })
    }

    /// Of a connection that another server had. Nothing of it may be known.
    pub(super) fn open(mountpoint: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path(mountpoint))?;
        let mut end = [0; 8];
        let end = match file.read_exact_at(&mut end, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read.map(|()| u64::from_le_bytes(end))?,
        };
        Ok(Mark {
            file: Some(file),
            end: AtomicU64::new(end),
        })
    }

    /// Notes a request.
    pub(super) fn note(&self, Number(number): Number) {
        let end = self.end.load(Ordering::Relaxed);
        if number.saturating_add(AHEAD) <= end {
            return;
        }
        let next = number.saturating_add(STEP);
        // Whoever raises it writes it.
        if self.end.fetch_max(next, Ordering::Relaxed) < next
            && let Some(file) = &self.file
            && let Err(error) = file.write_all_at(&next.to_le_bytes(), 0)
        {
            tracing::warn!(%error, "requests under way may hang if this daemon dies and the kernel is older than 6.9");
        }
    }

    /// Answers with EIO whatever an earlier server took and did not answer. To be called before the first request is
    /// taken: the kernel knows only taken ones by their number. Returns how many there were.
    pub(super) fn refuse_taken(&self, device: BorrowedFd<'_>) -> io::Result<usize> {
        let end = self.end.load(Ordering::Relaxed);
        let numbers = end.saturating_sub(LOOK_BACK)..=end;
        let mut count = 0;
        for number in numbers.rev().filter(|number| number.is_multiple_of(NUMBER_STEP)) {
            match rustix::io::write(device, &refusal(number)) {
                Ok(_) => count += 1,
                // Nobody waits for this one. Number 0 would be no answer at all.
                Err(Errno::NOENT | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }
}

/// `struct fuse_out_header`: length, error, number.
fn refusal(number: u64) -> [u8; 16] {
    const LEN: u32 = 16;
    let mut bytes = [0; LEN as usize];
    bytes[..4].copy_from_slice(&LEN.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(-Errno::IO.raw_os_error()).to_ne_bytes());
    bytes[8..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// Removes the mark with its mount. A failure leaves a small file, which the next connection replaces.
pub(super) fn remove(mountpoint: &Path) {
    if let Err(error) = fs::remove_file(path(mountpoint)) {
        tracing::debug!(%error, "the mark of a connection stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ahead_of_every_number_and_seldom_written() {
        let dir = tempfile::tempdir().unwrap();
        let mountpoint = dir.path().join("fs");
        let mark = Mark::create(&mountpoint).unwrap();
        let known = || Mark::open(&mountpoint).unwrap().end.into_inner();
        assert_eq!(known(), 0);
        let mut writes = 0;
        let mut last = 0;
        for number in (2..3 * STEP).step_by(2) {
            mark.note(Number(number));
            let end = mark.end.load(Ordering::Relaxed);
            assert!(end >= number + AHEAD);
            if end != last {
                (writes, last) = (writes + 1, end);
                assert_eq!(known(), end);
            }
        }
        assert!((3..=8).contains(&writes), "{writes} writes");
        remove(&mountpoint);
        assert_eq!(known(), 0);
    }
}
