//! Reading a bootstrap: superblock, tables, inodes, directories, extents.

use std::ops::Range;

use crate::chunk::{BlobIndex, ChunkRef, Compressor, Digester};
use crate::tree::{FileType, Timestamp};

/// Number of an inode on disk: (byte offset - meta block address) / 32. Fits in 40 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nid(pub u64);

/// Why a bootstrap, or a part of it, cannot be read. Variants are decisions; facts in fields.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a RAFS v6 bootstrap at all.
    #[error("not a RAFS v6 bootstrap: {what}")]
    Foreign {
        /// What is missing.
        what: &'static str,
    },
    /// A RAFS v6 feature this reader does not know.
    #[error("unsupported RAFS feature {feature} at byte {offset}")]
    Unsupported {
        /// Name of the feature.
        feature: &'static str,
        /// Byte offset.
        offset: u64,
    },
    /// Damaged: what, where.
    #[error("corrupt bootstrap: {what} at byte {offset}")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Byte offset.
        offset: u64,
    },
}

/// A validated bootstrap over bytes of the caller's (a vector, a map).
pub struct Image<B> {
    _bytes: B,
}

/// One blob of the blob table.
#[derive(Clone, Debug)]
pub struct Blob {
    /// 64 hex digits.
    pub id: String,
    /// Chunks in the blob.
    pub chunk_count: u32,
    /// Bytes of the file (2.5 tells which).
    pub compressed_size: u64,
    /// Bytes of its uncompressed image, a multiple of 4096: size of the cache file.
    pub uncompressed_size: u64,
    /// Compressor of its chunks.
    pub compressor: Compressor,
    /// Digest function of its chunks.
    pub digester: Digester,
}

/// One inode, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Inode {
    /// Its number on disk.
    pub nid: Nid,
    /// Its kind.
    pub file_type: FileType,
    /// 0..=0o7777.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Bytes: content, packed directory, link target.
    pub size: u64,
    /// Links.
    pub nlink: u32,
    /// Device number in Linux's 32-bit encoding; 0 unless a device.
    pub rdev: u32,
    // private: layout, xattr count, the union word, offset
}

/// One name of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Name bytes, without `/` and NUL.
    pub name: &'a [u8],
    /// Inode.
    pub nid: Nid,
    /// Kind, as the directory says it.
    pub file_type: FileType,
    /// Cookie of the entry after this one, for [`Image::entries_from`].
    pub next: u64,
}

/// A piece of a file inside one chunk.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The chunk.
    pub chunk: ChunkRef,
    /// Bytes of the chunk to skip.
    pub skip: u32,
    /// Bytes to take.
    pub len: u32,
}

impl<B: AsRef<[u8]>> Image<B> {
    /// Validates superblock and tables, and indexes the chunk table.
    pub fn open(_bytes: B) -> Result<Self, Error> {
        todo!()
    }

    /// The root directory.
    pub fn root(&self) -> Nid {
        todo!()
    }

    /// Bytes per chunk.
    pub fn chunk_size(&self) -> u32 {
        todo!()
    }

    /// Inodes, as the superblock counts them.
    pub fn inode_count(&self) -> u64 {
        todo!()
    }

    /// The blob table.
    pub fn blobs(&self) -> &[Blob] {
        todo!()
    }

    /// The prefetch table.
    pub fn prefetch(&self) -> Vec<Nid> {
        todo!()
    }

    /// Chunk `index` of a blob.
    pub fn chunk(&self, _blob: BlobIndex, _index: u32) -> Result<ChunkRef, Error> {
        todo!()
    }

    /// Decodes an inode.
    pub fn inode(&self, _nid: Nid) -> Result<Inode, Error> {
        todo!()
    }

    /// Finds a name in a directory.
    pub fn lookup(&self, _dir: &Inode, _name: &[u8]) -> Result<Option<Entry<'_>>, Error> {
        todo!()
    }

    /// Lists a directory from `cookie` on (0: from the start), `.` and `..` included.
    pub fn entries_from(
        &self,
        _dir: &Inode,
        _cookie: u64,
    ) -> Result<impl Iterator<Item = Result<Entry<'_>, Error>> + '_, Error> {
        Ok(std::iter::empty())
    }

    /// Target of a symbolic link.
    pub fn symlink(&self, _inode: &Inode) -> Result<&[u8], Error> {
        todo!()
    }

    /// Extended attributes: full names and values.
    pub fn xattrs(
        &self,
        _inode: &Inode,
    ) -> Result<impl Iterator<Item = Result<(Vec<u8>, &[u8]), Error>> + '_, Error> {
        Ok(std::iter::empty())
    }

    /// Value of one extended attribute.
    pub fn xattr(&self, _inode: &Inode, _name: &[u8]) -> Result<Option<&[u8]>, Error> {
        todo!()
    }

    /// The extents of a regular file that cover `range`, cut to the file's size, in file order.
    pub fn extents(
        &self,
        _inode: &Inode,
        _range: Range<u64>,
    ) -> Result<impl Iterator<Item = Result<Extent, Error>> + '_, Error> {
        Ok(std::iter::empty())
    }
}
