//! The tasks behind a read: fetching a range of units, checking what an earlier process left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rafs::ChunkRef;

use super::Error;
use super::attempt::{Charted, Duties, LedUnit};
use super::cut::Cutter;
use super::engine::{Cargo, Key, Landing};
use super::flight::Lead;
use super::plan::{self, FetchRange, Limits, Stored};
use super::supply::{Lot, Supply};
use crate::cache::Standing;
use crate::decode;

/// A mebibyte of neighbourhood takes 8 ms at 1 Gbit/s, about one round trip to a registry; gaps up to 64 KiB cost
/// less than another request; ranges are as long as four blocks, so that a broken one loses little.
const LIMITS: Limits = Limits {
    block_len: 1 << 20,
    gap_max: 64 << 10,
    range_max: 4 << 20,
};

/// A range to fetch, with the duties for all its units.
struct Job {
    charted: Charted,
    range: FetchRange,
    led: HashMap<u32, Lead<Key, Landing>>,
}

impl Supply {
    /// Starts whatever brings the chunks: a check of what is on disk, or requests that bring neighbours along.
    pub(super) fn launch(self: &Arc<Self>, duties: Duties, only_for: Option<u32>) {
        for (chunk, lead) in duties.checks {
            if let Some(lot) = self.lot(chunk.blob) {
                self.check(lot.clone(), chunk, lead);
            }
        }
        for (charted, led) in duties.fetches.into_values() {
            for job in self.plan(&charted, led, only_for) {
                let supply = self.clone();
                self.engine.spawn(async move { supply.fetch(job).await });
            }
        }
    }

    /// Plans the requests for absent units of one blob, and boards a flight for each neighbour that comes along.
    fn plan(&self, charted: &Charted, led: Vec<LedUnit>, only_for: Option<u32>) -> Vec<Job> {
        let neighbour = |number| {
            let stored = self.absent(charted, number)?;
            let key = self.fetch_key(charted, number, only_for)?;
            (!self.engine.flights.is_flying(&key)).then_some(stored.span)
        };
        let wanted: Vec<_> = (led.iter())
            .filter_map(|led| {
                let first = self.chunks(charted, led.number).next()?;
                stored(charted, led.number, &first)
            })
            .collect();
        let mut led: HashMap<u32, _> = led.into_iter().map(|led| (led.number, led.lead)).collect();
        let mut jobs = Vec::new();
        for mut range in plan::ranges(&wanted, neighbour, &LIMITS) {
            let mut job_led = HashMap::new();
            range.chunks.retain(|stored| {
                let number = stored.index;
                let lead = led.remove(&number).or_else(|| {
                    let key = self.fetch_key(charted, number, only_for)?;
                    let lead = self.engine.flights.lead(&key, self.spec.image)?;
                    // It may have landed before the boarding.
                    self.absent(charted, number).map(|_| lead)
                });
                lead.map(|lead| job_led.insert(number, lead)).is_some()
            });
            // Where units dropped out, because others fetch them by now, there may be gaps too wide for one request.
            for range in plan::join(range.chunks.into_iter(), &LIMITS) {
                let numbers = range.chunks.iter().map(|stored| stored.index);
                let led = numbers
                    .filter_map(|number| Some((number, job_led.remove(&number)?)))
                    .collect();
                jobs.push(Job {
                    charted: charted.clone(),
                    range,
                    led,
                });
            }
        }
        jobs
    }

    /// Where a unit's stored bytes lie, if one of its chunks is absent.
    fn absent(&self, charted: &Charted, number: u32) -> Option<Stored> {
        let chunk = (self.chunks(charted, number))
            .find(|chunk| charted.lot.blob.standing(chunk) == Standing::Absent)?;
        stored(charted, number, &chunk)
    }

    /// Fetches a range. Units that did not come land with the reason.
    async fn fetch(self: Arc<Self>, mut job: Job) {
        let _permit = self.permits.acquire().await;
        // Even a source that trickles must let go of the units some time, or they would wait for it forever.
        let attempt = tokio::time::timeout(self.engine.read_deadline, self.stream(&mut job));
        let result = attempt
            .await
            .unwrap_or_else(|_| Err(Error::Stalled(self.engine.read_deadline)));
        if let Err(error) = result {
            let error = Arc::new(error);
            for lead in job.led.into_values() {
                lead.land(Err(error.clone()));
            }
        }
    }

