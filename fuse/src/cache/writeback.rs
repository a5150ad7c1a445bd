//! Whether the kernel could not write back what a file was given.
//!
//! A write succeeds as soon as the page cache has it. When the disk refuses later, the kernel drops the pages, and the
//! next read finds what was on the disk before. It tells so once, to who asks.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A place beyond any content, so that there is nothing to wait for.
const NOWHERE: libc::off64_t = libc::off64_t::MAX - 4096;

/// Tells whether something was lost since the last time somebody asked about this opening of the file. Does not wait
/// and writes nothing.
///
/// # Errors
/// Something was lost.
pub(super) fn check(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is passed.
    let answer =
        unsafe { libc::sync_file_range(file.as_raw_fd(), NOWHERE, 1, libc::SYNC_FILE_RANGE_WAIT_BEFORE) };
    if answer == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // A file system without a page cache has nothing to lose.
        error
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE)
            ) =>
        {
            Ok(())
        }
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn nothing_is_lost_on_a_good_disk() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"content", 1 << 20).unwrap();
        check(&file).unwrap();
    }
}
