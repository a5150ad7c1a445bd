//! Inodes: decoded in place, with everything that follows from them checked once.

use std::ops::Range;

use super::bytes::ensure;
use super::{Error, Nid, View};
use crate::layout::{
    self, BLOCK, CHUNK_FORMAT_BITS, CHUNK_FORMAT_INDEXES, ChunkIndex, CompactInode, ExtendedInode,
    FORMAT_CHUNKED, FORMAT_EXTENDED, FORMAT_INLINE, FORMAT_PLAIN, SLOT, XattrHeader,
};
use crate::tree::{FileType, Timestamp};

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
    /// Byte offset of the inode.
    pub(super) offset: u64,
    /// Bytes of the header: 32 or 64.
    header_len: u8,
    /// Bytes of the attributes behind the header.
    xattr_len: u32,
    /// Where directory or link data, or chunk indexes lie.
    pub(super) data: Data,
}

/// Where an inode's data lies, in bytes of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    /// No data.
    None,
    /// Directory or link data: `whole` bytes from `blocks` on, the rest from `tail` on.
    Bytes { blocks: u64, whole: u64, tail: u64 },
    /// Chunk indexes, and log2 of the blocks that the kernel takes for a chunk.
    Chunks { start: u64, count: u64, bits: u32 },
}

/// The fields that both kinds of inode have.
struct Header {
    format: u16,
    xattr_count: u16,
    mode: u16,
    nlink: u32,
    size: u64,
    union_word: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    len: u8,
}

impl Inode {
    /// Byte offset and length of the attributes.
    pub(super) fn xattr_range(&self) -> Range<u64> {
        let start = self.offset + u64::from(self.header_len);
        start..start + u64::from(self.xattr_len)
    }

    /// Whether it is one of 64 bytes.
    pub(super) fn is_extended(&self) -> bool {
        usize::from(self.header_len) == size_of::<ExtendedInode>()
    }

    /// The inode's bytes with all that follows it directly, and its whole blocks elsewhere.
    pub(super) fn ranges(&self) -> [Range<u64>; 2] {
        let (end, blocks) = match self.data {
            Data::None => (self.xattr_range().end, 0..0),
            Data::Bytes { blocks, whole, tail } => (tail + (self.size - whole), blocks..blocks + whole),
            Data::Chunks { start, count, .. } => (start + count * size_of::<ChunkIndex>() as u64, 0..0),
        };
        [self.offset..end, blocks]
    }
}

impl<'a> View<'a> {
    /// Decodes the inode with a number.
    pub(super) fn inode(self, nid: Nid) -> Result<Inode, Error> {
        ensure(
            nid.0 < layout::NID_MAX,
            "an inode's number is out of range",
            self.shape.meta,
        )?;
        let offset = self.shape.meta + nid.0 * SLOT;
        let header = self.header(offset)?;
        let file_type = FileType::from_mode(header.mode).ok_or(Error::Corrupt {
            what: "an inode's mode names no kind of file",
            offset,
        })?;
        ensure(
            header.mtime.nanos < 1_000_000_000,
            "an inode's nanoseconds are out of range",
            offset,
        )?;
        let xattr_len = match u32::from(header.xattr_count) {
            0 => 0,
            count => size_of::<XattrHeader>() as u32 + (count - 1) * 4,
        };
        let rdev = match file_type {
            FileType::CharDevice | FileType::BlockDevice => header.union_word,
            _ => 0,
        };
        let tail = offset + u64::from(header.len) + u64::from(xattr_len);
        let what = "an inode's attributes lie outside the file";
        ensure(tail <= self.bytes.len(), what, offset)?;
        Ok(Inode {
            nid,
            file_type,
            permissions: header.mode & 0o7777,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime,
            size: header.size,
            nlink: header.nlink,
            rdev,
            offset,
            header_len: header.len,
            xattr_len,
            data: self.data(&header, file_type, offset, tail)?,
        })
    }

