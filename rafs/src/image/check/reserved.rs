//! Checking what readers pay no heed to: reserved bytes and bits, and a count that only tells.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Checker, Place};
use crate::image::inode::Inode;
use crate::layout::{
    self, BlobEntry, ChunkEntry, CompactInode, DeviceSlot, EXTENDED_SUPERBLOCK_OFFSET, ExtendedInode,
    ExtendedSuperBlock, SUPERBLOCK_OFFSET, SuperBlock,
};

/// Flags in the chunk table that some writer sets: compressed, hole, encrypted, part of a batch, with a checksum.
const CHUNK_FLAGS: u32 = 0x1F;

const RESERVED: &str = "reserved bytes are not 0 (damaged, or of a later version)";

impl<'a> Checker<'a> {
    /// Looks at the superblocks and the tables.
    pub(super) fn reserved(&mut self) {
        let Some(superblock) = self.read::<SuperBlock>(SUPERBLOCK_OFFSET) else {
            return;
        };
        let unknown = superblock.feature_compat.get() & !layout::COMPAT_RAFS_V6;
        if unknown != 0 {
            let what = format!("unknown features {unknown:#x} (damaged, or of a later version)");
            self.fault(SUPERBLOCK_OFFSET, None, what);
        }
        self.zeros(SUPERBLOCK_OFFSET, &superblock.reserved);
        if let Some(extended) = self.read::<ExtendedSuperBlock>(EXTENDED_SUPERBLOCK_OFFSET) {
            let unknown = extended.flags.get() & layout::FLAGS_RESERVED_COMPATIBLE;
            if unknown != 0 {
                let what = format!("unknown flags {unknown:#x} (damaged, or of a later version)");
                self.fault(EXTENDED_SUPERBLOCK_OFFSET, None, what);
            }
            let padding = extended.padding.get().to_le_bytes();
            self.zeros(
                EXTENDED_SUPERBLOCK_OFFSET,
                &[&padding[..], &extended.reserved].concat(),
            );
        }
        let tables = self.view.shape.tables.clone();
        for (offset, slot) in self.entries::<DeviceSlot>(&tables.devices) {
            self.zeros(offset, &slot.reserved);
        }
        for (offset, entry) in self.entries::<BlobEntry>(&tables.blobs) {
            self.zeros(offset, &entry.reserved);
        }
        for (offset, entry) in self.entries::<ChunkEntry>(&tables.chunks) {
            let unknown = entry.flags.get() & !CHUNK_FLAGS;
            if unknown != 0 {
                self.fault(offset, None, format!("a chunk has unknown flags {unknown:#x}"));
            }
        }
    }

    /// Looks at one inode.
    pub(super) fn reserved_of(&mut self, inode: &Inode, place: Place<'a>) {
        let is_clean = match inode.is_extended() {
            true => self.read::<ExtendedInode>(inode.offset).is_none_or(|inode| {
                inode.reserved.get() == 0 && inode.reserved_tail.iter().all(|byte| *byte == 0)
            }),
            false => (self.read::<CompactInode>(inode.offset))
                .is_none_or(|inode| inode.reserved.get() == 0 && inode.reserved_tail.get() == 0),
        };
        if !is_clean {
            self.fault(inode.offset, Some(place), RESERVED);
        }
    }

    /// Compares the inodes that were found with what the superblock counts. Some writers count each name of a file.
    pub(super) fn inode_count(&mut self) {
        let found = self.links.len() as u64;
        let counted = self.view.shape.inode_count;
        if ![found, self.name_count].contains(&counted) {
            let offset = SUPERBLOCK_OFFSET + std::mem::offset_of!(SuperBlock, inode_count) as u64;
            let what = format!("the superblock counts {counted} inodes, but there are {found}");
            self.fault(offset, None, what);
        }
    }

    /// The entries of a table that was found, each with its offset.
    fn entries<T: FromBytes + Immutable + Unaligned + 'a>(
        &self,
        table: &Range<u64>,
    ) -> impl Iterator<Item = (u64, &'a T)> + use<'a, T> {
        let entries: &'a [T] = (self.view.bytes)
            .read_all(table.start, table.end - table.start, "")
            .unwrap_or_default();
        (table.start..).step_by(size_of::<T>()).zip(entries)
    }

    fn zeros(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.iter().any(|byte| *byte != 0) {
            self.fault(offset, None, RESERVED);
        }
    }

    fn read<T: FromBytes + KnownLayout + Immutable + Unaligned + 'a>(&self, offset: u64) -> Option<&'a T> {
        self.view.bytes.read(offset, "").ok()
    }
}
