//! The supply of one image: its reads, from the cache and, for what is not there, from its source.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rafs::chunk::DecodeError;
use rafs::image::Extent;
use rafs::{BlobIndex, ChunkRef};
use rand::RngExt;
use tokio::time::Instant;

use super::engine::{Engine, Key, Landing};
use super::flight::{Boarding, Follow};
use super::permit::ImagePermits;
use super::task::LedChunk;
use super::{Error, Remedy};
use crate::cache::{Blob, Standing};
use crate::decode::{CONTENT_LEN_MAX, VerifiedChunk};
use crate::source::BlobSource;

/// Longest stored form of a chunk. Writers store a chunk raw when compression does not shrink it, so this is the
/// content's own limit with room for the framing of a codec that does not know that rule.
const STORED_LEN_MAX: u32 = CONTENT_LEN_MAX + (64 << 10);

/// How long an image waits for a chunk that another image fetches. Then it asks its own source: the other's may hang.
const FOREIGN_WAIT: Duration = Duration::from_millis(500);

/// First pause after a failed attempt, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause: a source that is back is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often a read fetches again what came corrupt. A damaged blob stays damaged; a damaged transfer does not.
const CORRUPT_RETRIES: u32 = 2;

/// How often a read goes on at once after its leader gave up without a word, before it pauses like after a failure.
const ORPHANED_RETRIES: u32 = 3;

/// Where the chunks of an image lie, by blob and number. `None` for numbers the image does not list.
pub(crate) type ChunkTable = Arc<dyn Fn(BlobIndex, u32) -> Option<ChunkRef> + Send + Sync>;

/// What a supply is made of.
pub(crate) struct SupplySpec {
    /// The image's number.
    pub(crate) image: u32,
    /// The image's blobs, by blob index.
    pub(crate) blobs: Vec<Arc<Blob>>,
    /// The image's chunks.
    pub(crate) table: ChunkTable,
    /// Where blobs come from.
    pub(crate) source: Arc<dyn BlobSource>,
}

/// What an image has cost.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    pub(crate) requests: AtomicU64,
    pub(crate) bytes_fetched: AtomicU64,
    pub(crate) read_errors: AtomicU64,
}

/// The supply of one image.
pub(crate) struct Supply {
    pub(super) engine: Arc<Engine>,
    pub(super) spec: SupplySpec,
    pub(super) permits: ImagePermits,
    pub(crate) cost: Cost,
}

/// A chunk of an image, by blob and number.
type ChunkName = (BlobIndex, u32);

/// What became of one attempt to get some chunks.
#[derive(Default)]
struct Attempt {
    failed: Vec<ChunkRef>,
    error: Option<Arc<Error>>,
    is_impatient: bool,
}

impl Supply {
    /// Makes a supply.
    pub(crate) fn new(engine: Arc<Engine>, spec: SupplySpec) -> Arc<Self> {
        let permits = engine.permits.image();
        Arc::new(Supply {
            engine,
            spec,
            permits,
            cost: Cost::default(),
        })
    }

    /// The image's blobs.
    pub(crate) fn blobs(&self) -> &[Arc<Blob>] {
        &self.spec.blobs
    }

    pub(super) fn blob(&self, chunk: &ChunkRef) -> Option<&Arc<Blob>> {
        self.spec.blobs.get(usize::from(chunk.blob.0))
    }

    /// Fills `out` with the extents if all their chunks are in the cache and believed. Never waits for anything but
    /// the disk. On `false`, `out` holds nothing of use.
    pub(crate) fn read_ready(&self, extents: &[Extent], out: &mut [u8]) -> bool {
        let is_ready = extents.iter().all(|extent| {
            self.blob(&extent.chunk)
                .is_some_and(|blob| blob.standing(&extent.chunk) == Standing::Ready)
        });
        is_ready && self.assemble(extents, &HashMap::new(), out).is_empty()
    }

