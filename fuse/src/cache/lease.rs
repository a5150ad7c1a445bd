//! Whether anybody else has a file open, the kernel itself included.
//!
//! An image may be mounted right on a file of the cache, and containers go on to read from such a mount when the
//! daemon has taken it out of sight or has died. Who they are is nowhere listed; but the kernel grants the lease to
//! write to a file only where no other description of it is open.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// F_SETSIG of Linux, which the bindings do not name.
const F_SETSIG: libc::c_int = 10;

/// Whether somebody else has the file open, which this process must have open once, for writing.
///
/// # Errors
/// The file system knows no leases, or the process may not take them: then nobody can tell.
pub(super) fn is_shared(file: &File) -> io::Result<bool> {
    // Who opens the file between the two calls below makes the kernel send a signal, which by default ends a process.
    control(file, F_SETSIG, libc::SIGURG)?;
    match control(file, libc::F_SETLEASE, libc::F_WRLCK) {
        Ok(()) => {
            control(file, libc::F_SETLEASE, libc::F_UNLCK)?;
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and these commands take a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_opening_is_noticed_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let options = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .clone();
        let own = options.open(&path).unwrap();
        assert!(!is_shared(&own).unwrap());
        let other = File::open(&path).unwrap();
        assert!(is_shared(&own).unwrap());
        drop(other);
        assert!(!is_shared(&own).unwrap());
        assert_eq!(
            File::open(&path).unwrap().metadata().unwrap().len(),
            0,
            "no lease is left"
        );
    }
}
