//! Filling: bringing what is left of an image, when nothing more urgent wants the line.
//!
//! An image is gone through from front to back, again and again, until nothing is absent. Failures are not told to
//! anybody: the next round finds what is still absent. A round that a failure ended, or that brought nothing, is followed
//! by a pause, longer each time.

mod pace;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pace::{Pace, Width};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::Charted;
use super::job::LIMITS;
use super::plan::Stored;
use super::queue::Class;
use super::supply::{Lot, Supply};

/// Requests of one image that wait or run: as many as may run and one that waits.
const AHEAD: usize = super::engine::WIDTH_MAX + 1;

/// First pause after a round that failed, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Longest pause between rounds: a registry that is down is not asked more often by each image.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Pause between looks at a disk that is too full.
const FULL_PAUSE: Duration = Duration::from_secs(5);

/// Most weight that an image can have, however many containers use it: none may starve the others.
const WEIGHT_MAX: u32 = 8;

/// Units looked at before others get their turn on the thread.
const LOOK_MAX: u32 = 1024;

/// How images are filled on a node: what all of them share.
#[derive(Clone)]
pub struct Filler(Arc<Shared>);

struct Shared {
    /// `None`: as fast as the line allows.
    pace: Option<Mutex<Pace>>,
    began: Instant,
    free_min: u64,
    cache_dir: PathBuf,
}

impl Filler {
    /// Fills at most `rate` stored bytes a second, all images together, and nothing while the file system of `cache_dir`
    /// has less than `free_min` bytes left.
    pub fn new(rate: Option<u64>, free_min: u64, cache_dir: PathBuf) -> Self {
        Filler(Arc::new(Shared {
            pace: rate.map(|rate| Mutex::new(Pace::new(rate))),
            began: Instant::now(),
            free_min,
            cache_dir,
        }))
    }

    /// Waits until so many bytes may be asked for.
    async fn admit(&self, bytes: u64) {
        let Shared { pace, began, .. } = &*self.0;
        if let Some(pace) = pace {
            let wait = {
                let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
                pace.take(began.elapsed(), bytes)
            };
            tokio::time::sleep(wait).await;
        }
        while !self.has_room() {
            tracing::debug!(cache = %self.0.cache_dir.display(), "filling waits for space on the disk");
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    /// What the system does not tell does not stop the filling: a disk that is really full refuses the chunks.
    fn has_room(&self) -> bool {
        rustix::fs::statvfs(&self.0.cache_dir).map_or(true, |disk| {
            disk.f_bavail.saturating_mul(disk.f_frsize) >= self.0.free_min
        })
    }
}

/// A request's place among those of a filling, shared with what was asked for in one go, and how it went.
pub(super) struct Report {
    _slot: Arc<OwnedSemaphorePermit>,
    has_failed: Arc<AtomicBool>,
}

impl Report {
    /// Says that the request failed.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

/// Whether an image is being filled.
#[derive(Default)]
pub(crate) struct Filling {
    stop: Mutex<Option<CancellationToken>>,
    users: AtomicU32,
}

/// One filling, while it goes on.
struct Work {
    supply: Arc<Supply>,
    filler: Filler,
    slots: Arc<Semaphore>,
    has_failed: Arc<AtomicBool>,
    began: Instant,
    width: Width,
}

/// What a look through all units found.
#[derive(Default)]
struct Round {
    /// Something is absent.
    is_partial: bool,
    has_failed: bool,
}

impl Supply {
    /// Begins to bring everything that is absent, unless that goes on already. Each call is one more container that
    /// uses the image, and gives it more weight.
    pub(crate) fn fill(self: &Arc<Self>, filler: &Filler) {
        let users = self
            .filling
            .users
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        self.lane.weigh(users.min(WEIGHT_MAX));
        let stop = CancellationToken::new();
        {
            let mut filling = self.filling.stop.lock().unwrap_or_else(PoisonError::into_inner);
            if filling.as_ref().is_some_and(|stop| !stop.is_cancelled()) {
                return;
            }
            *filling = Some(stop.clone());
        }
        let work = Work {
            supply: self.clone(),
            filler: filler.clone(),
            slots: Arc::new(Semaphore::new(AHEAD)),
            has_failed: Arc::default(),
            began: Instant::now(),
            width: Width::new(super::engine::WIDTH_MAX),
        };
        self.engine.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = work.run() => {}
            }
            // The next container begins anew.
            stop.cancel();
        });
    }

