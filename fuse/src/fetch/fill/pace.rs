//! How fast to fill: the bytes a second that are allowed, and the connections that make it faster. Pure.

use std::time::Duration;

/// When the next bytes may be asked for, at so many a second.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    /// When all that was asked for so far has had its time.
    free_at: Duration,
}

impl Pace {
    /// At most `rate` bytes a second.
    pub(crate) fn new(rate: u64) -> Self {
        Pace {
            rate: rate.max(1),
            free_at: Duration::ZERO,
        }
    }

    /// Takes time for so many bytes; `now` is on any clock. Returns how long to wait before they are asked for. What was
    /// not used in the past is not made up for.
    pub(crate) fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let start = self.free_at.max(now);
        self.free_at = start + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        start - now
    }
}

/// Least time over which a throughput says something.
const EPOCH: Duration = Duration::from_millis(300);

/// By how much one more connection must speed things up to be kept.
const GAIN_MIN: f64 = 1.1;

/// Epochs until more connections are tried again: a line changes, but not every second.
const HOLD: u32 = 20;

/// Connections to begin with: one waits while the other one streams.
const WIDTH_START: usize = 2;

/// How many connections to use, by what they bring.
#[derive(Debug)]
pub(crate) struct Width {
    width: usize,
    max: usize,
    trial: Trial,
    since: Duration,
    bytes: u64,
    urgent: u64,
}

#[derive(Debug)]
enum Trial {
    /// Nothing is known yet.
    Begin,
    /// One more than when this was the throughput, bytes a second.
    Wider { before: f64 },
    /// More did not help.
    Hold { epochs: u32 },
}

impl Width {
    /// Begins with few of at most `max` connections.
    pub(crate) fn new(max: usize) -> Self {
        Width {
            width: WIDTH_START.min(max),
            max,
            trial: Trial::Begin,
            since: Duration::ZERO,
            bytes: 0,
            urgent: 0,
        }
    }

    /// Connections to use now.
    pub(crate) fn get(&self) -> usize {
        self.width
    }

    /// Learns how many bytes have come by `now`, and how many of more urgent requests, since these began. An epoch in
    /// which urgent ones came says nothing, because the others gave way.
    pub(crate) fn observe(&mut self, now: Duration, bytes: u64, urgent: u64) {
        let elapsed = now.saturating_sub(self.since);
        if elapsed < EPOCH {
            return;
        }
        let rate = bytes.saturating_sub(self.bytes) as f64 / elapsed.as_secs_f64();
        let is_disturbed = urgent != self.urgent;
        (self.since, self.bytes, self.urgent) = (now, bytes, urgent);
        if is_disturbed || rate == 0.0 {
            return;
        }
        match self.trial {
            Trial::Begin => self.try_wider(rate),
            Trial::Wider { before } if rate >= before * GAIN_MIN => self.try_wider(rate),
            Trial::Wider { .. } => {
                self.width -= 1;
                self.trial = Trial::Hold { epochs: HOLD };
            }
            Trial::Hold { epochs: 0 } => self.try_wider(rate),
            Trial::Hold { epochs } => self.trial = Trial::Hold { epochs: epochs - 1 },
        }
    }

    fn try_wider(&mut self, before: f64) {
        if self.width < self.max {
            self.width += 1;
            self.trial = Trial::Wider { before };
        } else {
            self.trial = Trial::Hold { epochs: HOLD };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a controller on a line: `rate(width)` bytes a second. Returns the widths it used.
    fn run(max: usize, epochs: usize, rate: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut width = Width::new(max);
        let (mut now, mut bytes) = (Duration::ZERO, 0.0);
        (0..epochs)
            .map(|_| {
                now += EPOCH;
                bytes += rate(width.get()) * EPOCH.as_secs_f64();
                width.observe(now, bytes as u64, 0);
                width.get()
            })
            .collect()
    }

    #[test]
    fn connections_grow_while_they_help_and_no_further() {
        // Far away: each connection brings 20 MB/s, the line bears 100.
        let widths = run(7, 12, |width| (width as f64 * 20e6).min(100e6));
        assert_eq!(widths.last(), Some(&5));
        // Near: one connection fills the line.
        let widths = run(7, 12, |_| 100e6);
        assert_eq!(widths.last(), Some(&WIDTH_START));
        // A line that bears all of them.
        let widths = run(7, 12, |width| width as f64 * 20e6);
        assert_eq!(widths.last(), Some(&7));
    }

    #[test]
    fn a_line_that_gets_wider_is_noticed() {
        let mut width = Width::new(7);
        let (mut now, mut bytes) = (Duration::ZERO, 0);
        for epoch in 0..200_u64 {
            now += EPOCH;
            let line = if epoch < 50 { 20_000_000 } else { 200_000_000 };
            bytes += line.min(20_000_000 * width.get() as u64);
            width.observe(now, bytes, 0);
        }
        assert_eq!(width.get(), 7);
    }

    #[test]
    fn epochs_in_which_readers_were_served_say_nothing() {
        let mut width = Width::new(7);
        for epoch in 1..50_u32 {
            width.observe(EPOCH * epoch, u64::from(epoch) * 1000, u64::from(epoch));
        }
        assert_eq!(width.get(), WIDTH_START);
    }

    proptest! {
        #[test]
        fn whatever_the_line_does_the_width_stays_in_bounds(
            max in 1_usize..9,
            trace in prop::collection::vec((0_u64..1000, 0_u64..1 << 30, any::<bool>()), 1..300),
        ) {
            let mut width = Width::new(max);
            let (mut now, mut bytes, mut urgent) = (Duration::ZERO, 0, 0);
            for (millis, len, is_urgent) in trace {
                now += Duration::from_millis(millis);
                bytes += len;
                urgent += u64::from(is_urgent);
                width.observe(now, bytes, urgent);
                prop_assert!((1..=max).contains(&width.get()));
            }
        }

        #[test]
        fn no_more_is_asked_for_than_the_rate_allows(
            rate in 1_u64..1 << 30,
            requests in prop::collection::vec((0_u64..2000, 0_u64..1 << 24), 1..50),
        ) {
            let mut pace = Pace::new(rate);
            let (mut now, mut asked) = (Duration::ZERO, 0_u64);
            for (idle, bytes) in requests {
                now += Duration::from_millis(idle);
                now += pace.take(now, bytes);
                // All before this one has had its time.
                prop_assert!(now.as_secs_f64() * rate as f64 * 1.000_001 + 1.0 >= asked as f64);
                asked += bytes;
            }
        }
    }
}
