//! Writing a bootstrap from a tree: first a plan of what lies where, then the bytes.
//!
//! The order is fixed, so the same tree gives the same bytes: inodes breadth first, names and attributes sorted.
//! Inodes that no name reaches are left out, and so are blobs that no file refers to; the blobs that remain keep
//! their order and are numbered anew. The chunk table lists only chunks that some file has.

mod chunk;
mod directory;
mod emit;
mod place;
mod plan;
mod walk;

use crate::blob::BlobInfo;
use crate::tree::{InodeId, Tree};

/// Why a tree cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The format has no room for it.
    #[error("{what} does not fit the format (limit {limit})")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An option is outside its range.
    #[error("{what}")]
    Options {
        /// What is wrong.
        what: &'static str,
    },
    /// An inode cannot be written.
    #[error("inode {}: {what}", inode.0)]
    Inode {
        /// The inode.
        inode: InodeId,
        /// What is wrong.
        what: &'static str,
    },
    /// A name in a directory cannot be written.
    #[error("name \"{}\" in directory inode {}: {what}", name.escape_ascii(), directory.0)]
    Name {
        /// The directory.
        directory: InodeId,
        /// The name.
        name: Vec<u8>,
        /// What is wrong.
        what: &'static str,
    },
    /// An extended attribute cannot be written.
    #[error("extended attribute \"{}\" of inode {}: {what}", name.escape_ascii(), inode.0)]
    Xattr {
        /// The inode.
        inode: InodeId,
        /// The attribute's full name.
        name: Vec<u8>,
        /// What is wrong.
        what: &'static str,
    },
    /// A blob cannot be listed.
    #[error("blob {index}: {what}")]
    Blob {
        /// Position in the caller's list.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Writes the bootstrap of `tree`, whose chunks lie in `blobs` (blob index = position). Same input, same bytes.
/// `options.prefetch` lists inodes for the prefetch table.
pub fn bootstrap(tree: &Tree, blobs: &[BlobInfo], options: &Options) -> Result<Vec<u8>, BuildError> {
    emit::bytes(&plan::Plan::new(tree, blobs, options)?)
}

/// Writes the bootstrap of a single layer for the inside of its own blob, whose id cannot be known yet: 64 times
/// `x` stand for it, and readers take the id from the file's name. `tree` refers to `blob` as blob 0.
pub fn layer_bootstrap(
    tree: &Tree,
    blob: Option<&BlobInfo>,
    options: &Options,
) -> Result<Vec<u8>, BuildError> {
    let mut plan = plan::Plan::new(tree, blob.map_or(&[], std::slice::from_ref), options)?;
    plan.is_layer = true;
    emit::bytes(&plan)
}

/// Image-wide choices of a bootstrap.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes per chunk: a power of two from 4 KiB to 16 MiB.
    pub chunk_size: u32,
    /// Default compressor named in the superblock.
    pub compressor: crate::Compressor,
    /// Digest function of chunks.
    pub digester: crate::Digester,
    /// Inodes for the prefetch table, in order. Inodes that no name reaches are passed over.
    pub prefetch: Vec<InodeId>,
}
