//! One attempt to get chunks that are not in the cache: boarding the flights that bring them, and waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rafs::{BlobIndex, ChunkRef};
use tokio::time::Instant;

use super::Error;
use super::engine::{Errand, Key, Landing};
use super::flight::{Boarding, Follow, Lead};
use super::queue::Class;
use super::supply::{ChunkName, Lot, Supply, name};
use super::units::UnitMap;
use crate::cache::Standing;
use crate::decode::VerifiedChunk;

/// How long an image waits for a unit that another image fetches. Then it asks its own source: the other's may hang.
const FOREIGN_WAIT: Duration = Duration::from_millis(500);

/// What became of one attempt to get some chunks.
#[derive(Default)]
pub(super) struct Attempt {
    pub(super) failed: Vec<ChunkRef>,
    pub(super) error: Option<Arc<Error>>,
    pub(super) is_impatient: bool,
}

impl Attempt {
    fn fail(&mut self, chunk: ChunkRef, error: Option<Arc<Error>>) {
        self.failed.push(chunk);
        self.error = error.or(self.error.take());
    }
}

/// A blob whose units are known.
#[derive(Clone)]
pub(super) struct Charted {
    pub(super) lot: Arc<Lot>,
    pub(super) map: Arc<UnitMap>,
}

/// A unit and the duty to bring it.
pub(super) struct LedUnit {
    pub(super) number: u32,
    pub(super) lead: Lead<Key, Landing>,
}

/// What an attempt has to start itself.
#[derive(Default)]
pub(super) struct Duties {
    pub(super) checks: Vec<(ChunkRef, Lead<Key, Landing>)>,
    pub(super) fetches: HashMap<BlobIndex, (Charted, Vec<LedUnit>)>,
}

type Charts = HashMap<BlobIndex, Result<Charted, Arc<Error>>>;

impl Supply {
    /// Boards a flight for each chunk that is not in the cache, starts what has to be started, and waits for all.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        chunks: &[ChunkRef],
        only_for: Option<u32>,
        got: &mut HashMap<ChunkName, VerifiedChunk>,
    ) -> Attempt {
        let mut attempt = Attempt::default();
        // Before anything is led: nobody may wait for a leader that itself waits for chunk infos.
        let charts = self.charts(chunks).await;
        let mut duties = Duties::default();
        let mut waits: Vec<(ChunkRef, Follow<Landing>)> = Vec::new();
        for chunk in chunks {
            match self.board(chunk, &charts, only_for, &mut duties) {
                Ok(Some(follow)) => waits.push((*chunk, follow)),
                Ok(None) => {}
                Err(error) => attempt.fail(*chunk, error),
            }
        }
        self.launch(duties, only_for);
        let patience = Instant::now() + FOREIGN_WAIT;
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
                Some(Ok(cargo)) => match cargo.find(&chunk) {
                    Some(verified) => {
                        got.insert(name(&chunk), verified.clone());
                    }
                    // It came another way meanwhile, or the leader's image does not know it.
                    None => attempt.fail(chunk, cargo.refused.clone()),
                },
                Some(Err(error)) => attempt.fail(chunk, Some(error)),
                None => attempt.fail(chunk, None),
            }
        }
        attempt
    }

    /// Learns the units of the blobs from which something is missing.
    async fn charts(self: &Arc<Self>, chunks: &[ChunkRef]) -> Charts {
        let mut charts = Charts::new();
        for chunk in chunks {
            let Some(lot) = self.lot(chunk.blob) else { continue };
            let is_missing = matches!(lot.blob.standing(chunk), Standing::Absent | Standing::Barred);
            if is_missing && !charts.contains_key(&chunk.blob) {
                charts.insert(chunk.blob, self.chart(lot).await);
            }
        }
        charts
    }

    /// Boards a flight for a chunk, as leader or not. `None`: it is in the cache. An error without a reason means
    /// that things changed meanwhile: try again.
    fn board(
        &self,
        chunk: &ChunkRef,
        charts: &Charts,
        only_for: Option<u32>,
        duties: &mut Duties,
    ) -> Result<Option<Follow<Landing>>, Option<Arc<Error>>> {
        let lot = self.lot(chunk.blob).ok_or(None)?;
        let chart = match lot.blob.standing(chunk) {
            Standing::Ready => return Ok(None),
            Standing::Recorded => None,
            Standing::Absent | Standing::Barred => {
                let charted = charts.get(&chunk.blob).ok_or(None)?.as_ref();
                let charted = charted.map_err(|error| Some(error.clone()))?;
                let number = charted.map.number(chunk);
                let number = number.map_err(|error| Some(Arc::new(Error::from(error))))?;
                Some((charted, number))
            }
        };
        let key = match &chart {
            None => self.key(Errand::Check, lot, chunk, only_for),
            Some((charted, number)) => self.fetch_key(charted, *number, only_for).ok_or(None)?,
        };
        match self.engine.flights.board(&key, self.spec.image, Class::Fault) {
            Boarding::Follow(follow) => {
                if let Some(ticket) = follow.promote {
                    self.engine.queue.promote(ticket, Class::Fault);
                }
                Ok(Some(follow))
            }
            // It may have landed between the look into the cache and the boarding.
            Boarding::Lead(_) if lot.blob.standing(chunk) == Standing::Ready => Ok(None),
            Boarding::Lead(lead) => {
                let follow = lead.follow(self.spec.image);
                match chart {
                    None => duties.checks.push((*chunk, lead)),
                    Some((charted, number)) => {
                        let fetch = duties.fetches.entry(chunk.blob);
                        let (_, led) = fetch.or_insert_with(|| (charted.clone(), Vec::new()));
                        led.push(LedUnit { number, lead });
                    }
                }
                Ok(Some(follow))
            }
        }
    }

    fn key(&self, errand: Errand, lot: &Lot, chunk: &ChunkRef, only_for: Option<u32>) -> Key {
        Key {
            errand,
            blob: lot.blob.shape().id,
            index: chunk.index,
            digest: chunk.digest,
            only_for,
        }
    }

    /// Names the flight of a unit by its first chunk: images that list the same chunks share flights.
    pub(super) fn fetch_key(&self, charted: &Charted, number: u32, only_for: Option<u32>) -> Option<Key> {
        let first = self.chunks(charted, number).next()?;
        Some(self.key(Errand::Fetch, &charted.lot, &first, only_for))
    }

    /// The chunks of a unit.
    pub(super) fn chunks(&self, charted: &Charted, number: u32) -> impl Iterator<Item = ChunkRef> {
        let index = charted.lot.index;
        let chunks = charted.map.chunks(number);
        chunks.filter_map(move |chunk| (self.spec.table)(index, chunk))
    }
}