    async fn stream(self: &Arc<Self>, job: &mut Job) -> Result<(), Error> {
        let id = job.charted.lot.blob.shape().id.to_string();
        self.cost.requests.fetch_add(1, Ordering::Relaxed);
        let stall = self.engine.stall();
        let opening = self.spec.source.read(&id, job.range.bytes.clone());
        let mut body = unless_silent(stall, opening).await?.map_err(Error::Source)?;
        let mut cutter = Cutter::new(&job.range);
        while !cutter.is_done() {
            let Some(bytes) = unless_silent(stall, body.next()).await? else {
                return Err(Error::Short {
                    missing: job.led.len(),
                });
            };
            let bytes = bytes.map_err(Error::Source)?;
            self.cost
                .bytes_fetched
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            cutter.push(&bytes);
            while let Some((stored, bytes)) = cutter.pop() {
                if let Some(lead) = job.led.remove(&stored.index) {
                    let number = stored.index;
                    self.land(job.charted.clone(), LedUnit { number, lead }, bytes)
                        .await;
                }
            }
        }
        Ok(())
    }

    /// Decodes, verifies and stores the chunks of a unit off the stream's thread, then lands. Waits only for a free
    /// decoder, and so slows the stream down to what can be decoded.
    async fn land(self: &Arc<Self>, charted: Charted, led: LedUnit, bytes: Bytes) {
        let decoder = self.engine.decoders.clone().acquire_owned().await;
        let supply = self.clone();
        self.engine.spawn_blocking(move || {
            let landing = supply.unpack(&charted, led.number, &bytes);
            if let Some(error) = landing.as_ref().map_or_else(Some, |cargo| cargo.refused.as_ref()) {
                tracing::warn!(blob = %charted.lot.blob.shape().id, unit = led.number, %error, "a source gave bad bytes");
            }
            led.lead.land(landing.map(Arc::new));
            drop(decoder);
        });
    }

    /// Expands a unit, and verifies and stores those of its chunks that are not in the cache.
    fn unpack(&self, charted: &Charted, number: u32, bytes: &[u8]) -> Result<Cargo, Arc<Error>> {
        let Charted { lot, map } = charted;
        let is_here =
            |chunk: &ChunkRef| matches!(lot.blob.standing(chunk), Standing::Ready | Standing::Recorded);
        let mut cargo = Cargo::default();
        let mut expanded = None;
        for chunk in self.chunks(charted, number).filter(|chunk| !is_here(chunk)) {
            let piece = map.piece(&chunk).map_err(Error::from)?;
            let expanded = match &mut expanded {
                Some(expanded) => expanded,
                none => none.insert(map.expand(&piece.unit, bytes).map_err(Error::from)?),
            };
            match expanded.cut(&piece, &chunk, lot.blob.shape().digester) {
                Ok(verified) => {
                    lot.blob.store(&verified);
                    cargo.chunks.push(verified);
                }
                Err(error) => cargo.refused = Some(Arc::new(error.into())),
            }
        }
        Ok(cargo)
    }

    /// Hashes a chunk that an earlier process recorded. If it is not what it says, the flight ends without a
    /// landing: those who wait board again and find it absent.
    fn check(&self, lot: Arc<Lot>, chunk: ChunkRef, lead: Lead<Key, Landing>) {
        let engine = self.engine.clone();
        self.engine.spawn(async move {
            let decoder = engine.decoders.clone().acquire_owned().await;
            engine.spawn_blocking(move || {
                let blob = &lot.blob;
                let mut content = vec![0; chunk.uncompressed.len as usize];
                let checked = blob
                    .read(&chunk, 0, &mut content)
                    .ok()
                    .and_then(|()| decode::recheck(&chunk, blob.shape().digester, content));
                match checked {
                    Some(verified) => {
                        blob.promote(&verified);
                        lead.land(Ok(Arc::new(Cargo {
                            chunks: vec![verified],
                            refused: None,
                        })));
                    }
                    None => {
                        tracing::warn!(blob = %blob.shape().id, chunk = chunk.index, "a cached chunk is damaged, dropped");
                        blob.reject(&chunk);
                    }
                }
                drop(decoder);
            });
        });
    }
}

fn stored(charted: &Charted, number: u32, chunk: &ChunkRef) -> Option<Stored> {
    let piece = charted.map.piece(chunk).ok()?;
    Some(Stored {
        index: number,
        span: piece.unit.stored,
    })
}

/// Waits, but not longer than a source may be silent.
pub(super) async fn unless_silent<T>(stall: Duration, future: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(stall, future)
        .await
        .map_err(|_| Error::Stalled(stall))
}
