//! Images as mounts of the kernel's EROFS: the bootstrap is the file system, blobs are its devices.
//!
//! A lookup, a `stat` or a page that is cached never leaves the kernel then. What is not cached is read from the
//! device: a file of our own FUSE mount or, once the cache has all of a blob, the cache's file itself.

mod mount;
mod mounted;
pub(crate) mod probe;

use std::path::{Path, PathBuf};

pub(crate) use mount::mount;
pub(crate) use mounted::{detach, list};

/// What a mount is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    /// The bootstrap file, on a disk file system.
    pub(crate) bootstrap: &'a Path,
    /// A file for each blob, in the order of the blob table.
    pub(crate) devices: Vec<PathBuf>,
    /// Where to mount.
    pub(crate) target: &'a Path,
    /// Whether devices are read past the page cache of their own files.
    pub(crate) is_direct: bool,
}
