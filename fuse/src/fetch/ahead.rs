//! Running ahead of readers that go from front to back, so that they find what they come to.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rafs::image::Extent;

use super::attempt::Charted;
use super::queue::Class;
use super::run::Run;
use super::stream::Streams;
use super::supply::Supply;

/// The readers of one blob.
#[derive(Default)]
pub(super) struct Readers {
    streams: Mutex<Streams>,
    /// Whether it is worth while to look at reads that the cache answers. Set by a miss, cleared when a reader turns out
    /// to have nothing ahead that is absent.
    is_watched: AtomicBool,
}

impl Supply {
    /// Notes a read that had to wait.
    pub(super) fn note_miss(self: &Arc<Self>, runs: &[Run]) {
        for Extent { chunk, .. } in runs.iter().filter_map(Run::extent) {
            if let Some(lot) = self.lot(chunk.blob) {
                lot.readers.is_watched.store(true, Ordering::Relaxed);
            }
        }
        self.note_read(runs);
    }

    /// Notes a read, and fetches what its reader will come to. Never waits.
    pub(super) fn note_read(self: &Arc<Self>, runs: &[Run]) {
        let mut last = None;
        for Extent { chunk, .. } in runs.iter().filter_map(Run::extent) {
            let Some(lot) = self.lot(chunk.blob) else { continue };
            // Most extents of a large read are of one chunk.
            if last.replace((chunk.blob, chunk.index)) == Some((chunk.blob, chunk.index))
                || !lot.readers.is_watched.load(Ordering::Relaxed)
            {
                continue;
            }
            // Until the units are known nothing can be planned; the miss that brings them is under way.
            let Some(map) = lot.map.get() else { continue };
            let (Ok(number), Ok(piece)) = (map.number(chunk), map.piece(chunk)) else {
                continue;
            };
            let stored = piece.unit.stored;
            let bytes = stored.offset..stored.offset.saturating_add(u64::from(stored.len));
            let ahead = {
                let mut streams = lot.readers.streams.lock().unwrap_or_else(PoisonError::into_inner);
                streams.touch(&bytes)
            };
            if let Some(ahead) = ahead {
                let charted = Charted {
                    lot: lot.clone(),
                    map: map.clone(),
                };
                let supply = self.clone();
                // Off the thread that answers the kernel.
                self.engine
                    .spawn(async move { supply.run_ahead(&charted, number, &ahead) });
            }
        }
    }

    /// Queues the absent units that begin in `ahead`, looking from unit `number` on.
    fn run_ahead(self: &Arc<Self>, charted: &Charted, number: u32, ahead: &Range<u64>) {
        let mut units = Vec::new();
        let mut is_end = true;
        for number in number..charted.map.count() {
            let Some(place) = self.place(charted, number) else {
                continue;
            };
            if place >= ahead.end {
                is_end = false;
                break;
            }
            if place >= ahead.start {
                units.extend(self.absent(charted, number));
            }
        }
        if units.is_empty() && is_end {
            charted.lot.readers.is_watched.store(false, Ordering::Relaxed);
        }
        for job in self.plan_ahead(charted, units, Class::Readahead) {
            self.queue(job, Class::Readahead);
        }
    }

    /// Where the stored bytes of a unit begin.
    fn place(&self, charted: &Charted, number: u32) -> Option<u64> {
        let first = self.chunks(charted, number).next()?;
        Some(charted.map.piece(&first).ok()?.unit.stored.offset)
    }
}

#[cfg(test)]
mod tests;
