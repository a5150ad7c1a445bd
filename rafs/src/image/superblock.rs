//! The two superblocks: what kind of image it is, and where its tables lie.

use std::ops::Range;

use super::bytes::{Bytes, ensure};
use super::chunk_table::ChunkTable;
use super::{Blob, Error, Nid, table};
use crate::layout::{
    self, BLOCK, BlobEntry, ChunkEntry, DEVICE_TABLE_OFFSET, DeviceSlot, EXTENDED_SUPERBLOCK_OFFSET,
    ExtendedSuperBlock, SUPERBLOCK_OFFSET, SuperBlock,
};

/// What is learnt on opening.
pub(super) struct Shape {
    /// Byte offset that inode numbers count from.
    pub(super) meta: u64,
    /// The root directory.
    pub(super) root: Nid,
    /// Bytes per chunk, a power of two.
    pub(super) chunk_size: u32,
    /// Inodes, as the superblock counts them.
    pub(super) inode_count: u64,
    /// Where the tables lie.
    pub(super) tables: Tables,
    /// The blob table.
    pub(super) blobs: Vec<Blob>,
    /// Index of the chunk table.
    pub(super) chunks: ChunkTable,
}

/// Byte ranges of the tables.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) devices: Range<u64>,
    pub(super) blobs: Range<u64>,
    pub(super) prefetch: Range<u64>,
    pub(super) chunks: Range<u64>,
}

/// Byte offset of a field of a structure that starts at `base`.
macro_rules! at {
    ($base:expr, $structure:ty, $field:ident) => {
        $base + std::mem::offset_of!($structure, $field) as u64
    };
}

/// What is done about a fault: `Err` ends the reading, `Ok` goes on with what can be read all the same.
///
/// Opening takes the first fault for its answer; checking notes every one.
pub(super) type OnFault<'f> = dyn FnMut(Error) -> Result<(), Error> + 'f;

impl Shape {
    /// Reads and validates superblocks and tables.
    ///
    /// Where `on_fault` goes on, a table that cannot be found counts as empty, and an entry that says nothing is
    /// left out.
    pub(super) fn read(bytes: Bytes<'_>, on_fault: &mut OnFault<'_>) -> Result<Self, Error> {
        let superblock = read_superblock(bytes, on_fault)?;
        let what = "the RAFS superblock lies outside the file";
        let extended: &ExtendedSuperBlock = bytes.read(EXTENDED_SUPERBLOCK_OFFSET, what)?;
        check_flags(extended.flags.get(), on_fault)?;
        let is_legal = is_chunk_size(extended.chunk_size.get());
        ensure(
            is_legal,
            "the chunk size is not a power of two from 4 KiB to 16 MiB",
            at!(EXTENDED_SUPERBLOCK_OFFSET, ExtendedSuperBlock, chunk_size),
        )
        .or_else(&mut *on_fault)?;
        let tables = Tables::read(bytes, superblock, extended, on_fault)?;
        let chunk_size = match is_legal {
            true => extended.chunk_size.get(),
            false => table::chunk_size(bytes, &tables).unwrap_or(layout::CHUNK_SIZE_MAX),
        };
        let blobs = table::blobs(bytes, &tables, chunk_size, on_fault)?;
        // Without its blobs every chunk would be at fault for them.
        let has_lost = blobs.is_empty() && extended.blob_table_size.get() > 0;
        let table = if has_lost { 0..0 } else { tables.chunks.clone() };
        let chunks = ChunkTable::read(bytes, &table, &blobs, on_fault)?;
        Ok(Shape {
            meta: u64::from(superblock.meta_block.get()) * BLOCK,
            root: Nid(u64::from(superblock.root_nid.get())),
            chunk_size,
            inode_count: superblock.inode_count.get(),
            tables,
            blobs,
            chunks,
        })
    }
}

