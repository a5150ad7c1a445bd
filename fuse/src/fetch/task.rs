//! The tasks behind a read: fetching a range, checking what an earlier process left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use rafs::{BlobIndex, ChunkRef};

use super::Error;
use super::cut::Cutter;
use super::engine::{Key, Landing};
use super::flight::Lead;
use super::plan::{self, FetchRange, Limits, Stored};
use super::supply::Supply;
use crate::cache::{Blob, Standing};
use crate::decode;

/// A mebibyte of neighbourhood takes 8 ms at 1 Gbit/s, about one round trip to a registry; gaps up to 64 KiB cost
/// less than another request; ranges are as long as four blocks, so that a broken one loses little.
const LIMITS: Limits = Limits {
    block_len: 1 << 20,
    gap_max: 64 << 10,
    range_max: 4 << 20,
};

/// A chunk and the duty to bring it.
pub(super) struct LedChunk {
    pub(super) chunk: ChunkRef,
    pub(super) lead: Lead<Key, Landing>,
}

/// A range to fetch, with the duties for all its chunks.
struct Job {
    range: FetchRange,
    led: HashMap<u32, LedChunk>,
}

impl Supply {
    /// Starts whatever brings the chunks: a check of what is on disk, or requests that bring neighbours along.
    pub(super) fn launch(self: &Arc<Self>, led: Vec<LedChunk>, only_for: Option<u32>) {
        let mut absent: HashMap<BlobIndex, Vec<LedChunk>> = HashMap::new();
        for led in led {
            let Some(blob) = self.blob(&led.chunk) else {
                continue;
            };
            match blob.standing(&led.chunk) {
                Standing::Recorded => self.check(blob.clone(), led),
                Standing::Absent | Standing::Ready | Standing::Barred => {
                    absent.entry(led.chunk.blob).or_default().push(led);
                }
            }
        }
        for led in absent.into_values() {
            for job in self.plan(led, only_for) {
                let supply = self.clone();
                self.engine.spawn(async move { supply.fetch(job).await });
            }
        }
    }

    /// Plans the requests for absent chunks of one blob, and boards a flight for each neighbour that comes along.
    fn plan(&self, led: Vec<LedChunk>, only_for: Option<u32>) -> Vec<Job> {
        let Some(blob) = led.first().and_then(|led| self.blob(&led.chunk)) else {
            return Vec::new();
        };
        let index = led[0].chunk.blob;
        let absent = |number| {
            (self.spec.table)(index, number)
                .filter(|chunk| chunk.compressed.len > 0 && blob.standing(chunk) == Standing::Absent)
        };
        let neighbour = |number| {
            absent(number)
                .filter(|chunk| !self.engine.flights.is_flying(&self.key(blob, chunk, only_for)))
                .map(|chunk| chunk.compressed)
        };
        let wanted: Vec<_> = led.iter().map(|led| stored(&led.chunk)).collect();
        let mut led: HashMap<u32, LedChunk> = led.into_iter().map(|led| (led.chunk.index, led)).collect();
        let mut jobs = Vec::new();
        for mut range in plan::ranges(&wanted, neighbour, &LIMITS) {
            let mut job_led = HashMap::new();
            range.chunks.retain(|stored| {
                let led = led.remove(&stored.index).or_else(|| {
                    let chunk = absent(stored.index)?;
                    let lead = self
                        .engine
                        .flights
                        .lead(&self.key(blob, &chunk, only_for), self.spec.image)?;
                    // It may have landed before the boarding.
                    absent(stored.index).map(|chunk| LedChunk { chunk, lead })
                });
                led.map(|led| job_led.insert(stored.index, led)).is_some()
            });
            // Where chunks dropped out, because others fetch them by now, there may be gaps too wide for one request.
            for range in plan::join(range.chunks.into_iter(), &LIMITS) {
                let numbers = range.chunks.iter().map(|stored| stored.index);
                let led = numbers
                    .filter_map(|number| Some((number, job_led.remove(&number)?)))
                    .collect();
                jobs.push(Job { range, led });
            }
        }
        jobs
    }

