//! What lies where in a bootstrap, before any byte is written.

use super::chunk::Used;
use super::place::{Place, Placer};
use super::walk::Walk;
use super::{BuildError, Options};
use crate::blob::BlobInfo;
use crate::layout::{
    BLOCK, BlobEntry, CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, ChunkEntry, DEVICE_TABLE_OFFSET, DeviceSlot, SLOT,
};
use crate::tree::{InodeId, Tree};

/// Everything that the bytes follow from.
pub(super) struct Plan<'a> {
    pub(super) tree: &'a Tree,
    pub(super) options: &'a Options,
    pub(super) walk: Walk,
    /// Parallel to `walk.visits`.
    pub(super) places: Vec<Place>,
    pub(super) used: Used<'a>,
    pub(super) sections: Sections,
    /// Whether the bootstrap goes into its own blob and so cannot name it.
    pub(super) is_layer: bool,
}

/// Byte offsets of the sections of a bootstrap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sections {
    /// The blob table.
    pub(super) blobs: u64,
    /// The prefetch table.
    pub(super) prefetch: u64,
    /// What inode numbers count from.
    pub(super) meta: u64,
    /// Whole blocks of directories and links.
    pub(super) blocks: u64,
    /// The chunk table.
    pub(super) chunks: u64,
    /// The end of the file.
    pub(super) end: u64,
}

impl<'a> Plan<'a> {
    /// Plans the bootstrap of `tree`.
    pub(super) fn new(
        tree: &'a Tree,
        blobs: &'a [BlobInfo],
        options: &'a Options,
    ) -> Result<Self, BuildError> {
        let size = options.chunk_size;
        if !size.is_power_of_two() || !(CHUNK_SIZE_MIN..=CHUNK_SIZE_MAX).contains(&size) {
            return Err(BuildError::Options {
                what: "the chunk size must be a power of two from 4 KiB to 16 MiB",
            });
        }
        let walk = Walk::new(tree)?;
        let used = Used::new(tree, &walk, blobs, size)?;
        let mut placer = Placer::new();
        let places: Vec<_> = (walk.visits.iter())
            .map(|visit| placer.place(visit.need))
            .collect();
        let sections = Sections::new(&used, prefetched(&walk, options).count() as u64, &placer);
        Ok(Plan {
            tree,
            options,
            walk,
            places,
            used,
            sections,
            is_layer: false,
        })
    }

    /// Positions of the inodes to prefetch.
    pub(super) fn prefetched(&self) -> impl Iterator<Item = usize> {
        prefetched(&self.walk, self.options)
    }

    /// The number on disk of an inode that a name reaches.
    pub(super) fn nid(&self, id: InodeId) -> u64 {
        let at = self
            .walk
            .position(id)
            .expect("only inodes of the walk are written");
        self.places[at].offset / SLOT
    }
}

fn prefetched(walk: &Walk, options: &Options) -> impl Iterator<Item = usize> {
    options.prefetch.iter().filter_map(|&id| walk.position(id))
}

impl Sections {
    fn new(used: &Used<'_>, prefetch_count: u64, placer: &Placer) -> Self {
        let block = |bytes: u64| bytes.next_multiple_of(BLOCK);
        let blob_count = used.blobs.len() as u64;
        let blobs = block(DEVICE_TABLE_OFFSET + blob_count * size_of::<DeviceSlot>() as u64);
        let prefetch = blobs + blob_count * size_of::<BlobEntry>() as u64;
        let prefetch_len = prefetch_count * size_of::<u32>() as u64;
        // An image of no tables has its inode area over the superblock's block, whose inodes are never used.
        let meta = match blob_count + prefetch_count {
            0 => 0,
            _ => block(prefetch + prefetch_len),
        };
        let blocks = meta + placer.inode_area_len();
        let chunks = blocks + placer.block_count() * BLOCK;
        let end = block(chunks + used.chunks.len() as u64 * size_of::<ChunkEntry>() as u64);
        Sections {
            blobs,
            prefetch,
            meta,
            blocks,
            chunks,
            end,
        }
    }
}
