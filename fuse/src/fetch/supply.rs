//! The supply of one image: its reads, from the cache and, for what is not there, from its source.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rafs::chunk::DecodeError;
use rafs::image::Extent;
use rafs::{BlobIndex, ChunkRef, Codec};
use rand::RngExt;

use super::ahead::Readers;
use super::engine::Engine;
use super::fill::Filling;
use super::flight::Flights;
use super::queue::{Class, Lane};
use super::run::Run;
use super::units::UnitMap;
use super::{Error, Remedy};
use crate::cache::{Blob, Standing};
use crate::decode::{CONTENT_LEN_MAX, VerifiedChunk};
use crate::source::BlobSource;

/// Longest stored form of a chunk. Writers store a chunk raw when compression does not shrink it, so this is the
/// content's own limit with room for the framing of a codec that does not know that rule.
const STORED_LEN_MAX: u32 = CONTENT_LEN_MAX + (64 << 10);

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
    /// The image's blobs in the cache, each with what the image says of it, by blob index.
    pub(crate) blobs: Vec<(Arc<Blob>, rafs::image::Blob)>,
    /// The image's chunks.
    pub(crate) table: ChunkTable,
    /// Where blobs come from.
    pub(crate) source: Arc<dyn BlobSource>,
}

/// One blob of an image.
pub(super) struct Lot {
    pub(super) index: BlobIndex,
    /// Its chunks in the cache.
    pub(super) blob: Arc<Blob>,
    /// What the image says of it.
    pub(super) info: rafs::image::Blob,
    /// Its units. For blobs with shared ones, unknown until the first miss.
    pub(super) map: OnceLock<Arc<UnitMap>>,
    pub(super) readers: Readers,
}

/// What an image has cost.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    pub(crate) requests: AtomicU64,
    pub(crate) read_errors: AtomicU64,
    /// Bytes that an earlier process recorded and this one hashed.
    pub(crate) checked: AtomicU64,
    /// Stored bytes, by class.
    fetched: [AtomicU64; Class::ALL.len()],
    /// Time that reads waited for what was not in the cache, microseconds.
    blocked_micros: AtomicU64,
}

impl Cost {
    pub(super) fn count(&self, class: Class, len: usize) {
        self.fetched[class as usize].fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Stored bytes that were fetched for these classes.
    pub(crate) fn fetched(&self, classes: &[Class]) -> u64 {
        let of = |class: &Class| self.fetched[*class as usize].load(Ordering::Relaxed);
        classes.iter().map(of).sum()
    }

    /// Time that reads waited for what was not in the cache, all of them together.
    pub(crate) fn blocked(&self) -> Duration {
        Duration::from_micros(self.blocked_micros.load(Ordering::Relaxed))
    }
}

/// The supply of one image.
pub(crate) struct Supply {
    pub(super) engine: Arc<Engine>,
    pub(super) spec: SupplySpec,
    pub(super) lots: Vec<Arc<Lot>>,
    /// Chunk infos under way, by blob.
    pub(super) metas: Flights<BlobIndex, Result<Arc<UnitMap>, Arc<Error>>>,
    pub(super) lane: Lane,
    pub(super) filling: Filling,
    needed_len: OnceLock<u64>,
    pub(crate) cost: Cost,
}

/// A chunk of an image, by blob and number.
pub(super) type ChunkName = (BlobIndex, u32);

impl Supply {
    /// Makes a supply.
    pub(crate) fn new(engine: Arc<Engine>, mut spec: SupplySpec) -> Arc<Self> {
        let lane = engine.queue.lane();
        let blobs = (0..).map(BlobIndex).zip(spec.blobs.drain(..));
        let lots = blobs.map(|(index, (blob, info))| {
            let map = OnceLock::new();
            if !info.has_shared_units() {
                map.get_or_init(|| Arc::new(UnitMap::single(&info)));
            }
            Arc::new(Lot {
                index,
                blob,
                info,
                map,
                readers: Readers::default(),
            })
        });
        Arc::new(Supply {
            engine,
            lots: lots.collect(),
            metas: Flights::new(),
            spec,
            lane,
            filling: Filling::default(),
            needed_len: OnceLock::new(),
            cost: Cost::default(),
        })
    }

    /// The image's blobs.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Arc<Blob>> {
        self.lots.iter().map(|lot| &lot.blob)
    }

    /// Uncompressed bytes of all chunks that the image lists.
    pub(crate) fn needed_len(&self) -> u64 {
        let lens = || {
            self.lots.iter().flat_map(|lot| {
                let chunks =
                    (0..lot.info.chunk_count).filter_map(|number| (self.spec.table)(lot.index, number));
                chunks.map(|chunk| u64::from(chunk.uncompressed.len))
            })
        };
        *self
            .needed_len
            .get_or_init(|| lens().fold(0, u64::saturating_add))
    }

    pub(super) fn lot(&self, index: BlobIndex) -> Option<&Arc<Lot>> {
        self.lots.get(usize::from(index.0))
    }

    fn blob(&self, chunk: &ChunkRef) -> Option<&Arc<Blob>> {
        self.lot(chunk.blob).map(|lot| &lot.blob)
    }