    /// Fetches a range. Chunks that did not come land with the reason.
    async fn fetch(self: Arc<Self>, mut job: Job) {
        let _permit = self.permits.acquire().await;
        // Even a source that trickles must let go of the chunks some time, or they would wait for it forever.
        let attempt = tokio::time::timeout(self.engine.read_deadline, self.stream(&job.range, &mut job.led));
        let result = attempt
            .await
            .unwrap_or_else(|_| Err(Error::Stalled(self.engine.read_deadline)));
        if let Err(error) = result {
            let error = Arc::new(error);
            for led in job.led.into_values() {
                led.lead.land(Err(error.clone()));
            }
        }
    }

    async fn stream(&self, range: &FetchRange, led: &mut HashMap<u32, LedChunk>) -> Result<(), Error> {
        let Some(blob) = led.values().next().and_then(|led| self.blob(&led.chunk)) else {
            return Ok(());
        };
        let id = blob.shape().id.to_string();
        self.cost.requests.fetch_add(1, Ordering::Relaxed);
        let stall = self.engine.stall();
        let opening = self.spec.source.read(&id, range.bytes.clone());
        let mut body = unless_silent(stall, opening).await?.map_err(Error::Source)?;
        let mut cutter = Cutter::new(range);
        while !cutter.is_done() {
            let Some(bytes) = unless_silent(stall, body.next()).await? else {
                return Err(Error::Short { missing: led.len() });
            };
            let bytes = bytes.map_err(Error::Source)?;
            self.cost
                .bytes_fetched
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            cutter.push(&bytes);
            while let Some((stored, bytes)) = cutter.pop() {
                if let Some(led) = led.remove(&stored.index) {
                    self.land(blob.clone(), led, bytes).await;
                }
            }
        }
        Ok(())
    }

    /// Decodes, verifies and stores a chunk off the stream's thread, then lands. Waits only for a free decoder, and
    /// so slows the stream down to what can be decoded.
    async fn land(&self, blob: Arc<Blob>, led: LedChunk, bytes: bytes::Bytes) {
        let decoder = self.engine.decoders.clone().acquire_owned().await;
        self.engine.spawn_blocking(move || {
            let landing = match decode::decode(&led.chunk, blob.shape().digester, &bytes) {
                Ok(verified) => {
                    blob.store(&verified);
                    Ok(Arc::new(verified))
                }
                Err(error) => {
                    tracing::warn!(blob = %blob.shape().id, chunk = led.chunk.index, %error, "a source gave a bad chunk");
                    Err(Arc::new(Error::Corrupt(error)))
                }
            };
            led.lead.land(landing);
            drop(decoder);
        });
    }

    /// Hashes a chunk that an earlier process recorded. If it is not what it says, the flight ends without a
    /// landing: those who wait board again and find it absent.
    fn check(&self, blob: Arc<Blob>, led: LedChunk) {
        let engine = self.engine.clone();
        self.engine.spawn(async move {
            let decoder = engine.decoders.clone().acquire_owned().await;
            engine.spawn_blocking(move || {
                let chunk = &led.chunk;
                let mut content = vec![0; chunk.uncompressed.len as usize];
                let checked = blob
                    .read(chunk, 0, &mut content)
                    .ok()
                    .and_then(|()| decode::recheck(chunk, blob.shape().digester, content));
                match checked {
                    Some(verified) => {
                        blob.promote(&verified);
                        led.lead.land(Ok(Arc::new(verified)));
                    }
                    None => {
                        tracing::warn!(blob = %blob.shape().id, chunk = chunk.index, "a cached chunk is damaged, dropped");
                        blob.reject(chunk);
                    }
                }
                drop(decoder);
            });
        });
    }
}

fn stored(chunk: &ChunkRef) -> Stored {
    Stored {
        index: chunk.index,
        span: chunk.compressed,
    }
}

async fn unless_silent<T>(stall: Duration, future: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(stall, future)
        .await
        .map_err(|_| Error::Stalled(stall))
}
