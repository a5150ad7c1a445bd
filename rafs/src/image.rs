//! Reading a bootstrap: superblock, tables, inodes, directories, extents.
//!
//! Opening validates the superblock and the tables and indexes the chunk table (4 bytes a chunk); inodes are
//! decoded in place whenever they are asked for, so they cost no memory. Every number from the file is checked
//! where it is used: hostile bytes give errors that name the byte offset, never a panic or an endless loop.

mod bytes;
mod check;
mod chunk_table;
mod directory;
mod dump;
mod extent;
mod inode;
mod layer;
mod superblock;
mod table;
mod xattr;

use std::ops::Range;

pub use check::{FAULTS_MAX, Fault, check};
pub use directory::{Entries, Entry};
pub use dump::dump;
pub use extent::{Extent, Extents};
pub use inode::Inode;
pub use layer::name_layer;
pub use xattr::Xattrs;

use crate::blob::{MetaPlace, TocPlace};
use crate::chunk::{BlobIndex, ChunkRef, Compressor, Digester};
use crate::layout;
use bytes::Bytes;
use superblock::Shape;

/// Bytes from the start of a file that tell whether it is a bootstrap.
pub const HEAD_LEN: u64 = layout::SUPERBLOCK_OFFSET + size_of::<layout::SuperBlock>() as u64;

/// Tells from the first [`HEAD_LEN`] bytes of a file, or all if it is shorter, whether it is a RAFS v6 bootstrap at all.
///
/// # Errors
/// [`Error::Foreign`] when it is none.
pub fn recognize(head: &[u8]) -> Result<(), Error> {
    superblock::recognize(Bytes(head)).map(drop)
}

/// Number of an inode on disk: (byte offset - meta block address) / 32. Fits in 40 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nid(pub u64);

/// Why a bootstrap, or a part of it, cannot be read. Variants are decisions; facts in fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    bytes: B,
    shape: Shape,
}

impl<B> std::fmt::Debug for Image<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("inode_count", &self.shape.inode_count)
            .field("blobs", &self.shape.blobs)
            .finish_non_exhaustive()
    }
}

/// One blob of the blob table.
#[derive(Clone, Debug)]
pub struct Blob {
    /// 64 lower-case hex digits.
    pub id: String,
    /// Chunks in the blob.
    pub chunk_count: u32,
    /// Bytes of the file. Images whose layers carry bootstraps leave those and what follows out.
    pub compressed_size: u64,
    /// Bytes of its uncompressed image, a multiple of 4096: size of the cache file.
    pub uncompressed_size: u64,
    /// Compressor of its chunks.
    pub compressor: Compressor,
    /// Digest function of its chunks.
    pub digester: Digester,
    /// `layout::BLOB_*`.
    pub features: u32,
    /// Where its chunk infos lie: in the blob itself, or in `meta_blob`.
    pub meta: MetaPlace,
    /// The blob that holds the chunk infos, if they are separate.
    pub meta_blob: Option<MetaBlob>,
    /// Its table of contents.
    pub toc: TocPlace,
}

/// A blob that holds the chunk infos of another.
#[derive(Clone, Debug)]
pub struct MetaBlob {
    /// 64 lower-case hex digits.
    pub id: String,
    /// Bytes of the file.
    pub size: u64,
}

impl Blob {
    /// Whether chunks share compressed bytes, so that the chunk infos are needed to read them.
    pub fn has_shared_units(&self) -> bool {
        self.features & (layout::BLOB_BATCH | layout::BLOB_ZRAN) != 0
    }

    /// Which bytes [`Units::read`](crate::blob::Units::read) wants, and of which blob: this or another.
    pub fn meta_range(&self) -> (&str, Range<u64>) {
        let id = self.meta_blob.as_ref().map_or(&self.id, |blob| &blob.id);
        let len = self.meta.compressed_size.saturating_add(layout::BLOCK);
        (id, self.meta.offset..self.meta.offset.saturating_add(len))
    }
}

/// A bootstrap's bytes with what was learnt from its superblock and tables.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    bytes: Bytes<'a>,
    shape: &'a Shape,
}

