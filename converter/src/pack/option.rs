//! How chunks are made and laid out.

use rafs::blob::{BlobBuilder, BlobOptions};
use rafs::build;

/// How chunks are made.
#[derive(Clone, Copy, Debug)]
pub struct ChunkOptions {
    /// Size, compressor, digest function.
    pub blob: BlobOptions,
    /// Compression level; meaning and range are the compressor's.
    pub level: i32,
    /// How chunks lie in a blob.
    pub layout: Layout,
}

/// How chunks lie in a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Back to back, each compressed on its own.
    Single,
    /// Small files share compressed frames. Needs compression.
    Batched {
        /// Bytes of content of a frame: a power of two, at most a chunk. Files from half of it on are not small.
        size: u32,
    },
    /// As in the uncompressed image, so that the blob can be a block device. Needs the compressor `None`.
    Flat,
}

impl ChunkOptions {
    /// Starts a blob.
    pub(crate) fn builder(&self) -> BlobBuilder {
        match self.layout {
            Layout::Single | Layout::Batched { .. } => BlobBuilder::new(self.blob),
            Layout::Flat => BlobBuilder::flat(self.blob),
        }
    }

    /// The most bytes of small files that share a frame, if a file of `len` bytes is one.
    pub(crate) fn batch_for(&self, len: usize) -> Option<usize> {
        match self.layout {
            Layout::Batched { size } if len < size as usize / 2 => Some(size as usize),
            _ => None,
        }
    }

    /// What a bootstrap says of the whole image.
    pub(crate) fn image(&self) -> build::Options {
        build::Options {
            chunk_size: self.blob.chunk_size,
            compressor: self.blob.compressor,
            digester: self.blob.digester,
            prefetch: Vec::new(),
        }
    }
}
