//! Checking what opening an image does not: the order and the places of chunks, the sizes of devices.

use super::Checker;
use crate::chunk::BlobIndex;
use crate::image::{Error, View};
use crate::layout::{
    BLOCK, ChunkEntry, DEVICE_TABLE_OFFSET, DeviceSlot, EXTENDED_SUPERBLOCK_OFFSET, ExtendedSuperBlock,
    SUPERBLOCK_OFFSET, SuperBlock,
};

/// Whether the blob table or the chunk table is announced but was not found.
pub(super) fn is_chunk_lost(view: View<'_>) -> bool {
    let superblock: Result<&SuperBlock, _> = view.bytes.read(SUPERBLOCK_OFFSET, "");
    let extended: Result<&ExtendedSuperBlock, _> = view.bytes.read(EXTENDED_SUPERBLOCK_OFFSET, "");
    let (Ok(superblock), Ok(extended)) = (superblock, extended) else {
        return true;
    };
    let tables = &view.shape.tables;
    let has_blobs = superblock.extra_devices.get() > 0 || extended.blob_table_size.get() > 0;
    (has_blobs && tables.blobs.is_empty())
        || (extended.chunk_table_size.get() > 0 && tables.chunks.is_empty())
}

impl Checker<'_> {
    /// Looks at everything outside the inodes.
    pub(super) fn tables(&mut self) {
        let tables = self.view.shape.tables.clone();
        self.claims.claim(0..DEVICE_TABLE_OFFSET);
        for range in [&tables.devices, &tables.blobs, &tables.prefetch, &tables.chunks] {
            self.claims.claim(range.clone());
        }
        if let Err(error) = self.devices() {
            self.error(error, None);
        }
        if let Err(error) = self.chunk_order() {
            self.error(error, None);
        }
        for blob in 0..self.view.shape.blobs.len() {
            self.blob_chunks(BlobIndex(u16::try_from(blob).expect("fewer than 255 blobs")));
        }
    }

    fn devices(&mut self) -> Result<(), Error> {
        let view = self.view;
        let superblock: &SuperBlock = view.bytes.read(SUPERBLOCK_OFFSET, "the superblock")?;
        let table = &view.shape.tables.devices;
        let slots: &[DeviceSlot] =
            (view.bytes).read_all(table.start, table.end - table.start, "the device table")?;
        let mut total = 0;
        for ((number, slot), blob) in (0_u64..).zip(slots).zip(&view.shape.blobs) {
            let blocks = blob.uncompressed_size / BLOCK;
            total += blocks;
            if u64::from(slot.blocks.get()) != blocks {
                let offset = table.start + number * size_of::<DeviceSlot>() as u64;
                self.fault(offset, None, "a device has another size than its blob");
            }
        }
        if !view.shape.blobs.is_empty() && u64::from(superblock.block_count.get()) != total {
            let what = "the superblock's block count is not the sum of the devices";
            self.fault(SUPERBLOCK_OFFSET, None, what);
        }
        Ok(())
    }

    /// The chunk table is sorted by digest, then blob.
    fn chunk_order(&mut self) -> Result<(), Error> {
        let table = self.view.shape.tables.chunks.clone();
        let entries: &[ChunkEntry] =
            (self.view.bytes).read_all(table.start, table.end - table.start, "the chunk table")?;
        let key = |entry: &ChunkEntry| (entry.digest, entry.blob_index.get());
        for (number, pair) in (1_u64..).zip(entries.windows(2)) {
            if key(&pair[0]) > key(&pair[1]) {
                let offset = table.start + number * size_of::<ChunkEntry>() as u64;
                self.fault(offset, None, "the chunk table is not sorted by digest");
            }
        }
        Ok(())
    }

    /// The chunks of a blob follow one another in its uncompressed image.
    fn blob_chunks(&mut self, blob: BlobIndex) {
        let view = self.view;
        let start = view.shape.tables.chunks.start;
        let mut end = 0;
        for &position in view.shape.chunks.of_blob(blob) {
            match view.chunk_at_position(position) {
                Ok(chunk) => {
                    if chunk.uncompressed.offset < end {
                        let offset = start + u64::from(position) * size_of::<ChunkEntry>() as u64;
                        self.fault(offset, None, "a chunk overlaps the one before it");
                    }
                    end = chunk.uncompressed.offset + u64::from(chunk.uncompressed.len);
                }
                Err(error) => self.error(error, None),
            }
        }
    }
}