/// Whether chunks may have this size.
pub(super) fn is_chunk_size(size: u32) -> bool {
    size.is_power_of_two() && (layout::CHUNK_SIZE_MIN..=layout::CHUNK_SIZE_MAX).contains(&size)
}

/// Whether a file that starts with these bytes is a RAFS v6 bootstrap, sound or not.
pub(super) fn recognize(bytes: Bytes<'_>) -> Result<&SuperBlock, Error> {
    let foreign = |what| Error::Foreign { what };
    let superblock: &SuperBlock = bytes
        .read(SUPERBLOCK_OFFSET, "")
        .map_err(|_| foreign("the file is too short for a superblock"))?;
    if superblock.magic.get() != layout::MAGIC {
        return Err(foreign("the EROFS magic number is missing"));
    }
    if superblock.feature_compat.get() & layout::COMPAT_RAFS_V6 == 0 {
        return Err(foreign("an EROFS image, but without the mark of RAFS v6"));
    }
    Ok(superblock)
}

fn read_superblock<'a>(bytes: Bytes<'a>, on_fault: &mut OnFault<'_>) -> Result<&'a SuperBlock, Error> {
    let superblock = recognize(bytes)?;
    let unsupported = [
        (
            superblock.checksum.get() != 0,
            "superblock checksum",
            at!(SUPERBLOCK_OFFSET, SuperBlock, checksum),
        ),
        (
            superblock.block_bits != layout::BLOCK_BITS,
            "blocks of another size than 4096 bytes (tarfs)",
            at!(SUPERBLOCK_OFFSET, SuperBlock, block_bits),
        ),
        (
            superblock.ext_slots != 0,
            "superblock extension slots",
            at!(SUPERBLOCK_OFFSET, SuperBlock, ext_slots),
        ),
        (
            superblock.xattr_block.get() != 0,
            "shared extended attributes",
            at!(SUPERBLOCK_OFFSET, SuperBlock, xattr_block),
        ),
        (
            superblock.feature_incompat.get() != layout::INCOMPAT_RAFS_V6,
            "EROFS features beyond chunked files and devices",
            at!(SUPERBLOCK_OFFSET, SuperBlock, feature_incompat),
        ),
        (
            superblock.union_word.get() != 0,
            "EROFS compression settings",
            at!(SUPERBLOCK_OFFSET, SuperBlock, union_word),
        ),
        (
            superblock.device_table_slot.get() != layout::DEVICE_TABLE_SLOT,
            "device table at another place",
            at!(SUPERBLOCK_OFFSET, SuperBlock, device_table_slot),
        ),
    ];
    for (is_present, feature, offset) in unsupported {
        if is_present {
            on_fault(Error::Unsupported { feature, offset })?;
        }
    }
    ensure(
        bytes.len().is_multiple_of(BLOCK),
        "the file ends inside a block (truncated?)",
        bytes.len(),
    )
    .or_else(&mut *on_fault)?;
    ensure(
        superblock.inode_count.get() != 0,
        "the count of inodes is 0",
        at!(SUPERBLOCK_OFFSET, SuperBlock, inode_count),
    )
    .or_else(&mut *on_fault)?;
    Ok(superblock)
}

fn check_flags(flags: u64, on_fault: &mut OnFault<'_>) -> Result<(), Error> {
    const COMPRESSORS: u64 = layout::FLAG_COMPRESS_NONE
        | layout::FLAG_COMPRESS_LZ4
        | layout::FLAG_COMPRESS_GZIP
        | layout::FLAG_COMPRESS_ZSTD;
    const DIGESTERS: u64 = layout::FLAG_DIGEST_BLAKE3 | layout::FLAG_DIGEST_SHA256;
    const KNOWN: u64 = COMPRESSORS
        | DIGESTERS
        | layout::FLAG_EXPLICIT_UID_GID
        | layout::FLAG_HAS_XATTR
        | layout::FLAG_INLINED_CHUNK_DIGEST
        | layout::FLAG_ENCRYPTION_NONE
        | layout::FLAGS_RESERVED_COMPATIBLE;
    let offset = at!(EXTENDED_SUPERBLOCK_OFFSET, ExtendedSuperBlock, flags);
    for (bit, feature) in [
        (layout::FLAG_TARFS, "tarfs"),
        (layout::FLAG_ENCRYPTION_AES, "encryption"),
        (!KNOWN, "flag of a later version"),
    ] {
        if flags & bit != 0 {
            on_fault(Error::Unsupported { feature, offset })?;
        }
    }
    ensure(
        (flags & COMPRESSORS).count_ones() == 1,
        "the flags do not name exactly one compressor",
        offset,
    )
    .or_else(&mut *on_fault)?;
    ensure(
        (flags & DIGESTERS).count_ones() == 1,
        "the flags do not name exactly one digest",
        offset,
    )
    .or_else(&mut *on_fault)
}

