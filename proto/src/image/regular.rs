//! Opening files by a name that came from outside: regular ones only, and without waiting for anything.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::Error;

/// Opens a regular file for reading. Blocking, but only as long as the disk takes.
///
/// A pipe in its place would wait for somebody to write, a device may never end, and some devices act on being opened.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Invalid`] when it is not a regular file, [`Error::File`].
pub fn open_regular(path: &Path) -> Result<File, Error> {
    check(&fs::metadata(path).map_err(Error::file(path))?, path)?;
    // What was a file a moment ago may be a pipe now. Regular files do not mind the flags.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|errno| Error::file(path)(errno.into()))?);
    check(&file.metadata().map_err(Error::file(path))?, path)?;
    Ok(file)
}

/// Reads a small file that is configured: at most `len_max` bytes. Blocking.
pub(crate) fn read_regular(path: &Path, len_max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(len_max + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file(path))?;
    match bytes.len() as u64 > len_max {
        true => Err(Error::TooLarge {
            what: path.display().to_string(),
            len_max,
        }),
        false => Ok(bytes),
    }
}

fn check(metadata: &fs::Metadata, path: &Path) -> Result<(), Error> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(Error::invalid(path.display().to_string(), "not a regular file")),
    }
}
