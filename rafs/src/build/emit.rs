//! The bytes of a planned bootstrap.

use std::fmt::Write as _;

use zerocopy::{FromZeros, IntoBytes};

use super::plan::Plan;
use super::{BuildError, directory};
use crate::blob::BlobInfo;
use crate::chunk::{ChunkRef, Codec, Compressor, Digester};
use crate::layout::{
    self, BLOCK, BlobEntry, CHUNK_COMPRESSED, ChunkEntry, ChunkIndex, DEVICE_TABLE_OFFSET, DeviceSlot,
    ExtendedInode, ExtendedSuperBlock, SuperBlock, XattrEntry, XattrHeader,
};
use crate::tree::{Attr, ChunkId, Content};
use crate::xattr;

/// Devices start at multiples of this when all are laid end to end.
const DEVICE_ALIGNMENT: u64 = 512 << 10;

/// Writes everything.
pub(super) fn bytes(plan: &Plan<'_>) -> Result<Vec<u8>, BuildError> {
    let len = usize::try_from(plan.sections.end).map_err(|_| BuildError::TooLarge {
        what: "the bootstrap",
        limit: usize::MAX as u64,
    })?;
    let mut out = Out { bytes: vec![0; len] };
    let block_count = out.devices(plan)?;
    out.superblocks(plan, block_count)?;
    out.blobs(plan);
    out.prefetch(plan)?;
    for at in 0..plan.walk.visits.len() {
        out.inode(plan, at)?;
    }
    out.chunks(plan);
    Ok(out.bytes)
}

/// Narrows a number, or says that it is too large.
fn narrow<T: TryFrom<u64>>(value: u64, what: &'static str) -> Result<T, BuildError> {
    let limit = (1_u64 << (size_of::<T>() * 8 - 1)) * 2 - 1;
    T::try_from(value).map_err(|_| BuildError::TooLarge { what, limit })
}

/// The file, zero where nothing was written.
struct Out {
    bytes: Vec<u8>,
}

