//! Writing a bootstrap from a tree.

use crate::blob::BlobInfo;
use crate::tree::Tree;

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
}

/// Writes the bootstrap of `tree`, whose chunks lie in `blobs` (blob index = position). Same input, same bytes.
/// `prefetch` lists inodes for the prefetch table.
pub fn bootstrap(_tree: &Tree, _blobs: &[BlobInfo], _options: &Options) -> Result<Vec<u8>, BuildError> {
    todo!()
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
    /// Inodes for the prefetch table, in order.
    pub prefetch: Vec<crate::tree::InodeId>,
}
