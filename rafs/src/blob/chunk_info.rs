//! Chunk infos, packed bit by bit.

use zerocopy::little_endian::U64;

use crate::chunk::{ChunkRef, Codec, Span};
use crate::layout::{CHUNK_BATCH, CHUNK_COMPRESSED, ChunkInfoV1, ChunkInfoV2};

const LOW_20: u64 = 0xF_FFFF;
const LOW_24: u64 = 0xFF_FFFF;
const LOW_40: u64 = 0xFF_FFFF_FFFF;

/// A chunk info, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkInfo {
    /// Place in the blob; without meaning for members of a batch.
    pub(crate) compressed: Span,
    /// Place in the uncompressed image.
    pub(crate) uncompressed: Span,
    /// `CHUNK_*` of chunk infos.
    pub(crate) flags: u32,
    /// Number of the context that the chunk is cut from, if the flags ask for one.
    pub(crate) context: u32,
    /// Byte offset in the context's output.
    pub(crate) skip: u32,
}

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

/// Packs the place of a chunk of its own where others are in batches; limits as for [`pack_v1`].
pub(crate) fn pack_v2(chunk: &ChunkRef) -> ChunkInfoV2 {
    let flags = match chunk.codec {
        Codec::Raw => 0,
        Codec::Zstd | Codec::Lz4Block | Codec::Shared => CHUNK_COMPRESSED,
    };
    ChunkInfoV2 {
        uncompressed: content_v2(chunk, flags),
        compressed: (u64::from(chunk.compressed.len) << 40 | chunk.compressed.offset & LOW_40).into(),
        data: 0.into(),
    }
}

/// Packs the place of a chunk that is `skip` bytes into the batch with number `batch`, stored at `offset`.
pub(crate) fn pack_member(chunk: &ChunkRef, offset: u64, batch: u32, skip: u32) -> ChunkInfoV2 {
    ChunkInfoV2 {
        // The ecosystem flags all members as compressed, even where the batch as a whole is stored raw.
        uncompressed: content_v2(chunk, CHUNK_BATCH | CHUNK_COMPRESSED),
        compressed: (offset & LOW_40).into(),
        data: (u64::from(batch) << 32 | u64::from(skip)).into(),
    }
}

fn content_v2(chunk: &ChunkRef, flags: u32) -> U64 {
    let size = u64::from(chunk.uncompressed.len.wrapping_sub(1)) & LOW_24;
    let block = (chunk.uncompressed.offset >> 12) & 0xFFFF_FFFF;
    (u64::from(flags) << 56 | size << 32 | block).into()
}

impl From<&ChunkInfoV1> for ChunkInfo {
    fn from(packed: &ChunkInfoV1) -> Self {
        let (content, stored) = (packed.uncompressed.get(), packed.compressed.get());
        let uncompressed = Span {
            offset: content & 0xFFF_FFFF_F000,
            len: low(content >> 44 | (content >> 8 & 0xF) << 20) + 1,
        };
        let compressed = Span {
            offset: stored & LOW_40,
            len: low(stored >> 44 | (stored >> 40 & 0xF) << 20) + 1,
        };
        ChunkInfo {
            compressed,
            uncompressed,
            // There is no flag: what compression does not shrink is stored as it is.
            flags: if compressed.len == uncompressed.len {
                0
            } else {
                CHUNK_COMPRESSED
            },
            context: 0,
            skip: 0,
        }
    }
}

impl From<&ChunkInfoV2> for ChunkInfo {
    fn from(packed: &ChunkInfoV2) -> Self {
        let (content, stored) = (packed.uncompressed.get(), packed.compressed.get());
        ChunkInfo {
            compressed: Span {
                offset: stored & LOW_40,
                len: low(stored >> 40),
            },
            uncompressed: Span {
                offset: (content & 0xFFFF_FFFF) << 12,
                len: low(content >> 32 & LOW_24) + 1,
            },
            flags: low(content >> 56),
            context: low(packed.data.get() >> 32),
            skip: low(packed.data.get() & 0xFFFF_FFFF),
        }
    }
}

/// Narrows what has at most 32 bits.
fn low(bits: u64) -> u32 {
    u32::try_from(bits).expect("the bits above were cut off")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{BlobIndex, Codec, Digest};

    proptest! {
        #[test]
        fn version_1_packs_and_unpacks(
            offset in 0..1_u64 << 40,
            block in 0..1_u64 << 32,
            content in 1..=1_u32 << 24,
            stored in 1..=1_u32 << 24,
        ) {
            let chunk = ChunkRef {
                blob: BlobIndex(0),
                index: 0,
                compressed: Span { offset, len: stored },
                uncompressed: Span { offset: block << 12, len: content },
                codec: Codec::Zstd,
                digest: Digest([0; 32]),
            };
            let info = ChunkInfo::from(&pack_v1(&chunk));
            prop_assert_eq!(info.compressed, chunk.compressed);
            prop_assert_eq!(info.uncompressed, chunk.uncompressed);
        }

        #[test]
        fn version_2_packs_and_unpacks(
            offset in 0..1_u64 << 40,
            block in 0..1_u64 << 32,
            content in 1..=1_u32 << 24,
            stored in 0..1_u32 << 24,
            batch: u32,
            skip: u32,
        ) {
            let mut chunk = ChunkRef {
                blob: BlobIndex(0),
                index: 0,
                compressed: Span { offset, len: stored },
                uncompressed: Span { offset: block << 12, len: content },
                codec: Codec::Zstd,
                digest: Digest([0; 32]),
            };
            let info = ChunkInfo::from(&pack_v2(&chunk));
            prop_assert_eq!((info.compressed, info.uncompressed), (chunk.compressed, chunk.uncompressed));
            prop_assert_eq!(info.flags, CHUNK_COMPRESSED);
            chunk.compressed = Span { offset: 0, len: 0 };
            let info = ChunkInfo::from(&pack_member(&chunk, offset, batch, skip));
            prop_assert_eq!((info.compressed, info.uncompressed), (Span { offset, len: 0 }, chunk.uncompressed));
            prop_assert_eq!((info.context, info.skip), (batch, skip));
            prop_assert_eq!(info.flags, CHUNK_COMPRESSED | CHUNK_BATCH);
        }

        #[test]
        fn any_bits_unpack(uncompressed: u64, compressed: u64, data: u64) {
            let v1 = ChunkInfoV1 { uncompressed: uncompressed.into(), compressed: compressed.into() };
            let v2 = ChunkInfoV2 {
                uncompressed: uncompressed.into(),
                compressed: compressed.into(),
                data: data.into(),
            };
            for info in [ChunkInfo::from(&v1), ChunkInfo::from(&v2)] {
                prop_assert!(info.uncompressed.offset < 1 << 44 && info.uncompressed.len <= 1 << 24);
            }
        }
    }
}
