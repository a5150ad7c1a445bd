//! Inodes and what follows them: attributes, chunk indexes, directory entries.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Format bit: a 64-byte inode.
pub const FORMAT_EXTENDED: u16 = 1;
/// Format: data in whole blocks.
pub const FORMAT_PLAIN: u16 = 0 << 1;
/// Format: data in whole blocks, its tail behind the inode.
pub const FORMAT_INLINE: u16 = 2 << 1;
/// Format: data in chunks of blobs.
pub const FORMAT_CHUNKED: u16 = 4 << 1;

/// An inode of 32 bytes, without times and with 16-bit owners.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CompactInode {
    /// Version and layout: `FORMAT_*`.
    pub format: U16,
    /// Size of the attributes: 0, or (bytes - 12) / 4 + 1.
    pub xattr_count: U16,
    /// Type and permissions.
    pub mode: U16,
    /// Links.
    pub nlink: U16,
    /// Bytes of data.
    pub size: U32,
    /// 0.
    pub reserved: U32,
    /// Device number, first data block, or chunk format.
    pub union_word: U32,
    /// Sequential number.
    pub ino: U32,
    /// Owner.
    pub uid: U16,
    /// Group.
    pub gid: U16,
    /// 0.
    pub reserved_tail: U32,
}

/// An inode of 64 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtendedInode {
    /// Version and layout: `FORMAT_*`.
    pub format: U16,
    /// Size of the attributes: 0, or (bytes - 12) / 4 + 1.
    pub xattr_count: U16,
    /// Type and permissions.
    pub mode: U16,
    /// 0.
    pub reserved: U16,
    /// Bytes of data.
    pub size: U64,
    /// Device number, first data block, or chunk format.
    pub union_word: U32,
    /// Sequential number.
    pub ino: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Seconds of the modification time, two's complement.
    pub mtime: U64,
    /// Nanoseconds of the modification time.
    pub mtime_nanos: U32,
    /// Links.
    pub nlink: U32,
    /// 0.
    pub reserved_tail: [u8; 16],
}

/// Where one chunk of a file lies.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkIndex {
    /// Low 16 bits of the chunk's number in its blob.
    pub index_low: U16,
    /// Position of the blob plus one.
    pub device: u8,
    /// High 8 bits of the chunk's number.
    pub index_high: u8,
    /// Block in the blob's uncompressed image.
    pub block: U32,
}

/// A directory entry; names follow the entries of a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Dirent {
    /// Inode number.
    pub nid: U64,
    /// Byte offset of the name in the block.
    pub name_offset: U16,
    /// 1 regular, 2 directory, 3 character device, 4 block device, 5 FIFO, 6 socket, 7 symbolic link.
    pub file_type: u8,
    /// 0.
    pub reserved: u8,
}

/// What an inode's attributes start with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrHeader {
    /// 0.
    pub reserved: U32,
    /// 0: shared attributes are not part of RAFS.
    pub shared_count: u8,
    /// 0.
    pub padding: [u8; 7],
}

/// One attribute; the name's suffix and the value follow, padded to 4 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrEntry {
    /// Bytes of the name's suffix.
    pub name_len: u8,
    /// Number of the name's prefix.
    pub prefix: u8,
    /// Bytes of the value.
    pub value_len: U16,
}

const _: () = assert!(size_of::<CompactInode>() == 32);
const _: () = assert!(size_of::<ExtendedInode>() == 64);
const _: () = assert!(size_of::<ChunkIndex>() == 8);
const _: () = assert!(size_of::<Dirent>() == 12);
const _: () = assert!(size_of::<XattrHeader>() == 12);
const _: () = assert!(size_of::<XattrEntry>() == 4);
