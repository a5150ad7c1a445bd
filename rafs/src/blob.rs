//! The file that holds chunks: its builder, its chunk table and its table of contents.

use sha2::Sha256;

use crate::chunk::{ChunkRef, Compressor, Digester, EncodedChunk};

/// What a bootstrap says of one blob, plus the chunks in it.
#[derive(Clone, Debug)]
pub struct BlobInfo {
    /// Digest of the blob's bytes, the blob's name in registries and caches (64 hex digits in the blob table).
    pub id: [u8; 32],
    /// All chunks, by number. `blob` is filled in by the bootstrap writer from the position in its `blobs`.
    pub chunks: Vec<ChunkRef>,
    // The writer's author adds what the blob table needs (2.5): features, sizes, chunk-table place, ToC.
}

/// What is the same for all chunks of a blob.
#[derive(Clone, Copy, Debug)]
pub struct BlobOptions {
    /// Bytes per chunk.
    pub chunk_size: u32,
    /// Compressor named in the blob table.
    pub compressor: Compressor,
    /// Digest function.
    pub digester: Digester,
}

/// Collects the chunks of a blob while the caller writes their bytes, then makes the trailing sections.
#[derive(Debug)]
pub struct BlobBuilder {}

impl BlobBuilder {
    /// Starts a blob.
    pub fn new(_options: BlobOptions) -> Self {
        todo!()
    }

    /// Records that `chunk.data` was appended to the file and returns the chunk's number.
    pub fn push(&mut self, _chunk: &EncodedChunk) -> u32 {
        todo!()
    }

    /// How many chunks there are.
    pub fn chunk_count(&self) -> u32 {
        todo!()
    }

    /// Makes the bytes that follow the chunk data (chunk table, digests, ToC, with their tar headers).
    /// `data_hash` is the running hash over the chunk data; the blob's id is the hash over data and tail.
    /// `None` if the blob has no chunk: such a blob is not written and not listed.
    pub fn finish(self, _data_hash: Sha256) -> Option<FinishedBlob> {
        todo!()
    }
}

/// A blob whose bytes are all known.
#[derive(Clone, Debug)]
pub struct FinishedBlob {
    /// What goes into the bootstrap.
    pub info: BlobInfo,
    /// Bytes to append after the chunk data.
    pub tail: Vec<u8>,
}
