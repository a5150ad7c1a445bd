//! Packing of chunk infos.

use crate::chunk::ChunkRef;
use crate::layout::ChunkInfoV1;

const LOW_20: u64 = 0xF_FFFF;
const LOW_40: u64 = 0xFF_FFFF_FFFF;

/// Packs the place of a chunk. Sizes have 24 bits, offsets 44 (a multiple of 4096) and 40; more is cut off.
pub(crate) fn pack_v1(chunk: &ChunkRef) -> ChunkInfoV1 {
    let size = |len: u32| u64::from(len.wrapping_sub(1));
    let (content, stored) = (size(chunk.uncompressed.len), size(chunk.compressed.len));
    let blocks = (chunk.uncompressed.offset >> 12) & 0xFFFF_FFFF;
    ChunkInfoV1 {
        uncompressed: ((content & LOW_20) << 44 | blocks << 12 | ((content >> 20) & 0xF) << 8).into(),
        compressed: ((stored & LOW_20) << 44
            | ((stored >> 20) & 0xF) << 40
            | chunk.compressed.offset & LOW_40)
            .into(),
    }
}