    /// Ends the filling and what else was to be fetched without a reader waiting for it.
    pub(crate) fn retire(&self) {
        let filling = self
            .filling
            .stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(stop) = filling {
            stop.cancel();
        }
        self.filling.users.store(0, Ordering::Relaxed);
        self.lane.cancel();
    }

    fn local_len(&self) -> u64 {
        self.blobs().map(|blob| blob.local_len()).sum()
    }
}

impl Work {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let before = self.supply.local_len();
            let round = self.round().await;
            self.settle().await;
            if !round.is_partial {
                break;
            }
            if round.has_failed || self.supply.local_len() == before {
                tokio::time::sleep(super::doubled(PAUSE_MIN, PAUSE_MAX, failures)).await;
                failures += 1;
            } else {
                failures = 0;
            }
        }
        tracing::info!(image = self.supply.spec.image, "all of an image is in the cache");
    }

    /// Waits until all requests have ended.
    async fn settle(&self) {
        let all = self.slots.acquire_many(AHEAD as u32).await;
        drop(all.expect("the semaphore is never closed"));
    }

    /// Goes through all blobs once.
    async fn round(&mut self) -> Round {
        let mut round = Round::default();
        self.has_failed.store(false, Ordering::Relaxed);
        let supply = self.supply.clone();
        for lot in &supply.lots {
            match supply.chart(lot).await {
                Ok(charted) => self.go_through(lot, &charted, &mut round).await,
                Err(error) => {
                    tracing::debug!(image = supply.spec.image, %error, "a blob cannot be filled yet");
                    round.is_partial = true;
                    round.has_failed = true;
                }
            }
            if round.has_failed {
                break;
            }
        }
        round
    }

    async fn go_through(&mut self, lot: &Lot, charted: &Charted, round: &mut Round) {
        let mut units: Vec<Stored> = Vec::new();
        let count = charted.map.count();
        let setbacks = lot.blob.setbacks();
        for number in 0..count {
            units.extend(self.supply.absent(charted, number));
            let asked = match (units.first(), units.last()) {
                (Some(first), Some(last)) => {
                    (last.span.offset - first.span.offset) + u64::from(last.span.len)
                }
                _ => 0,
            };
            if asked >= LIMITS.range_max || (number + 1 == count && asked > 0) {
                round.is_partial = true;
                if !lot.blob.may_fill() {
                    tracing::debug!(
                        image = self.supply.spec.image,
                        "filling waits for room in the cache"
                    );
                    round.has_failed = true;
                    return;
                }
                self.ask(charted, std::mem::take(&mut units), asked).await;
                // What is not kept would be fetched again and again.
                round.has_failed = self.has_failed.load(Ordering::Relaxed) || lot.blob.setbacks() > setbacks;
                if round.has_failed {
                    return;
                }
            }
            if number % LOOK_MAX == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn ask(&mut self, charted: &Charted, units: Vec<Stored>, bytes: u64) {
        self.filler.admit(bytes).await;
        let cost = &self.supply.cost;
        let rest = cost.fetched(&[Class::Readahead, Class::Hint, Class::Weights, Class::Fill]);
        self.width
            .observe(self.began.elapsed(), rest, cost.fetched(&[Class::Fault]));
        self.supply.lane.widen(self.width.get());
        // Before the flights are boarded: nobody is to wait for what has not even been queued.
        let slot = self.slots.clone().acquire_owned().await;
        let slot = Arc::new(slot.expect("the semaphore is never closed"));
        for mut job in self.supply.plan_ahead(charted, units, Class::Fill) {
            job.report = Some(Report {
                _slot: slot.clone(),
                has_failed: self.has_failed.clone(),
            });
            self.supply.queue(job, Class::Fill);
        }
    }
}

#[cfg(test)]
mod tests;