    /// Fills `out` with the runs if all their chunks are in the cache and believed. Never waits for anything but the
    /// disk. On `false`, `out` holds nothing of use.
    pub(crate) fn read_ready(self: &Arc<Self>, runs: &[Run], out: &mut [u8]) -> bool {
        let is_ready = runs.iter().all(|run| match run {
            Run::Chunk(extent) => self
                .blob(&extent.chunk)
                .is_some_and(|blob| blob.standing(&extent.chunk) == Standing::Ready),
            Run::Zeros(_) => true,
        });
        let is_read = is_ready && self.assemble(runs, &HashMap::new(), out).is_empty();
        if is_read {
            self.note_read(runs);
        }
        is_read
    }

    /// Reads the runs, one after the other, waiting for what has to be fetched.
    ///
    /// # Errors
    /// The deadline passed, the source gives the wrong bytes or says it has none, or the engine was closed.
    pub(crate) async fn read(self: &Arc<Self>, runs: Vec<Run>) -> Result<Vec<u8>, Arc<Error>> {
        let closed = self.engine.closed.clone();
        let began = tokio::time::Instant::now();
        let result = tokio::select! {
            biased;
            () = closed.cancelled() => Err(Arc::new(Error::Closed)),
            result = self.read_until_deadline(runs) => result,
        };
        let blocked = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.cost.blocked_micros.fetch_add(blocked, Ordering::Relaxed);
        if result.is_err() {
            self.cost.read_errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn read_until_deadline(self: &Arc<Self>, runs: Vec<Run>) -> Result<Vec<u8>, Arc<Error>> {
        let deadline = self.engine.read_deadline;
        let mut last = None;
        tokio::time::timeout(deadline, self.read_patiently(runs, &mut last))
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
        runs: Vec<Run>,
        last: &mut Option<Arc<Error>>,
    ) -> Result<Vec<u8>, Arc<Error>> {
        let mut got = HashMap::new();
        let mut missing = self.wanted(&runs)?;
        self.note_miss(&runs);
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
                let (bytes, lost) = self.assemble_off_thread(runs.clone(), &got).await?;
                if lost.is_empty() {
                    return Ok(bytes);
                }
                missing = lost;
            }
        }
    }

    /// The chunks the runs lie in, each once.
    fn wanted(&self, runs: &[Run]) -> Result<Vec<ChunkRef>, Arc<Error>> {
        let mut wanted: Vec<ChunkRef> = Vec::new();
        for Extent { chunk, .. } in runs.iter().filter_map(Run::extent) {
            let stored = chunk.compressed;
            // Where a chunk shares a unit, its stored place says nothing; the units' own places are checked.
            let has_place = chunk.codec == Codec::Shared
                || ((1..=STORED_LEN_MAX).contains(&stored.len)
                    && stored.offset.checked_add(u64::from(stored.len)).is_some());
            let is_sane =
                has_place && chunk.uncompressed.len <= CONTENT_LEN_MAX && self.blob(chunk).is_some();
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

    async fn assemble_off_thread(
        self: &Arc<Self>,
        runs: Vec<Run>,
        got: &HashMap<ChunkName, VerifiedChunk>,
    ) -> Result<(Vec<u8>, Vec<ChunkRef>), Arc<Error>> {
        let (supply, got) = (self.clone(), got.clone());
        let len = runs.iter().map(|run| run.len() as usize).sum();
        tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; len];
            let lost = supply.assemble(&runs, &got, &mut bytes);
            (bytes, lost)
        })
        .await
        // The runtime is going down and dropped the work.
        .map_err(|_| Arc::new(Error::Closed))
    }

    /// Copies the runs into `out`, from what came or from the cache. Returns the chunks that were in neither.
    fn assemble(
        &self,
        runs: &[Run],
        got: &HashMap<ChunkName, VerifiedChunk>,
        mut out: &mut [u8],
    ) -> Vec<ChunkRef> {
        let mut lost = Vec::new();
        for run in runs {
            let room = std::mem::take(&mut out).split_at_mut_checked(run.len() as usize);
            let (piece, rest) = room.expect("the caller makes room for the sum of the lengths");
            out = rest;
            match run {
                Run::Zeros(_) => piece.fill(0),
                Run::Chunk(extent) if self.copy(extent, got, piece) => {}
                Run::Chunk(extent) => lost.push(extent.chunk),
            }
        }
        lost
    }

    /// Copies an extent to `out`. Returns whether it was there.
    fn copy(&self, extent: &Extent, got: &HashMap<ChunkName, VerifiedChunk>, out: &mut [u8]) -> bool {
        let from = extent.skip as usize;
        if let Some(verified) = got.get(&name(&extent.chunk)) {
            let content = verified.content().get(from..from + out.len());
            return content.map(|content| out.copy_from_slice(content)).is_some();
        }
        let Some(blob) = self.blob(&extent.chunk) else {
            return false;
        };
        let read = blob.read(&extent.chunk, extent.skip, out);
        if let Err(error) = &read
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(blob = %blob.shape().id, %error, "a cached chunk could not be read");
            blob.lose(&extent.chunk);
        }
        read.is_ok()
    }
}

pub(super) fn name(chunk: &ChunkRef) -> ChunkName {
    (chunk.blob, chunk.index)
}

/// Pauses before the next attempt, at least as long as was `asked`; jittered so that readers who failed together do
/// not come back together.
async fn pause(failures: u32, asked: Duration) {
    let full = super::doubled(PAUSE_MIN, PAUSE_MAX, failures);
    let share = rand::rng().random_range(0.5..1.0);
    tokio::time::sleep(full.mul_f64(share).max(asked)).await;
}
