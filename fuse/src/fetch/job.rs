//! Requests with the duties that go with them: from units that are wanted to jobs in the queue.

use std::collections::HashMap;
use std::sync::Arc;

use super::attempt::{Charted, Duties, LedUnit};
use super::engine::{Key, Landing};
use super::fill::Report;
use super::flight::Lead;
use super::plan::{self, FetchRange, Limits, Stored};
use super::queue::Class;
use super::supply::Supply;
use crate::cache::Standing;

/// A mebibyte of neighbourhood takes 8 ms at 1 Gbit/s, about one round trip to a registry; gaps up to 64 KiB cost
/// less than another request; ranges are as long as four blocks, so that a broken one loses little.
pub(super) const LIMITS: Limits = Limits {
    block_len: 1 << 20,
    gap_max: 64 << 10,
    range_max: 4 << 20,
};

/// A range to fetch, with the duties for all its units.
pub(super) struct Job {
    pub(super) charted: Charted,
    pub(super) range: FetchRange,
    pub(super) led: HashMap<u32, Lead<Key, Landing>>,
    /// Who wants to know how it went, beside those who wait for units.
    pub(super) report: Option<Report>,
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
                self.queue(job, Class::Fault);
            }
        }
    }

    /// Queues a request. From here on who wants one of its units can promote it.
    pub(super) fn queue(self: &Arc<Self>, job: Job, class: Class) {
        let turn = self
            .lane
            .enter(class, job.range.bytes.end - job.range.bytes.start);
        let ticket = turn.ticket();
        // All of them, for whoever follows one later.
        let wanted = job.led.values().filter_map(|lead| lead.assign(ticket)).min();
        self.engine.queue.promote(ticket, wanted.unwrap_or(class));
        let supply = self.clone();
        self.engine.spawn(async move { supply.fetch(job, turn).await });
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
                let piece = charted.map.piece(&first).ok()?;
                Some(Stored {
                    index: led.number,
                    span: piece.unit.stored,
                })
            })
            .collect();
        let mut led: HashMap<u32, _> = led.into_iter().map(|led| (led.number, led.lead)).collect();
        let mut jobs = Vec::new();
        for range in plan::ranges(&wanted, neighbour, &LIMITS) {
            let numbers = || range.chunks.iter().map(|stored| stored.index);
            let others = numbers().filter(|number| !led.contains_key(number));
            let mut aboard = self.lead(charted, others, only_for, Class::Fault);
            aboard.extend(numbers().filter_map(|number| Some((number, led.remove(&number)?))));
            jobs.extend(into_jobs(charted, range, aboard));
        }
        jobs
    }

    /// Plans the requests for units that nobody waits for yet, in the order of their stored bytes. Those that somebody
    /// fetches already are left out.
    pub(super) fn plan_ahead(&self, charted: &Charted, units: Vec<Stored>, class: Class) -> Vec<Job> {
        let ranges = plan::join(units.into_iter(), &LIMITS).into_iter();
        let board = |range: FetchRange| {
            let numbers = range.chunks.iter().map(|stored| stored.index);
            let led = self.lead(charted, numbers, None, class);
            into_jobs(charted, range, led)
        };
        ranges.flat_map(board).collect()
    }

    /// Leads the flights of those units that nobody fetches and that have not come.
    fn lead(
        &self,
        charted: &Charted,
        numbers: impl Iterator<Item = u32>,
        only_for: Option<u32>,
        class: Class,
    ) -> HashMap<u32, Lead<Key, Landing>> {
        let keys = numbers
            .filter_map(|number| Some((number, self.fetch_key(charted, number, only_for)?)))
            .collect();
        let mut leads = self.engine.flights.lead_all(keys, self.spec.image, class);
        // They may have landed before the boarding.
        leads.retain(|(number, _)| self.absent(charted, *number).is_some());
        leads.into_iter().collect()
    }

    /// Where a unit's stored bytes lie, if one of its chunks is absent.
    pub(super) fn absent(&self, charted: &Charted, number: u32) -> Option<Stored> {
        let chunk = (self.chunks(charted, number))
            .find(|chunk| charted.lot.blob.standing(chunk) == Standing::Absent)?;
        let piece = charted.map.piece(&chunk).ok()?;
        Some(Stored {
            index: number,
            span: piece.unit.stored,
        })
    }
}

/// Makes jobs of a range: more than one where units drop out, because others fetch them by now, and leave gaps too
/// wide for one request.
fn into_jobs(charted: &Charted, range: FetchRange, mut led: HashMap<u32, Lead<Key, Landing>>) -> Vec<Job> {
    let aboard: Vec<_> = (range.chunks.into_iter())
        .filter(|stored| led.contains_key(&stored.index))
        .collect();
    let ranges = plan::join(aboard.into_iter(), &LIMITS).into_iter();
    let jobs = ranges.map(|range| {
        let numbers = range.chunks.iter().map(|stored| stored.index);
        let led = numbers
            .filter_map(|number| Some((number, led.remove(&number)?)))
            .collect();
        Job {
            charted: charted.clone(),
            range,
            led,
            report: None,
        }
    });
    jobs.collect()
}