impl Out {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).expect("sections lie inside the file");
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes the device table and returns the blocks of all devices.
    fn devices(&mut self, plan: &Plan<'_>) -> Result<u64, BuildError> {
        let mut position = plan.sections.end;
        let mut total = 0;
        for (at, blob) in (0_u64..).zip(&plan.used.blobs) {
            let blocks = blob.uncompressed_size / BLOCK;
            let start = position.next_multiple_of(DEVICE_ALIGNMENT);
            position = start + blocks * BLOCK;
            total += blocks;
            let mut slot = DeviceSlot::new_zeroed();
            slot.tag = id(plan, blob);
            slot.blocks = narrow::<u32>(blocks, "the blocks of a blob")?.into();
            slot.mapped_block = narrow::<u32>(start / BLOCK, "the blocks of all blobs")?.into();
            self.put(
                DEVICE_TABLE_OFFSET + at * size_of::<DeviceSlot>() as u64,
                slot.as_bytes(),
            );
        }
        Ok(total)
    }

    fn superblocks(&mut self, plan: &Plan<'_>, block_count: u64) -> Result<(), BuildError> {
        let sections = &plan.sections;
        let blob_count = plan.used.blobs.len() as u64;
        let mut superblock = SuperBlock::new_zeroed();
        superblock.magic = layout::MAGIC.into();
        superblock.feature_compat = layout::COMPAT_RAFS_V6.into();
        superblock.block_bits = layout::BLOCK_BITS;
        superblock.root_nid = narrow::<u16>(plan.nid(crate::Tree::ROOT), "the root's number")?.into();
        superblock.inode_count = (plan.walk.visits.len() as u64).into();
        superblock.block_count = narrow::<u32>(block_count, "the blocks of all blobs")?.into();
        superblock.meta_block = narrow::<u32>(sections.meta / BLOCK, "the tables")?.into();
        superblock.feature_incompat = layout::INCOMPAT_RAFS_V6.into();
        superblock.extra_devices = narrow::<u16>(blob_count, "the number of blobs")?.into();
        superblock.device_table_slot = layout::DEVICE_TABLE_SLOT.into();
        self.put(layout::SUPERBLOCK_OFFSET, superblock.as_bytes());

        let prefetch_len = plan.prefetched().count() as u64 * size_of::<u32>() as u64;
        let chunk_table_len = plan.used.chunks.len() as u64 * size_of::<ChunkEntry>() as u64;
        let blob_table_len = blob_count * size_of::<BlobEntry>() as u64;
        let mut extended = ExtendedSuperBlock::new_zeroed();
        extended.flags = flags(plan).into();
        extended.blob_table_offset = sections.blobs.into();
        extended.blob_table_size = narrow::<u32>(blob_table_len, "the blob table")?.into();
        extended.chunk_size = plan.options.chunk_size.into();
        extended.chunk_table_offset = sections.chunks.into();
        extended.chunk_table_size = chunk_table_len.into();
        if prefetch_len > 0 {
            extended.prefetch_table_offset = sections.prefetch.into();
            extended.prefetch_table_size = narrow::<u32>(prefetch_len, "the prefetch table")?.into();
        }
        self.put(layout::EXTENDED_SUPERBLOCK_OFFSET, extended.as_bytes());
        Ok(())
    }

    fn blobs(&mut self, plan: &Plan<'_>) {
        for (at, blob) in (0_u32..).zip(&plan.used.blobs) {
            let offset = plan.sections.blobs + u64::from(at) * size_of::<BlobEntry>() as u64;
            let mut entry = blob_entry(at, blob);
            entry.id = id(plan, blob);
            self.put(offset, entry.as_bytes());
        }
    }

    fn prefetch(&mut self, plan: &Plan<'_>) -> Result<(), BuildError> {
        for (number, at) in (0_u64..).zip(plan.prefetched()) {
            let nid: u32 = narrow(plan.places[at].offset / layout::SLOT, "an inode to prefetch")?;
            self.put(plan.sections.prefetch + number * 4, &nid.to_le_bytes());
        }
        Ok(())
    }

    fn chunks(&mut self, plan: &Plan<'_>) {
        let mut offset = plan.sections.chunks;
        for used in &plan.used.chunks {
            let entry = chunk_entry(used.id, used.chunk, used.file_offset);
            self.put(offset, entry.as_bytes());
            offset += size_of::<ChunkEntry>() as u64;
        }
    }

    /// Writes an inode and what belongs to it.
    fn inode(&mut self, plan: &Plan<'_>, at: usize) -> Result<(), BuildError> {
        let (visit, place) = (&plan.walk.visits[at], &plan.places[at]);
        let node = plan.tree.node(visit.id);
        let start = plan.sections.meta + place.offset;
        let body = start + size_of::<ExtendedInode>() as u64;
        let tail = body + visit.xattr_len;
        let block = plan.sections.blocks / BLOCK + place.blocks.start;
        let layout = if place.inline {
            layout::FORMAT_INLINE
        } else {
            layout::FORMAT_PLAIN
        };
        let (layout, union_word) = match &node.content {
            Content::Regular { chunks, .. } => {
                self.chunk_indexes(plan, tail.next_multiple_of(8), chunks);
                let bits = plan.options.chunk_size.trailing_zeros() - u32::from(layout::BLOCK_BITS);
                (layout::FORMAT_CHUNKED, layout::CHUNK_FORMAT_INDEXES | bits)
            }
            Content::Special { rdev, .. } => (layout::FORMAT_PLAIN, *rdev),
            Content::Directory(_) => {
                let names = directory::names(plan.tree, visit.id, visit.parent);
                let bytes = directory::bytes(&names, |id| (plan.nid(id), plan.tree.node(id).file_type()));
                self.data(&bytes, block, place.inline.then_some(tail));
                (layout, narrow(block, "the blocks of the bootstrap")?)
            }
            Content::Symlink(target) => {
                self.data(target, block, place.inline.then_some(tail));
                (layout, narrow(block, "the blocks of the bootstrap")?)
            }
        };
        let mut inode = ExtendedInode::new_zeroed();
        inode.format = (layout | layout::FORMAT_EXTENDED).into();
        inode.xattr_count = xattr_count(visit.xattr_len).into();
        inode.mode = (node.file_type().mode_bits() | node.attr.permissions).into();
        inode.size = visit.size.into();
        inode.union_word = union_word.into();
        inode.ino = narrow::<u32>(at as u64 + 1, "the number of inodes")?.into();
        inode.uid = node.attr.uid.into();
        inode.gid = node.attr.gid.into();
        inode.mtime = node.attr.mtime.secs.cast_unsigned().into();
        inode.mtime_nanos = node.attr.mtime.nanos.into();
        inode.nlink = visit.nlink.into();
        self.put(start, inode.as_bytes());
        self.put(body, &xattrs(&node.attr));
        Ok(())
    }

    /// Writes directory or link data: whole blocks from `block` on, the rest at `tail` if inline.
    fn data(&mut self, bytes: &[u8], block: u64, tail: Option<u64>) {
        let whole = match tail {
            Some(_) => bytes.len() - bytes.len() % BLOCK as usize,
            None => bytes.len(),
        };
        let (blocks, rest) = bytes.split_at(whole);
        self.put(block * BLOCK, blocks);
        if let Some(tail) = tail {
            self.put(tail, rest);
        }
    }

    fn chunk_indexes(&mut self, plan: &Plan<'_>, start: u64, chunks: &[ChunkId]) {
        let mut offset = start;
        for id in chunks {
            let blob = plan.used.blob(id.blob);
            let chunk = &plan.used.blobs[usize::from(blob)].chunks[id.index as usize];
            self.put(offset, chunk_index(blob, id.index, chunk).as_bytes());
            offset += size_of::<ChunkIndex>() as u64;
        }
    }
}

