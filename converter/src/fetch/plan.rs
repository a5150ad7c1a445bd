//! Which bytes of which blob to ask for: chunks that follow each other are fetched with one request.

use std::ops::Range;

use rafs::blob::{MetaError, Piece};
use rafs::{BlobIndex, ChunkRef};

/// Bytes of one request. Large enough that a round trip costs little, small enough to hold several.
const RUN_LEN_MAX: u64 = 8 << 20;
/// Bytes that the chunks of one request may expand to: stored bytes may be few and contents huge.
const RUN_CONTENT_MAX: u64 = 32 << 20;
/// Unwanted bytes between two chunks that are cheaper to read than another request.
const GAP_LEN_MAX: u64 = 64 << 10;

/// A chunk and what it is cut from, if that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) chunk: ChunkRef,
    pub(super) piece: Result<Piece, MetaError>,
}

/// Neighbouring chunks fetched with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) blob: BlobIndex,
    pub(super) range: Range<u64>,
    /// Which of the wanted chunks.
    pub(super) chunks: Range<usize>,
    /// Bytes that they expand to.
    content_len: u64,
}

/// Joins chunks that follow each other in their blob into runs. The stored bytes of chunks without a place are none.
pub(super) fn plan(wanted: &[Wanted]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (number, wanted) in wanted.iter().enumerate() {
        let blob = wanted.chunk.blob;
        let last = runs.last_mut().filter(|run| run.blob == blob);
        let (range, content_len) = match (&wanted.piece, &last) {
            (Ok(piece), _) => {
                let start = piece.unit.stored.offset;
                let end = start.saturating_add(u64::from(piece.unit.stored.len));
                (start..end, u64::from(piece.unit.len))
            }
            (Err(_), Some(run)) => (run.range.end..run.range.end, 0),
            (Err(_), None) => (0..0, 0),
        };
        match last {
            Some(run) if run.takes(&range, content_len) => {
                let is_inside = range.end <= run.range.end;
                run.range.end = run.range.end.max(range.end);
                run.chunks.end = number + 1;
                // What lies inside was counted when the run grew over it, or shares a unit with what was.
                run.content_len += if is_inside { 0 } else { content_len };
            }
            _ => runs.push(Run {
                blob,
                range,
                chunks: number..number + 1,
                content_len,
            }),
        }
    }
    runs
}

impl Run {
    fn takes(&self, range: &Range<u64>, content_len: u64) -> bool {
        let reach = self.range.start..=self.range.end.saturating_add(GAP_LEN_MAX);
        let end = self.range.end.max(range.end);
        reach.contains(&range.start)
            && (range.end <= self.range.end || self.content_len + content_len <= RUN_CONTENT_MAX)
            && end - self.range.start <= RUN_LEN_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rafs::blob::Units;
    use rafs::image::Blob;
    use rafs::{Codec, Digest, Span};

    use super::*;

    fn units() -> Units {
        let place = rafs::blob::MetaPlace {
            compressor: rafs::Compressor::None,
            offset: 0,
            compressed_size: 0,
            uncompressed_size: 0,
        };
        Units::single(&Blob {
            id: String::new(),
            chunk_count: 0,
            compressed_size: 0,
            uncompressed_size: 0,
            compressor: rafs::Compressor::None,
            digester: rafs::Digester::Sha256,
            features: 0,
            meta: place,
            meta_blob: None,
            toc: rafs::blob::TocPlace::default(),
        })
    }

    fn wanted(blob: u16, offset: u64, len: u32, content_len: u32) -> Wanted {
        let chunk = ChunkRef {
            blob: BlobIndex(blob),
            index: 0,
            compressed: Span { offset, len },
            uncompressed: Span {
                offset: 0,
                len: content_len,
            },
            codec: Codec::Zstd,
            digest: Digest([0; 32]),
        };
        let piece = units().piece(&chunk);
        Wanted { chunk, piece }
    }

    #[test]
    fn neighbours_are_joined_and_others_are_not() {
        let wanted = [
            (0, 0, 10),
            (0, 10, 10),
            (1, 20, 10),
            (1, 0, 10),
            (1, 1 << 20, 10),
            // Once more, and its neighbour.
            (1, 1 << 20, 10),
            (1, (1 << 20) + 10, 10),
        ]
        .map(|(blob, offset, len)| wanted(blob, offset, len, len));
        let ranges: Vec<_> = plan(&wanted)
            .into_iter()
            .map(|run| (run.blob.0, run.range))
            .collect();
        assert_eq!(
            ranges,
            [(0, 0..20), (1, 20..30), (1, 0..10), (1, 1 << 20..(1 << 20) + 20)]
        );
    }

    #[test]
    fn small_bytes_of_huge_contents_are_not_gathered() {
        let wanted: Vec<_> = (0..10)
            .map(|number| wanted(0, number * 100, 100, 16 << 20))
            .collect();
        assert_eq!(plan(&wanted).len(), 5);
    }

    proptest! {
        #[test]
        fn every_chunk_is_in_exactly_one_run(
            places in prop::collection::vec((0u16..3, 0u64..1 << 26, 1u32..1 << 24), 0..50)
        ) {
            let wanted: Vec<_> =
                places.into_iter().map(|(blob, offset, len)| wanted(blob, offset, len, len)).collect();
            let mut next = 0;
            for run in plan(&wanted) {
                prop_assert_eq!(run.chunks.start, next);
                next = run.chunks.end;
                for wanted in &wanted[run.chunks.clone()] {
                    let chunk = wanted.chunk;
                    prop_assert_eq!(chunk.blob, run.blob);
                    prop_assert!(run.range.start <= chunk.compressed.offset);
                    prop_assert!(chunk.compressed.offset + u64::from(chunk.compressed.len) <= run.range.end);
                }
                prop_assert!(run.chunks.len() == 1 || run.range.end - run.range.start <= RUN_LEN_MAX);
            }
            prop_assert_eq!(next, wanted.len());
        }
    }
}