impl<B: AsRef<[u8]>> Image<B> {
    /// Validates superblock and tables, and indexes the chunk table.
    pub fn open(bytes: B) -> Result<Self, Error> {
        let shape = Shape::read(Bytes(bytes.as_ref()), &mut Err)?;
        Ok(Image { bytes, shape })
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The EROFS superblock.
    pub fn superblock(&self) -> Result<&layout::SuperBlock, Error> {
        let what = "the superblock lies outside the file";
        self.view().bytes.read(layout::SUPERBLOCK_OFFSET, what)
    }

    /// The RAFS superblock.
    pub fn extended_superblock(&self) -> Result<&layout::ExtendedSuperBlock, Error> {
        let what = "the RAFS superblock lies outside the file";
        self.view().bytes.read(layout::EXTENDED_SUPERBLOCK_OFFSET, what)
    }

    /// Names and byte ranges of the tables, empty for those that are not there.
    pub fn tables(&self) -> [(&'static str, Range<u64>); 4] {
        let tables = &self.shape.tables;
        [
            ("devices", tables.devices.clone()),
            ("blobs", tables.blobs.clone()),
            ("prefetch", tables.prefetch.clone()),
            ("chunks", tables.chunks.clone()),
        ]
    }

    /// The root directory.
    pub fn root(&self) -> Nid {
        self.shape.root
    }

    /// Bytes per chunk.
    pub fn chunk_size(&self) -> u32 {
        self.shape.chunk_size
    }

    /// Inodes, as the superblock counts them.
    pub fn inode_count(&self) -> u64 {
        self.shape.inode_count
    }

    /// The blob table.
    pub fn blobs(&self) -> &[Blob] {
        &self.shape.blobs
    }

    /// The prefetch table: files and directories, in order.
    pub fn prefetch(&self) -> Vec<Nid> {
        self.view().prefetch().collect()
    }

    /// Chunk `index` of a blob. Chunks that no file has need not be in the chunk table.
    pub fn chunk(&self, blob: BlobIndex, index: u32) -> Result<ChunkRef, Error> {
        self.view().chunk(blob, index)
    }

    /// CRC-32C of a chunk's content, if the chunk table has one.
    pub fn checksum(&self, blob: BlobIndex, index: u32) -> Result<Option<u32>, Error> {
        self.view().checksum(blob, index)
    }

    /// The chunks of a blob that the chunk table lists, by number. Their places in the blob ascend.
    pub fn chunks(&self, blob: BlobIndex) -> impl ExactSizeIterator<Item = Result<ChunkRef, Error>> {
        let view = self.view();
        let positions = view.shape.chunks.of_blob(blob);
        positions
            .iter()
            .map(move |&position| view.chunk_at_position(position))
    }

    /// Decodes an inode.
    pub fn inode(&self, nid: Nid) -> Result<Inode, Error> {
        self.view().inode(nid)
    }

    /// Finds a name in a directory.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<Entry<'_>>, Error> {
        self.view().lookup(dir, name)
    }

    /// Lists a directory from `cookie` on (0: from the start), `.` and `..` included.
    pub fn entries_from(&self, dir: &Inode, cookie: u64) -> Result<Entries<'_>, Error> {
        self.view().entries_from(dir, cookie)
    }

    /// Target of a symbolic link.
    pub fn symlink(&self, inode: &Inode) -> Result<&[u8], Error> {
        self.view().symlink(inode)
    }

    /// Extended attributes: full names and values.
    pub fn xattrs(&self, inode: &Inode) -> Result<Xattrs<'_>, Error> {
        self.view().xattrs(inode)
    }

    /// Value of one extended attribute.
    pub fn xattr(&self, inode: &Inode, name: &[u8]) -> Result<Option<&[u8]>, Error> {
        self.view().xattr(inode, name)
    }

    /// The extents of a regular file that cover `range`, cut to the file's size, in file order.
    pub fn extents(&self, inode: &Inode, range: Range<u64>) -> Result<Extents<'_>, Error> {
        self.view().extents(inode, range)
    }

    fn view(&self) -> View<'_> {
        View {
            bytes: Bytes(self.bytes.as_ref()),
            shape: &self.shape,
        }
    }
}
