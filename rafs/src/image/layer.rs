//! The bootstrap of a single layer: it lies in the layer's blob, and so cannot know the blob's id.

use super::Error;
use super::bytes::Bytes;
use crate::chunk::Digest;
use crate::layout::{
    BlobEntry, DEVICE_TABLE_OFFSET, DeviceSlot, EXTENDED_SUPERBLOCK_OFFSET, ExtendedSuperBlock, LAYER_ID,
    SUPERBLOCK_OFFSET, SuperBlock,
};

/// Puts the id of the blob where [`LAYER_ID`] stands for it.
pub fn name_layer(bytes: &mut [u8], id: [u8; 32]) {
    let id = Digest(id).to_string();
    for place in places(Bytes(bytes)).unwrap_or_default() {
        let start = usize::try_from(place).unwrap_or(usize::MAX);
        let place = bytes
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..LAYER_ID.len()));
        if let Some(place) = place.filter(|place| **place == LAYER_ID) {
            place.copy_from_slice(id.as_bytes());
        }
    }
}

/// Where ids of blobs stand: at the start of device slots and of entries of the blob table.
fn places(bytes: Bytes<'_>) -> Result<Vec<u64>, Error> {
    let what = "a superblock lies outside the file";
    let superblock: &SuperBlock = bytes.read(SUPERBLOCK_OFFSET, what)?;
    let extended: &ExtendedSuperBlock = bytes.read(EXTENDED_SUPERBLOCK_OFFSET, what)?;
    let count = u64::from(superblock.extra_devices.get());
    let table = |start: u64, len: usize| (0..count).map(move |at| start.saturating_add(at * len as u64));
    let devices = table(DEVICE_TABLE_OFFSET, size_of::<DeviceSlot>());
    let blobs = table(extended.blob_table_offset.get(), size_of::<BlobEntry>());
    Ok(devices.chain(blobs).collect())
}
