//! What follows the chunks in a blob file: chunk infos, contexts, table of contents.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Chunk flag: stored compressed.
pub const CHUNK_COMPRESSED: u32 = 0x1;
/// Chunk flag of chunk infos: part of a gzip context.
pub const CHUNK_ZRAN: u32 = 0x2;
/// Chunk flag of chunk infos: member of a batch.
pub const CHUNK_BATCH: u32 = 0x4;
/// Chunk flag of chunk tables: encrypted.
pub const CHUNK_TABLE_ENCRYPTED: u32 = 0x4;
/// Chunk flag of chunk infos: encrypted.
pub const CHUNK_ENCRYPTED: u32 = 0x8;

/// Chunk flag: a CRC-32C of the content is recorded.
pub const CHUNK_CRC32: u32 = 0x10;

/// Bytes of a [`ChunkInfoV1`].
pub const CHUNK_INFO_V1_LEN: u64 = 16;
/// Bytes of a [`ChunkInfoV2`].
pub const CHUNK_INFO_V2_LEN: u64 = 24;
/// Bytes of a [`BatchContext`].
pub const BATCH_CONTEXT_LEN: u64 = 40;
/// Bytes of a [`ZranContext`].
pub const ZRAN_CONTEXT_LEN: u64 = 40;

/// ToC flag: stored as it is.
pub const TOC_NONE: u32 = 1;
/// ToC flag: one zstd frame.
pub const TOC_ZSTD: u32 = 2;
/// ToC flag: one lz4 block.
pub const TOC_LZ4: u32 = 4;
/// Longest name of a ToC entry.
pub const TOC_NAME_LEN: usize = 16;

/// The 4096-byte header that follows the chunk infos.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MetaHeader {
    /// [`Self::MAGIC`].
    pub magic: U32,
    /// `BLOB_*`.
    pub features: U32,
    /// Compressor of the chunk infos.
    pub compressor: U32,
    /// Count of chunk infos.
    pub chunk_count: U32,
    /// Byte offset of the chunk infos in the blob.
    pub offset: U64,
    /// Bytes of the chunk infos as stored.
    pub compressed_size: U64,
    /// Bytes of the chunk infos.
    pub uncompressed_size: U64,
    /// Byte offset of the contexts within the uncompressed chunk infos.
    pub context_offset: U64,
    /// Bytes of the contexts and their dictionaries.
    pub context_size: U64,
    /// Count of contexts.
    pub context_count: U32,
    /// 0.
    pub reserved: [u8; 4032],
    /// [`Self::MAGIC`] again.
    pub magic_tail: U32,
}

impl MetaHeader {
    /// Magic number of the header.
    pub const MAGIC: u32 = 0xB10B_B10B;
}

/// A chunk's place in 16 bytes: sizes and offsets packed bit by bit, sizes minus one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkInfoV1 {
    /// Uncompressed size and offset.
    pub uncompressed: U64,
    /// Compressed size and offset.
    pub compressed: U64,
}

/// A chunk's place in 24 bytes, with flags and what they ask for.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkInfoV2 {
    /// Uncompressed block, size minus one, flags.
    pub uncompressed: U64,
    /// Compressed offset and size.
    pub compressed: U64,
    /// Context and offset in its output, or a checksum.
    pub data: U64,
}

/// One batch: small chunks in one compressed frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchContext {
    /// Bytes of the frame.
    pub compressed_size: U32,
    /// Bytes of the chunks together.
    pub uncompressed_size: U32,
    /// 0.
    pub reserved: [u8; 32],
}

/// One place where inflation of a gzip stream can start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ZranContext {
    /// Byte offset in the gzip file.
    pub in_offset: U64,
    /// Byte offset in the stream's output.
    pub out_offset: U64,
    /// Byte offset of the window among the dictionaries.
    pub dict_offset: U64,
    /// Bytes of input.
    pub in_len: U32,
    /// Bytes of output.
    pub out_len: U32,
    /// Bytes of the window.
    pub dict_size: U32,
    /// The byte that holds the first bits.
    pub byte: u8,
    /// How many of its bits belong to this context.
    pub bits: u8,
    /// 0.
    pub reserved: [u8; 2],
}

/// An entry of the table of contents.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TocEntry {
    /// `TOC_*`.
    pub flags: U32,
    /// 0.
    pub reserved: U32,
    /// Name of the section, padded with NUL.
    pub name: [u8; TOC_NAME_LEN],
    /// sha256 of the section's content.
    pub digest: [u8; 32],
    /// Byte offset in the blob.
    pub compressed_offset: U64,
    /// Bytes as stored.
    pub compressed_size: U64,
    /// Bytes of content.
    pub uncompressed_size: U64,
    /// 0.
    pub reserved_tail: [u8; 48],
}

const _: () = assert!(size_of::<MetaHeader>() == 4096);
const _: () = assert!(size_of::<ChunkInfoV1>() as u64 == CHUNK_INFO_V1_LEN);
const _: () = assert!(size_of::<ChunkInfoV2>() as u64 == CHUNK_INFO_V2_LEN);
const _: () = assert!(size_of::<BatchContext>() as u64 == BATCH_CONTEXT_LEN);
const _: () = assert!(size_of::<ZranContext>() as u64 == ZRAN_CONTEXT_LEN);
const _: () = assert!(size_of::<TocEntry>() == 128);
