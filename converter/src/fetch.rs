//! Chunks from blobs, many at a time: planned as few ranges, fetched ahead, decoded, verified.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use rafs::chunk::{self, DecodeError};
use rafs::{BlobIndex, ChunkRef, Digester};

use crate::error::Error;
use crate::opened::RafsImage;

/// Bytes of one request. Large enough that a round trip costs little, small enough to hold several.
const RUN_LEN_MAX: u64 = 8 << 20;
/// Unwanted bytes between two chunks that are cheaper to read than another request.
const GAP_LEN_MAX: u64 = 64 << 10;
/// Requests under way.
const RUN_COUNT_AT_ONCE: usize = 4;

/// Neighbouring chunks fetched with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    blob: BlobIndex,
    range: Range<u64>,
    /// Which of the wanted chunks.
    chunks: Range<usize>,
}

/// A chunk with its content, or with what is wrong with it.
type Decoded = (ChunkRef, Result<Bytes, DecodeError>);

/// Fetches `wanted` in that order and decodes and verifies each. One bad chunk does not end the stream; bytes that
/// cannot be fetched do.
pub(crate) fn fetch(
    image: Arc<RafsImage>,
    wanted: Vec<ChunkRef>,
) -> impl Stream<Item = Result<Decoded, Error>> {
    let wanted: Arc<[ChunkRef]> = wanted.into();
    stream::iter(plan(&wanted))
        .map(move |run| fetch_run(Arc::clone(&image), Arc::clone(&wanted), run))
        .buffered(RUN_COUNT_AT_ONCE)
        .map_ok(|chunks| stream::iter(chunks).map(Ok))
        .try_flatten()
}

/// Joins chunks that follow each other in their blob into runs.
fn plan(wanted: &[ChunkRef]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (number, chunk) in wanted.iter().enumerate() {
        let start = chunk.compressed.offset;
        let end = start.saturating_add(u64::from(chunk.compressed.len));
        match runs.last_mut() {
            Some(run)
                if run.blob == chunk.blob
                    && (run.range.end..=run.range.end.saturating_add(GAP_LEN_MAX)).contains(&start)
                    && end - run.range.start <= RUN_LEN_MAX =>
            {
                run.range.end = end;
                run.chunks.end = number + 1;
            }
            _ => runs.push(Run {
                blob: chunk.blob,
                range: start..end,
                chunks: number..number + 1,
            }),
        }
    }
    runs
}

async fn fetch_run(image: Arc<RafsImage>, wanted: Arc<[ChunkRef]>, run: Run) -> Result<Vec<Decoded>, Error> {
    let digest = image.blob_digest(run.blob)?;
    let digester = image.bootstrap.blobs()[usize::from(run.blob.0)].digester;
    let mut stored = Vec::new();
    let mut stream = image.source.range(&digest, run.range.clone()).await?;
    while let Some(bytes) = stream.next().await {
        stored.extend_from_slice(&bytes?);
    }
    let decode_all = move || {
        let chunks = wanted[run.chunks].iter();
        chunks
            .map(|chunk| (*chunk, decode(chunk, digester, &stored, run.range.start)))
            .collect()
    };
    tokio::task::spawn_blocking(decode_all)
        .await
        .map_err(|_| Error::Interrupted)
}

fn decode(chunk: &ChunkRef, digester: Digester, stored: &[u8], start: u64) -> Result<Bytes, DecodeError> {
    let corrupt = || DecodeError::Corrupt {
        expected: chunk.uncompressed.len,
    };
    let from = usize::try_from(chunk.compressed.offset - start).map_err(|_| corrupt())?;
    let to = from
        .checked_add(chunk.compressed.len as usize)
        .ok_or_else(corrupt)?;
    let stored = stored.get(from..to).ok_or_else(corrupt)?;
    let mut content = vec![0; chunk.uncompressed.len as usize];
    chunk::decode(chunk, digester, stored, &mut content)?;
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rafs::{Codec, Digest, Span};

    use super::*;

    fn chunk(blob: u16, offset: u64, len: u32) -> ChunkRef {
        ChunkRef {
            blob: BlobIndex(blob),
            index: 0,
            compressed: Span { offset, len },
            uncompressed: Span { offset: 0, len },
            codec: Codec::Raw,
            digest: Digest([0; 32]),
        }
    }

    #[test]
    fn neighbours_are_joined_and_others_are_not() {
        let wanted = [
            chunk(0, 0, 10),
            chunk(0, 10, 10),
            chunk(1, 20, 10),
            chunk(1, 0, 10),
            chunk(1, 1 << 20, 10),
        ];
        let ranges: Vec<_> = plan(&wanted)
            .into_iter()
            .map(|run| (run.blob.0, run.range))
            .collect();
        assert_eq!(
            ranges,
            [(0, 0..20), (1, 20..30), (1, 0..10), (1, 1 << 20..(1 << 20) + 10)]
        );
    }

    proptest! {
        #[test]
        fn every_chunk_is_in_exactly_one_run(
            wanted in prop::collection::vec((0u16..3, 0u64..1 << 26, 1u32..1 << 24), 0..50)
        ) {
            let wanted: Vec<_> = wanted.into_iter().map(|(blob, offset, len)| chunk(blob, offset, len)).collect();
            let mut next = 0;
            for run in plan(&wanted) {
                prop_assert_eq!(run.chunks.start, next);
                next = run.chunks.end;
                for chunk in &wanted[run.chunks.clone()] {
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
