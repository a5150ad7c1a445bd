//! The structures as they lie on disk, little-endian, by offset.
//!
//! Every structure is plain bytes without alignment, so that it can be read in place from a mapped file.

mod blob;
mod inode;
mod superblock;

pub use blob::{
    BATCH_CONTEXT_LEN, BatchContext, CHUNK_BATCH, CHUNK_COMPRESSED, CHUNK_CRC32, CHUNK_ENCRYPTED,
    CHUNK_INFO_V1_LEN, CHUNK_INFO_V2_LEN, CHUNK_TABLE_ENCRYPTED, CHUNK_ZRAN, ChunkInfoV1, ChunkInfoV2,
    MetaHeader, TOC_LZ4, TOC_NAME_LEN, TOC_NONE, TOC_ZSTD, TocEntry, ZRAN_CONTEXT_LEN, ZranContext,
};
pub use inode::{
    ChunkIndex, CompactInode, Dirent, ExtendedInode, FORMAT_CHUNKED, FORMAT_EXTENDED, FORMAT_INLINE,
    FORMAT_PLAIN, XattrEntry, XattrHeader,
};
pub use superblock::{BlobEntry, ChunkEntry, DeviceSlot, ExtendedSuperBlock, SuperBlock};

/// Bytes of a block, the unit of addresses.
pub const BLOCK: u64 = 4096;
/// Binary logarithm of [`BLOCK`].
pub const BLOCK_BITS: u8 = 12;
/// Bytes of a slot, the unit of inode numbers.
pub const SLOT: u64 = 32;

/// Byte offset of the EROFS superblock.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Byte offset of the RAFS superblock.
pub const EXTENDED_SUPERBLOCK_OFFSET: u64 = 1152;
/// Byte offset of the device table.
pub const DEVICE_TABLE_OFFSET: u64 = 1408;
/// The device table's place as the superblock says it, in units of 128 bytes.
pub const DEVICE_TABLE_SLOT: u16 = 11;

/// Magic number of EROFS.
pub const MAGIC: u32 = 0xE0F5_E1E2;
/// Compatible feature that marks RAFS v6.
pub const COMPAT_RAFS_V6: u32 = 0x4000_0000;
/// Incompatible features of RAFS v6, exactly: chunked files and a device table.
pub const INCOMPAT_RAFS_V6: u32 = 0x0C;

/// Smallest chunk size.
pub const CHUNK_SIZE_MIN: u32 = 4096;
/// Largest chunk size: sizes in chunk tables have 24 bits.
pub const CHUNK_SIZE_MAX: u32 = 16 << 20;
/// Most blobs of an image: chunk indexes name them with 8 bits, 0 standing for the bootstrap itself.
pub const BLOBS_MAX: usize = 254;
/// Most chunks of a blob: chunk numbers have 24 bits.
pub const CHUNKS_MAX: u32 = 0xFF_FFFF;
/// Most bytes of a blob: compressed offsets have 40 bits.
pub const COMPRESSED_MAX: u64 = 1 << 40;
/// Most bytes of a blob's uncompressed image: uncompressed offsets have 44 bits.
pub const UNCOMPRESSED_MAX: u64 = 1 << 44;
/// Inode numbers stay below this.
pub const NID_MAX: u64 = 1 << 40;
/// What stands for a blob's id in a bootstrap that lies in that same blob.
pub const LAYER_ID: [u8; 64] = [b'x'; 64];
/// Longest name in a directory.
pub const NAME_MAX: usize = 255;
/// Longest target of a symbolic link.
pub const SYMLINK_MAX: u64 = 4096;
/// Longest value of an extended attribute.
pub const XATTR_VALUE_MAX: usize = 65535;

/// Chunk format of a regular file: an array of chunk indexes; the low 5 bits say log2 of blocks per chunk.
pub const CHUNK_FORMAT_INDEXES: u32 = 0x20;
/// Chunk format bits that say the chunk size.
pub const CHUNK_FORMAT_BITS: u32 = 0x1F;

/// Image flag: chunks are stored as they are.
pub const FLAG_COMPRESS_NONE: u64 = 0x1;
/// Image flag: chunks are lz4 blocks.
pub const FLAG_COMPRESS_LZ4: u64 = 0x2;
/// Image flag: chunk digests are blake3.
pub const FLAG_DIGEST_BLAKE3: u64 = 0x4;
/// Image flag: chunk digests are sha256.
pub const FLAG_DIGEST_SHA256: u64 = 0x8;
/// Image flag: owners are recorded.
pub const FLAG_EXPLICIT_UID_GID: u64 = 0x10;
/// Image flag: some inode has extended attributes.
pub const FLAG_HAS_XATTR: u64 = 0x20;
/// Image flag: chunks are referenced in gzip streams.
pub const FLAG_COMPRESS_GZIP: u64 = 0x40;
/// Image flag: chunks are zstd frames.
pub const FLAG_COMPRESS_ZSTD: u64 = 0x80;
/// Image flag: every blob carries its chunks' digests.
pub const FLAG_INLINED_CHUNK_DIGEST: u64 = 0x100;
/// Image flag: a tarfs image.
pub const FLAG_TARFS: u64 = 0x200;
/// Image flag: nothing is encrypted.
pub const FLAG_ENCRYPTION_NONE: u64 = 0x0100_0000;
/// Image flag: data is encrypted.
pub const FLAG_ENCRYPTION_AES: u64 = 0x0200_0000;
/// Image flags that may be ignored.
pub const FLAGS_RESERVED_COMPATIBLE: u64 = 0xFC00_0000;

/// Blob feature: chunks start at multiples of 4 KiB in the uncompressed image.
pub const BLOB_ALIGNED: u32 = 0x1;
/// Blob feature: a bootstrap lies in the blob file.
pub const BLOB_INLINED_META: u32 = 0x2;
/// Blob feature: 24-byte chunk infos.
pub const BLOB_CHUNK_INFO_V2: u32 = 0x4;
/// Blob feature: the data is a gzip stream of its own, entered through contexts.
pub const BLOB_ZRAN: u32 = 0x8;
/// Blob feature: chunk infos lie in a blob of their own.
pub const BLOB_SEPARATE: u32 = 0x10;
/// Blob feature: the blob carries its chunks' digests.
pub const BLOB_INLINED_CHUNK_DIGEST: u32 = 0x20;
/// Blob feature: tarfs.
pub const BLOB_TARFS: u32 = 0x40;
/// Blob feature: small chunks share compressed frames.
pub const BLOB_BATCH: u32 = 0x80;
/// Blob feature: encrypted.
pub const BLOB_ENCRYPTED: u32 = 0x100;
/// Blob feature: made from a chunk dictionary.
pub const BLOB_CHUNKDICT: u32 = 0x200;
/// Blob feature: files to prefetch lie in a blob of their own.
pub const BLOB_PREFETCH_FILES: u32 = 0x400;
/// Blob feature: data is kept by an external backend.
pub const BLOB_EXTERNAL: u32 = 0x800;
/// Blob feature: sections are followed by tar headers.
pub const BLOB_TAR_HEADER: u32 = 0x1000_0000;
/// Blob feature: a table of contents ends the blob.
pub const BLOB_TOC: u32 = 0x2000_0000;
/// Blob feature: written by a builder that knows tar headers and tables of contents.
pub const BLOB_CAP_TAR_TOC: u32 = 0x4000_0000;
/// Blob features that must be understood; among them those that are.
pub const BLOB_INCOMPATIBLE: u32 = 0xFFFF;
/// Blob feature that never lies on disk.
pub const BLOB_INTERNAL: u32 = 0x8000_0000;
