//! The tasks behind a read: fetching a range of units, checking what an earlier process left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rafs::ChunkRef;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Error;
use super::attempt::{Charted, LedUnit};
use super::cut::Cutter;
use super::engine::{Cargo, Engine, Key, Landing};
use super::flight::Lead;
use super::job::Job;
use super::queue::{Class, Permit, Turn};
use super::supply::{Lot, Supply};
use crate::cache::Standing;
use crate::decode;

/// How long less urgent streams stop between two pieces of a body while a reader waits for something else: long enough
/// to leave the line to it, short enough that no registry takes them for dead.
const GIVE_WAY: Duration = Duration::from_millis(250);

impl Supply {
    /// Fetches a range when its turn comes. Units that did not come land with the reason; if the turn never comes, who
    /// waits for them boards again.
    pub(super) async fn fetch(self: Arc<Self>, mut job: Job, turn: Turn) {
        let Some(permit) = turn.come().await else { return };
        if let Err(error) = self.stream(&mut job, &permit).await {
            if let Some(report) = &job.report {
                report.fail();
            }
            let error = Arc::new(error);
            for lead in job.led.into_values() {
                lead.land(Err(error.clone()));
            }
        }
    }

    async fn stream(self: &Arc<Self>, job: &mut Job, permit: &Permit) -> Result<(), Error> {
        let id = job.charted.lot.blob.shape().id.to_string();
        let mut patience = Patience::new(&self.engine);
        patience.give_way(permit).await;
        self.cost.requests.fetch_add(1, Ordering::Relaxed);
        let opening = self.spec.source.read(&id, job.range.bytes.clone());
        let mut body = patience.wait(opening).await?.map_err(Error::Source)?;
        let mut cutter = Cutter::new(&job.range);
        while !cutter.is_done() {
            patience.give_way(permit).await;
            let Some(bytes) = patience.wait(body.next()).await? else {
                return Err(Error::Short {
                    missing: job.led.len(),
                });
            };
            let bytes = bytes.map_err(Error::Source)?;
            let class = permit.note_progress();
            self.cost.count(class, bytes.len());
            cutter.push(&bytes);
            while let Some((stored, bytes)) = cutter.pop() {
                if let Some(lead) = job.led.remove(&stored.index) {
                    let number = stored.index;
                    let decoder = self.engine.decoder(class).await;
                    self.land(job.charted.clone(), LedUnit { number, lead }, bytes, decoder);
                }
            }
        }
        Ok(())
    }

    /// Decodes, verifies and stores the chunks of a unit off the stream's thread, then lands. The stream waits for a
    /// free decoder only, and so slows down to what can be decoded.
    fn land(self: &Arc<Self>, charted: Charted, led: LedUnit, bytes: Bytes, decoder: OwnedSemaphorePermit) {
        let supply = self.clone();
        self.engine.spawn_blocking(move || {
            let landing = supply.unpack(&charted, led.number, &bytes);
            if let Some(error) = landing.as_ref().map_or_else(Some, |cargo| cargo.refused.as_ref()) {
                tracing::warn!(blob = %charted.lot.blob.shape().id, unit = led.number, %error, "a source gave bad bytes");
                supply.distrust(&charted, led.number);
            }
            led.lead.land(landing.map(Arc::new));
            drop(decoder);
        });
    }

    /// Tells the source that a unit's bytes were bad.
    fn distrust(&self, charted: &Charted, number: u32) {
        let Some(chunk) = self.chunks(charted, number).next() else {
            return;
        };
        if let Ok(piece) = charted.map.piece(&chunk) {
            let span = piece.unit.stored;
            let end = span.offset.saturating_add(u64::from(span.len));
            let blob = charted.lot.blob.shape().id.to_string();
            self.spec.source.distrust(&blob, span.offset..end);
        }
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
    pub(super) fn check(&self, lot: Arc<Lot>, chunk: ChunkRef, lead: Lead<Key, Landing>) {
        let engine = self.engine.clone();
        let len = u64::from(chunk.uncompressed.len);
        self.cost.checked.fetch_add(len, Ordering::Relaxed);
        self.engine.spawn(async move {
            let decoder = engine.decoder(Class::Fault).await;
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

/// What a stream has left of its time. Time in which it gives way costs it nothing.
struct Patience {
    stall: Duration,
    whole: Duration,
    /// Even a source that trickles must let go of the units some time, or they would wait for it forever.
    until: Instant,
}

impl Patience {
    fn new(engine: &Engine) -> Self {
        Patience {
            stall: engine.stall(),
            whole: engine.read_deadline,
            until: Instant::now() + engine.read_deadline,
        }
    }

    async fn give_way(&mut self, permit: &Permit) {
        let began = Instant::now();
        permit.give_way(GIVE_WAY).await;
        self.until += began.elapsed();
    }

    async fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        let in_time = tokio::time::timeout_at(self.until, unless_silent(self.stall, future));
        in_time.await.unwrap_or(Err(Error::Stalled(self.whole)))
    }
}

/// Waits, but not longer than a source may be silent.
pub(super) async fn unless_silent<T>(stall: Duration, future: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(stall, future)
        .await
        .map_err(|_| Error::Stalled(stall))
}
