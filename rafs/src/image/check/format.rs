//! Checking that the kernel finds the chunks of files where readers of RAFS find them.

use super::{Checker, Place};
use crate::image::inode::{Data, Inode};
use crate::layout::{BLOCK, BLOCK_BITS, ChunkIndex};

impl<'a> Checker<'a> {
    /// The kernel goes by the chunk format: from each index that it reads it takes as many blocks as the format says. Readers
    /// of RAFS go by the image's chunk size, and read every index.
    pub(super) fn chunk_format(&mut self, inode: &Inode, place: Place<'a>) {
        let Data::Chunks { start, count, bits } = inode.data else {
            return;
        };
        if self.is_chunk_lost {
            return;
        }
        let own = self.view.shape.chunk_size.trailing_zeros() - u32::from(BLOCK_BITS);
        let is_same = match bits.checked_sub(own) {
            Some(0) => true,
            Some(wider) => self.follow_each_other(start, count, wider),
            // Of narrower chunks the kernel would read more indexes than there are.
            None => inode.size <= BLOCK << bits,
        };
        if !is_same {
            let what = "the chunk format leads the kernel to other chunks than the indexes name";
            self.fault(inode.offset, Some(place), what);
        }
    }

    /// Whether chunks lie in their blob as one large chunk would, `1 << wider` times as long, whose index the kernel reads.
    fn follow_each_other(&self, start: u64, count: u64, wider: u32) -> bool {
        let chunk_blocks = u64::from(self.view.shape.chunk_size) / BLOCK;
        let place = |number: u64| {
            let offset = start + number * size_of::<ChunkIndex>() as u64;
            let index: &ChunkIndex = self
                .view
                .bytes
                .read(offset, "a chunk index lies outside the file")
                .ok()?;
            Some((index.device, u64::from(index.block.get())))
        };
        (0..count).all(|number| {
            let first = place(number >> wider);
            let passed = number & ((1 << wider) - 1);
            place(number) == first.map(|(device, block)| (device, block + passed * chunk_blocks))
        })
    }
}