    fn header(self, offset: u64) -> Result<Header, Error> {
        let what = "an inode lies outside the file";
        let compact: &CompactInode = self.bytes.read(offset, what)?;
        if compact.format.get() & FORMAT_EXTENDED == 0 {
            return Ok(Header {
                format: compact.format.get(),
                xattr_count: compact.xattr_count.get(),
                mode: compact.mode.get(),
                nlink: u32::from(compact.nlink.get()),
                size: u64::from(compact.size.get()),
                union_word: compact.union_word.get(),
                uid: u32::from(compact.uid.get()),
                gid: u32::from(compact.gid.get()),
                mtime: Timestamp::default(),
                len: size_of::<CompactInode>() as u8,
            });
        }
        let inode: &ExtendedInode = self.bytes.read(offset, what)?;
        Ok(Header {
            format: inode.format.get() & !FORMAT_EXTENDED,
            xattr_count: inode.xattr_count.get(),
            mode: inode.mode.get(),
            nlink: inode.nlink.get(),
            size: inode.size.get(),
            union_word: inode.union_word.get(),
            uid: inode.uid.get(),
            gid: inode.gid.get(),
            mtime: Timestamp {
                secs: inode.mtime.get().cast_signed(),
                nanos: inode.mtime_nanos.get(),
            },
            len: size_of::<ExtendedInode>() as u8,
        })
    }

    /// Where the data of an inode lies that starts at `offset` and whose attributes end at `tail`.
    fn data(self, header: &Header, file_type: FileType, offset: u64, tail: u64) -> Result<Data, Error> {
        let corrupt = |what| Error::Corrupt { what, offset };
        match (file_type, header.format) {
            (FileType::Regular, FORMAT_CHUNKED) => self.chunk_indexes(header, offset, tail),
            (FileType::Directory | FileType::Symlink, FORMAT_PLAIN | FORMAT_INLINE) => {
                ensure(
                    file_type == FileType::Directory || (1..=layout::SYMLINK_MAX).contains(&header.size),
                    "a symbolic link's target is empty or longer than 4096 bytes",
                    offset,
                )?;
                self.data_bytes(header, offset, tail)
            }
            (FileType::Regular | FileType::Directory | FileType::Symlink, _) => {
                Err(corrupt("an inode's data layout does not fit its kind"))
            }
            (_, FORMAT_PLAIN) if header.size == 0 => Ok(Data::None),
            _ => Err(corrupt("a special file has data")),
        }
    }

    fn data_bytes(self, header: &Header, offset: u64, tail: u64) -> Result<Data, Error> {
        let whole = match header.format {
            FORMAT_INLINE => header.size - header.size % BLOCK,
            _ => header.size,
        };
        let blocks = u64::from(header.union_word) * BLOCK;
        ensure(
            whole == 0
                || blocks
                    .checked_add(whole)
                    .is_some_and(|end| end <= self.bytes.len()),
            "an inode's blocks lie outside the file",
            offset,
        )?;
        let rest = header.size - whole;
        ensure(
            rest == 0 || (tail % BLOCK + rest <= BLOCK && tail + rest <= self.bytes.len()),
            "an inode's inline data crosses a block or the end of the file",
            offset,
        )?;
        Ok(Data::Bytes { blocks, whole, tail })
    }

    fn chunk_indexes(self, header: &Header, offset: u64, tail: u64) -> Result<Data, Error> {
        let format = header.union_word;
        ensure(
            header.size == 0 || format & !CHUNK_FORMAT_BITS == CHUNK_FORMAT_INDEXES,
            "an inode's chunks are in an unknown format",
            offset,
        )?;
        let count = header.size.div_ceil(u64::from(self.shape.chunk_size));
        let start = tail.next_multiple_of(size_of::<ChunkIndex>() as u64);
        let room = self.bytes.len().saturating_sub(start) / size_of::<ChunkIndex>() as u64;
        ensure(
            count <= room,
            "an inode's chunk indexes lie outside the file",
            offset,
        )?;
        let bits = format & CHUNK_FORMAT_BITS;
        Ok(Data::Chunks { start, count, bits })
    }

    /// Target of a symbolic link.
    pub(super) fn symlink(self, inode: &Inode) -> Result<&'a [u8], Error> {
        let corrupt = |what| Error::Corrupt {
            what,
            offset: inode.offset,
        };
        let (FileType::Symlink, Data::Bytes { blocks, whole, tail }) = (inode.file_type, inode.data) else {
            return Err(corrupt("an inode is no symbolic link"));
        };
        // A target of at most 4096 bytes is either one block or all tail.
        let start = if whole == 0 { tail } else { blocks };
        let target = self
            .bytes
            .get(start, inode.size, "a target lies outside the file")?;
        if target.contains(&0) {
            return Err(corrupt("a symbolic link's target holds a NUL"));
        }
        Ok(target)
    }
}
