//! Chunks from blobs, many at a time: planned as few ranges, fetched ahead, decoded, verified.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use rafs::blob::{Piece, Units};
use rafs::chunk::{self, DecodeError};
use rafs::{ChunkRef, Digester};

use crate::error::{ChunkFault, Error};
use crate::opened::RafsImage;

mod plan;
mod recent;

use plan::{Run, Wanted, plan};
use recent::Recent;

/// Requests under way.
const RUN_COUNT_AT_ONCE: usize = 4;

/// A chunk with its content, or with what is wrong with it.
type Decoded = (ChunkRef, Result<Bytes, ChunkFault>);

/// Fetches `wanted` in that order and decodes and verifies each. One bad chunk does not end the stream; bytes that
/// cannot be fetched, and chunk infos that cannot be read, do.
pub(crate) fn fetch(
    image: Arc<RafsImage>,
    wanted: Vec<ChunkRef>,
) -> impl Stream<Item = Result<Decoded, Error>> {
    let recent = Arc::new(Recent::default());
    stream::once(locate(Arc::clone(&image), wanted))
        .map_ok(move |wanted| {
            let job = Job {
                image: Arc::clone(&image),
                wanted: wanted.into(),
                recent: Arc::clone(&recent),
            };
            let runs = plan(&job.wanted);
            stream::iter(runs)
                .map(move |run| job.clone().fetch_run(run))
                .buffered(RUN_COUNT_AT_ONCE)
                .map_ok(|chunks| stream::iter(chunks).map(Ok))
                .try_flatten()
        })
        .try_flatten()
}

/// Finds the units that the chunks are cut from.
async fn locate(image: Arc<RafsImage>, wanted: Vec<ChunkRef>) -> Result<Vec<Wanted>, Error> {
    let mut located = Vec::with_capacity(wanted.len());
    for chunk in wanted {
        let units = image.units(chunk.blob).await?;
        let piece = units.piece(&chunk);
        located.push(Wanted { chunk, piece });
    }
    Ok(located)
}

/// What all runs need.
#[derive(Clone)]
struct Job {
    image: Arc<RafsImage>,
    wanted: Arc<[Wanted]>,
    recent: Arc<Recent>,
}

impl Job {
    async fn fetch_run(self, run: Run) -> Result<Vec<Decoded>, Error> {
        let digest = self.image.blob_digest(run.blob)?;
        let decoder = Decoder {
            digester: self.image.bootstrap.blobs()[usize::from(run.blob.0)].digester,
            units: self.image.units(run.blob).await?,
            recent: self.recent,
            start: run.range.start,
        };
        let chunks = self.wanted[run.chunks.clone()].iter();
        // Held from here on: what is recent now need not be so any more when it is wanted.
        let held: Option<Vec<Bytes>> = chunks
            .filter_map(|wanted| Some((wanted.chunk.blob, wanted.piece.ok()?)))
            .map(|(blob, piece)| decoder.recent.get(blob, &piece.unit))
            .collect();
        let mut stored = Vec::new();
        if held.is_none() {
            let mut stream = self.image.source.range(&digest, run.range.clone()).await?;
            while let Some(bytes) = stream.next().await {
                stored.extend_from_slice(&bytes?);
            }
        }
        let wanted = Arc::clone(&self.wanted);
        let decode_all = move || {
            let mut held = held.map(Vec::into_iter);
            let chunks = wanted[run.chunks].iter();
            chunks
                .map(|wanted| {
                    let content = match wanted.piece {
                        Ok(piece) => {
                            let held = held.as_mut().and_then(Iterator::next);
                            decoder.decode(&wanted.chunk, &piece, held, &stored)
                        }
                        Err(error) => Err(ChunkFault::Place(error)),
                    };
                    (wanted.chunk, content)
                })
                .collect()
        };
        tokio::task::spawn_blocking(decode_all)
            .await
            .map_err(|_| Error::Interrupted)
    }
}

/// Turns the stored bytes of a run into contents.
struct Decoder {
    digester: Digester,
    units: Arc<Units>,
    recent: Arc<Recent>,
    /// Offset of the run in the blob.
    start: u64,
}

impl Decoder {
    /// Cuts a chunk out of its unit: that is held already, or was expanded a moment ago, or is among the stored bytes.
    fn decode(
        &self,
        chunk: &ChunkRef,
        piece: &Piece,
        held: Option<Bytes>,
        stored: &[u8],
    ) -> Result<Bytes, ChunkFault> {
        let is_whole = piece.skip == 0 && piece.len == piece.unit.len;
        let expanded = match held.or_else(|| self.recent.get(chunk.blob, &piece.unit)) {
            Some(expanded) => expanded,
            None => {
                let expanded = self.expand(piece, stored)?;
                if !is_whole {
                    self.recent.put(chunk.blob, piece.unit, expanded.clone());
                }
                expanded
            }
        };
        let corrupt = DecodeError::Corrupt { expected: piece.len };
        let content = piece.cut(&expanded).ok_or(corrupt)?;
        chunk::verify(chunk, self.digester, content)?;
        Ok(expanded.slice_ref(content))
    }

    fn expand(&self, piece: &Piece, stored: &[u8]) -> Result<Bytes, DecodeError> {
        let unit = &piece.unit;
        let place = unit.stored.offset.checked_sub(self.start);
        let stored = place
            .and_then(|from| usize::try_from(from).ok())
            .and_then(|from| stored.get(from..)?.get(..unit.stored.len as usize))
            .ok_or(DecodeError::Corrupt { expected: unit.len })?;
        let mut expanded = vec![0; unit.len as usize];
        self.units.expand(unit, stored, &mut expanded)?;
        Ok(expanded.into())
    }
}