impl Tables {
    fn read(
        bytes: Bytes<'_>,
        superblock: &SuperBlock,
        extended: &ExtendedSuperBlock,
        on_fault: &mut OnFault<'_>,
    ) -> Result<Self, Error> {
        let base = EXTENDED_SUPERBLOCK_OFFSET;
        let entry_len = size_of::<BlobEntry>() as u64;
        let device_count = u64::from(superblock.extra_devices.get());
        let blob_table_len = u64::from(extended.blob_table_size.get());
        ensure(
            blob_table_len == device_count * entry_len,
            "the blob table's size does not fit the number of devices",
            at!(base, ExtendedSuperBlock, blob_table_size),
        )
        .or_else(&mut *on_fault)?;
        let count = device_count.min(blob_table_len / entry_len);
        let mut table = |start: u64, len: u64, [align, unit]: [u64; 2], what, field| {
            let misfit = Error::Corrupt { what, offset: field };
            match start.checked_add(len) {
                _ if len == 0 => Ok(0..0),
                Some(end)
                    if end <= bytes.len() && start.is_multiple_of(align) && len.is_multiple_of(unit) =>
                {
                    Ok(start..end)
                }
                _ => on_fault(misfit).map(|()| 0..0),
            }
        };
        let tables = Tables {
            devices: table(
                DEVICE_TABLE_OFFSET,
                count * size_of::<DeviceSlot>() as u64,
                [1, 1],
                "the device table lies outside the file",
                at!(SUPERBLOCK_OFFSET, SuperBlock, extra_devices),
            )?,
            blobs: table(
                extended.blob_table_offset.get(),
                count * entry_len,
                [BLOCK, 1],
                "the blob table lies outside the file or is not aligned",
                at!(base, ExtendedSuperBlock, blob_table_offset),
            )?,
            prefetch: table(
                extended.prefetch_table_offset.get(),
                u64::from(extended.prefetch_table_size.get()),
                [8, 4],
                "the prefetch table lies outside the file, is not aligned or has no whole entries",
                at!(base, ExtendedSuperBlock, prefetch_table_offset),
            )?,
            chunks: table(
                extended.chunk_table_offset.get(),
                extended.chunk_table_size.get(),
                [BLOCK, size_of::<ChunkEntry>() as u64],
                "the chunk table lies outside the file, is not aligned or has no whole entries",
                at!(base, ExtendedSuperBlock, chunk_table_offset),
            )?,
        };
        tables.check_overlap(on_fault)?;
        Ok(tables)
    }

    fn check_overlap(&self, on_fault: &mut OnFault<'_>) -> Result<(), Error> {
        let superblocks = 0..DEVICE_TABLE_OFFSET;
        let mut ranges = [
            superblocks,
            self.devices.clone(),
            self.blobs.clone(),
            self.prefetch.clone(),
            self.chunks.clone(),
        ];
        ranges.sort_by_key(|range| (range.start, range.end));
        let mut end = 0;
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            ensure(end <= range.start, "two tables overlap", range.start).or_else(&mut *on_fault)?;
            end = end.max(range.end);
        }
        Ok(())
    }
}
