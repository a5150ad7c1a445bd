//! Where inodes lie: a pure allocator of places in the inode area.
//!
//! Inodes start at multiples of 32 bytes. An inode with an inline tail lies within one block; the gap that this
//! may leave is filled by the inodes that follow. Whole blocks of directories and links come after all inodes, so
//! that inodes lie close together.

use std::ops::Range;

use crate::layout::{BLOCK, SLOT};

/// How many gaps are kept open. Gaps are filled by the next inodes, so few are ever open; a bound keeps placing
/// one inode cheap whatever the tree.
const GAPS_MAX: usize = 16;

/// What an inode needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes of inode, attributes and chunk indexes.
    pub(super) head: u64,
    /// Bytes of directory or link data; 0 for other kinds.
    pub(super) data: u64,
}

/// Where an inode lies, in bytes from the start of the inode area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The inode.
    pub(super) offset: u64,
    /// Whether the tail of the data follows the inode.
    pub(super) inline: bool,
    /// Whole blocks of data, as blocks from the start of the block area.
    pub(super) blocks: Range<u64>,
}

/// Hands out places in order.
#[derive(Debug)]
pub(super) struct Placer {
    cursor: u64,
    gaps: Vec<Range<u64>>,
    blocks: u64,
}

impl Placer {
    /// Starts at the second block: the first stays empty so that no inode has number 0, which `readdir` hides.
    pub(super) fn new() -> Self {
        Placer {
            cursor: BLOCK,
            gaps: Vec::new(),
            blocks: 0,
        }
    }

    /// Places the next inode.
    pub(super) fn place(&mut self, need: Need) -> Place {
        let tail = need.data % BLOCK;
        let inline = tail != 0 && need.head + tail <= BLOCK;
        let (bytes, blocks) = if inline {
            (need.head + tail, need.data / BLOCK)
        } else {
            (need.head, need.data.div_ceil(BLOCK))
        };
        let first = self.blocks;
        self.blocks += blocks;
        Place {
            offset: self.take(bytes.next_multiple_of(SLOT), inline),
            inline,
            blocks: first..self.blocks,
        }
    }

    /// Bytes of the inode area, a multiple of the block size.
    pub(super) fn inode_area_len(&self) -> u64 {
        self.cursor.next_multiple_of(BLOCK)
    }

    /// Blocks of the block area.
    pub(super) fn block_count(&self) -> u64 {
        self.blocks
    }

    /// Takes `len` bytes, within one block if `whole`.
    fn take(&mut self, len: u64, whole: bool) -> u64 {
        // A gap never crosses a block.
        if let Some(at) = self.gaps.iter().position(|gap| gap.end - gap.start >= len) {
            let start = self.gaps[at].start;
            self.gaps[at].start += len;
            if self.gaps[at].is_empty() {
                self.gaps.remove(at);
            }
            return start;
        }
        let left = BLOCK - self.cursor % BLOCK;
        if whole && left < len {
            if self.gaps.len() == GAPS_MAX {
                self.gaps.remove(0);
            }
            self.gaps.push(self.cursor..self.cursor + left);
            self.cursor += left;
        }
        let start = self.cursor;
        self.cursor += len;
        start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs() -> impl Strategy<Value = Vec<Need>> {
        let head = prop_oneof![Just(64_u64), 64..600_u64, 3000..9000_u64];
        let data = prop_oneof![Just(0_u64), 1..200_u64, 0..20_000_u64, Just(4096), 4000..4200_u64];
        proptest::collection::vec((head, data).prop_map(|(head, data)| Need { head, data }), 1..200)
    }

    proptest! {
        #[test]
        fn places_do_not_overlap_and_tails_do_not_cross_blocks(needs in needs()) {
            let mut placer = Placer::new();
            let places: Vec<_> = needs.iter().map(|&need| placer.place(need)).collect();
            let mut taken = Vec::new();
            let mut next_block = 0;
            for (need, place) in needs.iter().zip(&places) {
                prop_assert_eq!(place.offset % SLOT, 0);
                prop_assert!(place.offset >= BLOCK);
                let tail = if place.inline { need.data % BLOCK } else { 0 };
                let end = place.offset + need.head + tail;
                if place.inline {
                    prop_assert_eq!(place.offset / BLOCK, (end - 1) / BLOCK);
                }
                prop_assert!(end <= placer.inode_area_len());
                let held = (place.blocks.end - place.blocks.start) * BLOCK + tail;
                prop_assert!(held >= need.data && held < need.data + BLOCK);
                prop_assert_eq!(place.blocks.start, next_block);
                next_block = place.blocks.end;
                taken.push(place.offset..end);
            }
            prop_assert_eq!(next_block, placer.block_count());
            taken.sort_by_key(|range| range.start);
            prop_assert!(taken.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }

    #[test]
    fn gaps_are_filled() {
        let mut placer = Placer::new();
        let (file, directory) = (Need { head: 64, data: 0 }, Need { head: 64, data: 4000 });
        placer.place(file);
        assert_eq!(placer.place(directory).offset, 2 * BLOCK);
        assert_eq!(placer.place(file).offset, BLOCK + 64);
    }
}
