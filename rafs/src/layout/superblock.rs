//! Superblocks and the tables of a bootstrap.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The EROFS superblock at byte 1024.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SuperBlock {
    /// [`MAGIC`](super::MAGIC).
    pub magic: U32,
    /// 0: no checksum.
    pub checksum: U32,
    /// Holds [`COMPAT_RAFS_V6`](super::COMPAT_RAFS_V6).
    pub feature_compat: U32,
    /// 12.
    pub block_bits: u8,
    /// 0.
    pub ext_slots: u8,
    /// Number of the root inode.
    pub root_nid: U16,
    /// Count of inodes.
    pub inode_count: U64,
    /// 0.
    pub build_time: U64,
    /// 0.
    pub build_time_nanos: U32,
    /// Blocks of all devices.
    pub block_count: U32,
    /// Block that inode numbers count from.
    pub meta_block: U32,
    /// 0: no shared attributes.
    pub xattr_block: U32,
    /// 0.
    pub uuid: [u8; 16],
    /// 0.
    pub volume_name: [u8; 16],
    /// [`INCOMPAT_RAFS_V6`](super::INCOMPAT_RAFS_V6).
    pub feature_incompat: U32,
    /// 0.
    pub union_word: U16,
    /// Count of device slots.
    pub extra_devices: U16,
    /// [`DEVICE_TABLE_SLOT`](super::DEVICE_TABLE_SLOT).
    pub device_table_slot: U16,
    /// 0.
    pub reserved: [u8; 38],
}

/// The RAFS superblock at byte 1152.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtendedSuperBlock {
    /// `FLAG_*`.
    pub flags: U64,
    /// Byte offset of the blob table.
    pub blob_table_offset: U64,
    /// Bytes of the blob table.
    pub blob_table_size: U32,
    /// Bytes per chunk.
    pub chunk_size: U32,
    /// Byte offset of the chunk table.
    pub chunk_table_offset: U64,
    /// Bytes of the chunk table.
    pub chunk_table_size: U64,
    /// Byte offset of the prefetch table; 0 if none.
    pub prefetch_table_offset: U64,
    /// Bytes of the prefetch table.
    pub prefetch_table_size: U32,
    /// 0.
    pub padding: U32,
    /// 0.
    pub reserved: [u8; 200],
}

/// A slot of the device table: a blob as the kernel sees it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeviceSlot {
    /// The blob's id: 64 hex digits.
    pub tag: [u8; 64],
    /// Whole blocks of the uncompressed image.
    pub blocks: U32,
    /// Block where the device starts when all are laid end to end.
    pub mapped_block: U32,
    /// 0.
    pub reserved: [u8; 56],
}

/// An entry of the blob table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BlobEntry {
    /// The blob's id: 64 hex digits.
    pub id: [u8; 64],
    /// Position in the table.
    pub index: U32,
    /// Bytes per chunk.
    pub chunk_size: U32,
    /// Chunks in the blob.
    pub chunk_count: U32,
    /// 0 none, 1 lz4 block, 2 gzip, 3 zstd.
    pub compressor: U32,
    /// 0 blake3, 1 sha256.
    pub digester: U32,
    /// `BLOB_*`.
    pub features: U32,
    /// Bytes of the blob file.
    pub compressed_size: U64,
    /// Bytes of the uncompressed image.
    pub uncompressed_size: U64,
    /// Bytes of the table of contents with its tar header; 0 if unknown.
    pub toc_size: U32,
    /// Compressor of the chunk infos.
    pub meta_compressor: U32,
    /// Byte offset of the chunk infos in the blob.
    pub meta_offset: U64,
    /// Bytes of the chunk infos as stored.
    pub meta_compressed_size: U64,
    /// Bytes of the chunk infos.
    pub meta_uncompressed_size: U64,
    /// sha256 of the table of contents with its tar header; 0 if unknown.
    pub toc_digest: [u8; 32],
    /// Id of the blob that holds the chunk infos, if separate.
    pub meta_digest: [u8; 32],
    /// Bytes of the blob that holds the chunk infos, if separate.
    pub meta_size: U64,
    /// Second half of an encryption vector.
    pub cipher_iv: U64,
    /// 0: no encryption.
    pub cipher: U32,
    /// 0.
    pub reserved: [u8; 36],
}

/// An entry of the chunk table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkEntry {
    /// Digest of the content.
    pub digest: [u8; 32],
    /// Position of the blob.
    pub blob_index: U32,
    /// `CHUNK_*`.
    pub flags: U32,
    /// Bytes as stored.
    pub compressed_size: U32,
    /// Bytes of content.
    pub uncompressed_size: U32,
    /// Byte offset in the blob.
    pub compressed_offset: U64,
    /// Byte offset in the uncompressed image.
    pub uncompressed_offset: U64,
    /// Byte offset in one file that has the chunk.
    pub file_offset: U64,
    /// The chunk's number within the blob.
    pub index: U32,
    /// CRC-32C of the content, if flagged.
    pub crc32: U32,
}

const _: () = assert!(size_of::<SuperBlock>() == 128);
const _: () = assert!(size_of::<ExtendedSuperBlock>() == 256);
const _: () = assert!(size_of::<DeviceSlot>() == 128);
const _: () = assert!(size_of::<BlobEntry>() == 256);
const _: () = assert!(size_of::<ChunkEntry>() == 80);