/// Count that stands for `len` bytes of attributes.
fn xattr_count(len: u64) -> u16 {
    match len {
        0 => 0,
        _ => u16::try_from((len - 12) / 4 + 1).expect("the walk bounds the room for attributes"),
    }
}

fn xattrs(attr: &Attr) -> Vec<u8> {
    let mut bytes = Vec::new();
    if attr.xattrs.is_empty() {
        return bytes;
    }
    bytes.extend_from_slice(XattrHeader::new_zeroed().as_bytes());
    for (name, value) in &attr.xattrs {
        let (prefix, suffix) = xattr::split(name).expect("the walk checks names");
        let entry = XattrEntry {
            name_len: u8::try_from(suffix.len()).expect("the walk checks names"),
            prefix,
            value_len: u16::try_from(value.len()).expect("the walk checks values").into(),
        };
        bytes.extend_from_slice(entry.as_bytes());
        bytes.extend_from_slice(suffix);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn chunk_index(blob: u16, index: u32, chunk: &ChunkRef) -> ChunkIndex {
    let block = chunk.uncompressed.offset / BLOCK;
    let [low, mid, high, _] = index.to_le_bytes();
    ChunkIndex {
        index_low: u16::from_le_bytes([low, mid]).into(),
        device: u8::try_from(blob + 1).expect("fewer than 255 blobs"),
        index_high: high,
        block: u32::try_from(block)
            .expect("blobs hold at most 2^32 blocks")
            .into(),
    }
}

fn chunk_entry(id: ChunkId, chunk: &ChunkRef, file_offset: u64) -> ChunkEntry {
    let flags = match chunk.codec {
        // Nothing is said here of members of batches: their chunk infos do.
        Codec::Raw | Codec::Shared => 0,
        Codec::Zstd | Codec::Lz4Block => CHUNK_COMPRESSED,
    };
    ChunkEntry {
        digest: chunk.digest.0,
        blob_index: u32::from(id.blob.0).into(),
        flags: flags.into(),
        compressed_size: chunk.compressed.len.into(),
        uncompressed_size: chunk.uncompressed.len.into(),
        compressed_offset: chunk.compressed.offset.into(),
        uncompressed_offset: chunk.uncompressed.offset.into(),
        file_offset: file_offset.into(),
        index: id.index.into(),
        crc32: 0.into(),
    }
}

fn blob_entry(at: u32, blob: &BlobInfo) -> BlobEntry {
    let mut entry = BlobEntry::new_zeroed();
    entry.index = at.into();
    entry.chunk_size = blob.options.chunk_size.into();
    entry.chunk_count = u32::try_from(blob.chunks.len())
        .expect("the plan bounds chunks")
        .into();
    entry.compressor = blob.options.compressor.to_disk().into();
    entry.digester = blob.options.digester.to_disk().into();
    entry.features = blob.features.into();
    entry.compressed_size = blob.compressed_size.into();
    entry.uncompressed_size = blob.uncompressed_size.into();
    entry.toc_size = blob.toc.size.into();
    entry.toc_digest = blob.toc.digest;
    entry.meta_compressor = blob.meta.compressor.to_disk().into();
    entry.meta_offset = blob.meta.offset.into();
    entry.meta_compressed_size = blob.meta.compressed_size.into();
    entry.meta_uncompressed_size = blob.meta.uncompressed_size.into();
    entry
}

fn flags(plan: &Plan<'_>) -> u64 {
    let compressor = match plan.options.compressor {
        Compressor::None => layout::FLAG_COMPRESS_NONE,
        Compressor::Lz4Block => layout::FLAG_COMPRESS_LZ4,
        Compressor::Gzip => layout::FLAG_COMPRESS_GZIP,
        Compressor::Zstd => layout::FLAG_COMPRESS_ZSTD,
    };
    let digester = match plan.options.digester {
        Digester::Blake3 => layout::FLAG_DIGEST_BLAKE3,
        Digester::Sha256 => layout::FLAG_DIGEST_SHA256,
    };
    let mut flags = compressor | digester | layout::FLAG_EXPLICIT_UID_GID | layout::FLAG_ENCRYPTION_NONE;
    if plan.walk.visits.iter().any(|visit| visit.xattr_len > 0) {
        flags |= layout::FLAG_HAS_XATTR;
    }
    let inlined = |blob: &&BlobInfo| blob.features & layout::BLOB_INLINED_CHUNK_DIGEST != 0;
    if plan.used.blobs.iter().all(inlined) {
        flags |= layout::FLAG_INLINED_CHUNK_DIGEST;
    }
    flags
}

/// The name of a blob in tables.
fn id(plan: &Plan<'_>, blob: &BlobInfo) -> [u8; 64] {
    match plan.is_layer {
        true => layout::LAYER_ID,
        false => hex(&blob.id),
    }
}

fn hex(id: &[u8; 32]) -> [u8; 64] {
    let text = id.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    });
    text.as_bytes().try_into().expect("32 bytes are 64 hex digits")
}
