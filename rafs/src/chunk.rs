//! One chunk: its digest, its codec and its place in a blob.

mod batch;
mod codec;
mod crc;

pub use batch::{Batch, EncodedBatch, Member};
pub use codec::{compress, decode, encode, verify};
pub(crate) use codec::{expand, shrink};
pub use crc::crc32c;

/// A 32-byte content digest; which function made it is said by the blob's [`Digester`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hash function of chunk digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Digester {
    /// The ecosystem's default.
    Blake3,
    /// Ours.
    Sha256,
}

/// How the chunks of a blob are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compressor {
    /// Stored as they are.
    None,
    /// One raw lz4 block per chunk.
    Lz4Block,
    /// Chunks of an original gzip layer, referenced through zran contexts.
    Gzip,
    /// One zstd frame per chunk.
    Zstd,
}

/// Position of a blob in the image's blob table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobIndex(pub u16);

/// A run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
}

/// How the stored bytes of one chunk become its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Stored as it is.
    Raw,
    /// One zstd frame.
    Zstd,
    /// One lz4 block.
    Lz4Block,
    /// The chunk shares compressed bytes with others: it is cut from a [`Unit`](crate::blob::Unit), which
    /// [`Units`](crate::blob::Units) finds. `compressed` says little then (for batches: nothing).
    Shared,
}

/// Everything needed to fetch, decode and verify one chunk. Source: the bootstrap's chunk table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// The blob that holds it.
    pub blob: BlobIndex,
    /// Its number within the blob.
    pub index: u32,
    /// Where its stored bytes lie in the blob.
    pub compressed: Span,
    /// Where its content lies in the blob's uncompressed image (4 KiB-aligned).
    pub uncompressed: Span,
    /// How stored bytes become content.
    pub codec: Codec,
    /// Digest of the content.
    pub digest: Digest,
}

/// Why stored bytes did not become a chunk.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The codec refused the bytes, or they were not of the announced length.
    #[error("chunk does not decompress to {expected} bytes")]
    Corrupt {
        /// Announced content length.
        expected: u32,
    },
    /// The content has another digest.
    #[error("chunk digest mismatch: expected {expected:?}, got {actual:?}")]
    DigestMismatch {
        /// Announced digest.
        expected: Digest,
        /// Digest of what came.
        actual: Digest,
    },
    /// The chunk cannot be decoded alone: see [`Codec::Shared`].
    #[error("the chunk shares its compressed bytes with others")]
    Shared,
}

/// A chunk ready to be appended to a blob.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub len: u32,
    /// The stored bytes.
    pub data: Vec<u8>,
    /// Whether `data` is compressed (false: the content itself).
    pub is_compressed: bool,
}

impl EncodedChunk {
    /// Pads raw content with zeros to a multiple of 4096 bytes, as flat blobs have it.
    pub fn pad(&mut self) {
        if !self.is_compressed {
            self.data
                .resize(self.data.len().next_multiple_of(crate::layout::BLOCK as usize), 0);
        }
    }
}

impl Compressor {
    /// The compressor's number in tables.
    pub(crate) fn to_disk(self) -> u32 {
        match self {
            Compressor::None => 0,
            Compressor::Lz4Block => 1,
            Compressor::Gzip => 2,
            Compressor::Zstd => 3,
        }
    }

    /// The compressor with a number in tables.
    pub(crate) fn from_disk(number: u32) -> Option<Self> {
        match number {
            0 => Some(Compressor::None),
            1 => Some(Compressor::Lz4Block),
            2 => Some(Compressor::Gzip),
            3 => Some(Compressor::Zstd),
            _ => None,
        }
    }
}

impl Digester {
    /// The digest function's number in tables.
    pub(crate) fn to_disk(self) -> u32 {
        match self {
            Digester::Blake3 => 0,
            Digester::Sha256 => 1,
        }
    }

    /// The digest function with a number in tables.
    pub(crate) fn from_disk(number: u32) -> Option<Self> {
        match number {
            0 => Some(Digester::Blake3),
            1 => Some(Digester::Sha256),
            _ => None,
        }
    }
}
