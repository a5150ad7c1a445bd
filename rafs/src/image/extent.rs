//! The chunks behind the bytes of a regular file.

use std::ops::Range;

use super::bytes::ensure;
use super::inode::{Data, Inode};
use super::{Error, View};
use crate::chunk::{BlobIndex, ChunkRef};
use crate::layout::{BLOCK, ChunkIndex};

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

/// Reads the extents of a range of a file in order; ends after the first error.
#[derive(Clone)]
pub struct Extents<'a> {
    view: View<'a>,
    /// Byte offset in the file of the bootstrap where the file's chunk indexes start.
    indexes: u64,
    /// Size of the file.
    size: u64,
    /// What is left of the range.
    range: Range<u64>,
}

impl std::fmt::Debug for Extents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extents")
            .field("size", &self.size)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl<'a> View<'a> {
    /// The extents that cover `range`.
    pub(super) fn extents(self, inode: &Inode, range: Range<u64>) -> Result<Extents<'a>, Error> {
        let Data::Chunks { start, .. } = inode.data else {
            return Err(Error::Corrupt {
                what: "an inode is no regular file",
                offset: inode.offset,
            });
        };
        let end = range.end.min(inode.size);
        Ok(Extents {
            view: self,
            indexes: start,
            size: inode.size,
            range: range.start.min(end)..end,
        })
    }
}

impl Extents<'_> {
    fn extent(&self) -> Result<Extent, Error> {
        let chunk_size = u64::from(self.view.shape.chunk_size);
        let number = self.range.start / chunk_size;
        let chunk_start = number * chunk_size;
        let offset = self.indexes + number * size_of::<ChunkIndex>() as u64;
        let index: &ChunkIndex = (self.view.bytes).read(offset, "a chunk index lies outside the file")?;
        let blob = index.device.checked_sub(1).ok_or(Error::Corrupt {
            what: "a chunk lies in no blob",
            offset,
        })?;
        let [low, middle] = index.index_low.get().to_le_bytes();
        let chunk_number = u32::from_le_bytes([low, middle, index.index_high, 0]);
        let chunk = (self.view).chunk(BlobIndex(u16::from(blob)), chunk_number)?;
        ensure(
            chunk.uncompressed.offset / BLOCK == u64::from(index.block.get()),
            "a chunk index and the chunk table disagree on a chunk's place",
            offset,
        )?;
        let chunk_len = u64::from(chunk.uncompressed.len);
        ensure(
            chunk_len == chunk_size.min(self.size - chunk_start),
            "a chunk has not the length that its place in the file asks for",
            offset,
        )?;
        let skip = self.range.start - chunk_start;
        let len = (chunk_len - skip).min(self.range.end - self.range.start);
        let narrow = |value| u32::try_from(value).expect("chunks are at most 16 MiB");
        Ok(Extent {
            chunk,
            skip: narrow(skip),
            len: narrow(len),
        })
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.range.is_empty() {
            return None;
        }
        let extent = self.extent();
        self.range.start = match &extent {
            Ok(extent) => self.range.start + u64::from(extent.len),
            Err(_) => self.range.end,
        };
        Some(extent)
    }
}
