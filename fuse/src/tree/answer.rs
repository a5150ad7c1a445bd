//! What the tree answers.

use std::sync::Arc;

use rafs::{FileType, Timestamp};

use super::{BLOBS, IMAGES};
use crate::{device, fetch};

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The number's image is no longer served.
    #[error("the image is no longer served")]
    Stale,
    /// No such name.
    #[error("no such file")]
    NotFound,
    /// The number is not a directory's.
    #[error("not a directory")]
    NotDirectory,
    /// The number is a directory's.
    #[error("is a directory")]
    IsDirectory,
    /// The number's inode is of another kind than the request.
    #[error("wrong kind of file")]
    WrongKind,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// The answer does not fit the caller's buffer.
    #[error("buffer too small")]
    Range,
    /// The image's blobs cannot be devices.
    #[error(transparent)]
    Device(#[from] device::Refusal),
    /// The bootstrap is damaged where it was needed.
    #[error(transparent)]
    Image(#[from] rafs::Error),
    /// The bytes could not be had.
    #[error(transparent)]
    Fetch(#[from] Arc<fetch::Error>),
}

/// How long the kernel may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Content of an image never changes.
    Forever,
    /// The list of images does.
    Now,
}

impl Lifetime {
    /// How long a name in the folder `parent` stands for the same number.
    pub(crate) fn of_names_in(parent: u64) -> Self {
        match parent {
            IMAGES | BLOBS => Lifetime::Now,
            _ => Lifetime::Forever,
        }
    }

    /// How long the attributes of `ino` stay the same.
    pub(crate) fn of_attr(ino: u64) -> Self {
        match ino {
            IMAGES | BLOBS => Lifetime::Now,
            _ => Lifetime::Forever,
        }
    }
}

/// What `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attr {
    /// Inode number.
    pub(crate) ino: u64,
    /// Kind.
    pub(crate) file_type: FileType,
    /// 0..=0o7777.
    pub(crate) permissions: u16,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// All of the times.
    pub(crate) mtime: Timestamp,
    /// Bytes.
    pub(crate) size: u64,
    /// Units of 512 bytes.
    pub(crate) blocks: u64,
    /// Links.
    pub(crate) nlink: u32,
    /// Device number.
    pub(crate) rdev: u32,
}

/// One name of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed<'a> {
    /// The name.
    pub(crate) name: &'a [u8],
    /// Its inode.
    pub(crate) ino: u64,
    /// Kind.
    pub(crate) file_type: FileType,
    /// Where the listing goes on after this name.
    pub(crate) next: u64,
}

/// Sizes for `statfs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Uncompressed bytes of all blobs.
    pub(crate) bytes: u64,
    /// Inodes.
    pub(crate) inodes: u64,
}