    /// Reads the extents, one after the other, waiting for what has to be fetched.
    ///
    /// # Errors
    /// The deadline passed, the source gives the wrong bytes or says it has none, or the engine was closed.
    pub(crate) async fn read(self: &Arc<Self>, extents: Vec<Extent>) -> Result<Vec<u8>, Arc<Error>> {
        let closed = self.engine.closed.clone();
        let result = tokio::select! {
            biased;
            () = closed.cancelled() => Err(Arc::new(Error::Closed)),
            result = self.read_until_deadline(extents) => result,
        };
        if result.is_err() {
            self.cost.read_errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn read_until_deadline(self: &Arc<Self>, extents: Vec<Extent>) -> Result<Vec<u8>, Arc<Error>> {
        let deadline = self.engine.read_deadline;
        let mut last = None;
        tokio::time::timeout(deadline, self.read_patiently(extents, &mut last))
            .await
            .unwrap_or_else(|_| {
                Err(Arc::new(Error::Deadline {
                    deadline,
                    source: last,
                }))
            })
    }

    async fn read_patiently(
        self: &Arc<Self>,
        extents: Vec<Extent>,
        last: &mut Option<Arc<Error>>,
    ) -> Result<Vec<u8>, Arc<Error>> {
        let mut got = HashMap::new();
        let mut missing = self.wanted(&extents)?;
        let (mut failures, mut corruptions, mut orphaned) = (0, 0, 0);
        let mut only_for = None;
        loop {
            let attempt = self.attempt(&missing, only_for, &mut got).await;
            if attempt.is_impatient {
                only_for = Some(self.spec.image);
            }
            missing = attempt.failed;
            if let Some(error) = attempt.error {
                corruptions += u32::from(error.remedy() == Remedy::RetryFew);
                if error.remedy() == Remedy::GiveUp || corruptions > CORRUPT_RETRIES {
                    return Err(error);
                }
                tracing::debug!(image = self.spec.image, %error, "an attempt to fetch failed");
                let asked = error.retry_after();
                *last = Some(error);
                pause(failures, asked).await;
                failures += 1;
            } else if !missing.is_empty() && !attempt.is_impatient {
                orphaned += 1;
                if orphaned > ORPHANED_RETRIES {
                    pause(orphaned - ORPHANED_RETRIES, Duration::ZERO).await;
                }
            } else if missing.is_empty() {
                let (bytes, lost) = self.assemble_off_thread(extents.clone(), &got).await?;
                if lost.is_empty() {
                    return Ok(bytes);
                }
                missing = lost;
            }
        }
    }

    /// The chunks the extents lie in, each once.
    fn wanted(&self, extents: &[Extent]) -> Result<Vec<ChunkRef>, Arc<Error>> {
        let mut wanted: Vec<ChunkRef> = Vec::new();
        for Extent { chunk, .. } in extents {
            let is_sane = (1..=STORED_LEN_MAX).contains(&chunk.compressed.len)
                && chunk
                    .compressed
                    .offset
                    .checked_add(u64::from(chunk.compressed.len))
                    .is_some()
                && chunk.uncompressed.len <= CONTENT_LEN_MAX
                && self.blob(chunk).is_some();
            if !is_sane {
                let expected = chunk.uncompressed.len;
                return Err(Arc::new(Error::Corrupt(DecodeError::Corrupt { expected })));
            }
            if !wanted.iter().rev().any(|known| name(known) == name(chunk)) {
                wanted.push(*chunk);
            }
        }
        Ok(wanted)
    }

    /// Boards a flight for each chunk that is not in the cache, starts what has to be started, and waits for all.
    async fn attempt(
        self: &Arc<Self>,
        chunks: &[ChunkRef],
        only_for: Option<u32>,
        got: &mut HashMap<ChunkName, Arc<VerifiedChunk>>,
    ) -> Attempt {
        let mut led = Vec::new();
        let mut waits: Vec<(ChunkRef, Follow<Landing>)> = Vec::new();
        for chunk in chunks {
            let Some(blob) = self.blob(chunk) else { continue };
            if blob.standing(chunk) == Standing::Ready {
                continue;
            }
            match self
                .engine
                .flights
                .board(&self.key(blob, chunk, only_for), self.spec.image)
            {
                Boarding::Follow(follow) => waits.push((*chunk, follow)),
                // It may have landed between the look into the cache and the boarding.
                Boarding::Lead(_) if blob.standing(chunk) == Standing::Ready => {}
                Boarding::Lead(lead) => {
                    waits.push((*chunk, lead.follow(self.spec.image)));
                    led.push(LedChunk { chunk: *chunk, lead });
                }
            }
        }
        self.launch(led, only_for);
        let patience = Instant::now() + FOREIGN_WAIT;
        let mut attempt = Attempt::default();
        for (chunk, follow) in waits {
            let landing = if follow.owner == self.spec.image {
                follow.wait().await
            } else {
                tokio::time::timeout_at(patience, follow.wait())
                    .await
                    .unwrap_or_else(|_| {
                        attempt.is_impatient = true;
                        None
                    })
            };
            match landing {
                Some(Ok(verified)) => {
                    got.insert(name(&chunk), verified);
                }
                Some(Err(error)) => {
                    attempt.failed.push(chunk);
                    attempt.error = Some(error);
                }
                None => attempt.failed.push(chunk),
            }
        }
        attempt
    }

    pub(super) fn key(&self, blob: &Blob, chunk: &ChunkRef, only_for: Option<u32>) -> Key {
        Key {
            blob: blob.shape().id,
            index: chunk.index,
            digest: chunk.digest,
            only_for,
        }
    }

    async fn assemble_off_thread(
        self: &Arc<Self>,
        extents: Vec<Extent>,
        got: &HashMap<ChunkName, Arc<VerifiedChunk>>,
    ) -> Result<(Vec<u8>, Vec<ChunkRef>), Arc<Error>> {
        let (supply, got) = (self.clone(), got.clone());
        let len = extents.iter().map(|extent| extent.len as usize).sum();
        tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; len];
            let lost = supply.assemble(&extents, &got, &mut bytes);
            (bytes, lost)
        })
        .await
        // The runtime is going down and dropped the work.
        .map_err(|_| Arc::new(Error::Closed))
    }

    /// Copies the extents into `out`, from what came or from the cache. Returns the chunks that were in neither.
    fn assemble(
        &self,
        extents: &[Extent],
        got: &HashMap<ChunkName, Arc<VerifiedChunk>>,
        mut out: &mut [u8],
    ) -> Vec<ChunkRef> {
        let mut lost = Vec::new();
        for extent in extents {
            let Some((piece, rest)) = std::mem::take(&mut out).split_at_mut_checked(extent.len as usize)
            else {
                lost.push(extent.chunk);
                break;
            };
            out = rest;
            let from = extent.skip as usize;
            match got.get(&name(&extent.chunk)) {
                Some(verified) => match verified.content().get(from..from + piece.len()) {
                    Some(content) => piece.copy_from_slice(content),
                    None => lost.push(extent.chunk),
                },
                None => {
                    let Some(blob) = self.blob(&extent.chunk) else {
                        continue;
                    };
                    if let Err(error) = blob.read(&extent.chunk, extent.skip, piece) {
                        tracing::warn!(blob = %blob.shape().id, %error, "a cached chunk could not be read");
                        blob.lose(&extent.chunk);
                        lost.push(extent.chunk);
                    }
                }
            }
        }
        lost
    }
}

fn name(chunk: &ChunkRef) -> ChunkName {
    (chunk.blob, chunk.index)
}

/// Pauses before the next attempt, at least as long as was `asked`; jittered so that readers who failed together do
/// not come back together.
async fn pause(failures: u32, asked: Duration) {
    let full = PAUSE_MAX.min(PAUSE_MIN.saturating_mul(1 << failures.min(16)));
    let share = rand::rng().random_range(0.5..1.0);
    tokio::time::sleep(full.mul_f64(share).max(asked)).await;
}
