//! The file that holds chunks: its builder, its chunk infos, its table of contents, units that chunks share.
//!
//! ```text
//! chunks | header "image.blob" | chunk infos, 4096-byte header | header "blob.meta"
//!        | digests | header "blob.digest" | ToC entries | header "rafs.blob.toc"
//! ```
//! and, before the ToC, where a layer's own bootstrap is wanted: `bootstrap | header "image.boot"`.
//! Each "header" is a 512-byte tar header that *follows* what it names, without padding.

mod builder;
mod check;
mod chunk_info;
mod inflate;
mod meta;
mod tar_header;
mod toc;
mod unit;

pub use builder::{BlobBuilder, BlobError, FinishedBlob, layer_without_data};
pub use check::{BLOB_FAULTS_MAX, BlobCheck, BlobFault, Subject};
pub use meta::MetaError;
pub use toc::{Section, TOC_TAIL_MAX, Toc};
pub use unit::{Piece, Unit, Units};

use crate::chunk::{ChunkRef, Compressor, Digester};

/// What a bootstrap says of one blob, plus the chunks in it.
#[derive(Clone, Debug)]
pub struct BlobInfo {
    /// Digest of the blob's bytes, the blob's name in registries and caches (64 hex digits in the blob table).
    pub id: [u8; 32],
    /// All chunks, by number. `blob` is filled in by the bootstrap writer from the position in its `blobs`.
    pub chunks: Vec<ChunkRef>,
    /// What is the same for all chunks.
    pub options: BlobOptions,
    /// `layout::BLOB_*`.
    pub features: u32,
    /// Bytes of the blob file, trailing sections included.
    pub compressed_size: u64,
    /// Bytes of the uncompressed image, a multiple of 4096.
    pub uncompressed_size: u64,
    /// Where the chunk infos lie.
    pub meta: MetaPlace,
    /// What ends the blob file.
    pub toc: TocPlace,
}

/// What is the same for all chunks of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobOptions {
    /// Bytes per chunk.
    pub chunk_size: u32,
    /// Compressor named in the blob table.
    pub compressor: Compressor,
    /// Digest function.
    pub digester: Digester,
}

/// Where a blob's chunk infos lie, and how they are stored. Source: blob table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaPlace {
    /// How the chunk infos are compressed.
    pub compressor: Compressor,
    /// First byte of the stored chunk infos; their 4096-byte header follows them.
    pub offset: u64,
    /// Bytes of the chunk infos as stored, without the header.
    pub compressed_size: u64,
    /// Bytes of the chunk infos.
    pub uncompressed_size: u64,
}

/// Length and sha256 of the table of contents with its tar header; all 0 if unknown. Source: blob table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TocPlace {
    /// Bytes at the end of the blob file.
    pub size: u32,
    /// Digest of those bytes.
    pub digest: [u8; 32],
}
