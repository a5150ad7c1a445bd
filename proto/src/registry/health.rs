//! Which host to ask first. Pure: time is an argument.
//!
//! A host that fails is set back for a while, longer each time; it is asked again then by one request, which shows
//! whether it is back. A host that gave bad bytes of a blob, or has not got it, is set back for that blob only. Hosts
//! that are set back come last, but they are asked when nobody else is left: no failure forbids anything.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use oci_spec::image::Digest;
use tokio::time::Instant;

use crate::image::Error;

/// A host that failed once is set back for this time, doubled for each further failure.
const SET_BACK_MIN: Duration = Duration::from_secs(1);
/// Longest time a host is set back: one that is back is noticed within it.
const SET_BACK_MAX: Duration = Duration::from_secs(60);
/// How long others wait for the verdict of the one request that tries a host again.
const TRIAL: Duration = Duration::from_secs(5);
/// How long a host that gave bad bytes of a blob is not asked for that blob: a cache that is damaged stays so.
const BAD_BYTES: Duration = Duration::from_secs(600);
/// How long a host without a blob is not asked for it: a cache may fetch it meanwhile.
const MISSING: Duration = Duration::from_secs(30);
/// Suspicions kept: blobs of one repository times its hosts, with room.
const SUSPICION_COUNT_MAX: usize = 1024;
/// Answers remembered, to know whose bytes were bad: far more than requests that run at a time.
const SERVED_COUNT_MAX: usize = 256;

/// How a host has been of late.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    until: Option<Instant>,
}

impl Health {
    /// It answered.
    pub(crate) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// It failed, and perhaps asked to wait.
    pub(crate) fn fail(&mut self, now: Instant, asked: Option<Duration>) {
        let doubled = SET_BACK_MIN.saturating_mul(1 << self.failures.min(16));
        let wait = asked.unwrap_or(doubled).min(SET_BACK_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = now.checked_add(wait);
    }

    /// It is about to be asked. If that is to try it again, others go on to leave it alone until there is a verdict.
    pub(crate) fn ask(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = now.checked_add(TRIAL);
        }
    }

    fn set_back(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

/// What a failure says about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It is down or overloaded, whatever is asked for.
    Host(Option<Duration>),
    /// It does not give this, at least not as it should.
    Missing,
    /// It gave wrong bytes of this.
    Bytes,
}

/// Whom a failed request blames, and for what.
pub(crate) fn blame(error: &Error) -> Blame {
    match error {
        // Rights and abilities differ from repository to repository, and a cache that fills itself has ranges later.
        Error::NotFound { .. }
        | Error::Unauthorized { .. }
        | Error::Refused { .. }
        | Error::TooLarge { .. }
        | Error::LengthMismatch { .. }
        | Error::Invalid { .. } => Blame::Missing,
        Error::DigestMismatch { .. } => Blame::Bytes,
        other => Blame::Host(other.retry_after()),
    }
}

/// What is known of a repository's blobs at its hosts, which are numbered.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    suspicions: HashMap<(usize, Digest), Instant>,
    served: VecDeque<(Digest, Range<u64>, usize)>,
}

impl Ledger {
    /// A host sends a range of a blob.
    pub(crate) fn note(&mut self, host: usize, digest: &Digest, range: Range<u64>) {
        if self.served.len() == SERVED_COUNT_MAX {
            self.served.pop_front();
        }
        self.served.push_back((digest.clone(), range, host));
    }

    /// Who sent the bytes of `range` last.
    pub(super) fn sender(&self, digest: &Digest, range: &Range<u64>) -> Option<usize> {
        let mut latest = self.served.iter().rev();
        let found = latest.find(|(blob, sent, _)| {
            blob == digest && sent.start < range.end.max(range.start + 1) && range.start < sent.end
        });
        found.map(|(_, _, host)| *host)
    }

    /// As `sender`, who is then no longer known to have sent it.
    pub(crate) fn take_sender(&mut self, digest: &Digest, range: &Range<u64>) -> Option<usize> {
        let host = self.sender(digest, range)?;
        self.served
            .retain(|(blob, sent, _)| blob != digest || sent.end <= range.start || range.end <= sent.start);
        Some(host)
    }

    /// Whether nothing speaks against asking a host for a blob.
    pub(crate) fn is_willing(&self, host: usize, health: &Health, digest: &Digest, now: Instant) -> bool {
        health.set_back(now).is_none() && self.suspected(host, digest, now).is_none()
    }

    /// A host is not to be asked for a blob for a while.
    pub(crate) fn suspect(&mut self, host: usize, digest: &Digest, blame: Blame, now: Instant) {
        let wait = match blame {
            Blame::Host(_) => return,
            Blame::Missing => MISSING,
            Blame::Bytes => BAD_BYTES,
        };
        if self.suspicions.len() >= SUSPICION_COUNT_MAX {
            self.suspicions.retain(|_, until| *until > now);
        }
        // Beyond the limit a suspicion costs its retry again, no more.
        if let Some(until) = now
            .checked_add(wait)
            .filter(|_| self.suspicions.len() < SUSPICION_COUNT_MAX)
        {
            self.suspicions.insert((host, digest.clone()), until);
        }
    }

    fn suspected(&self, host: usize, digest: &Digest, now: Instant) -> Option<Instant> {
        let until = self.suspicions.get(&(host, digest.clone()))?;
        (*until > now).then_some(*until)
    }

    /// The hosts in the order to ask them for a blob: the given order, but first those against which nothing is
    /// known, then those that are set back, then those that are suspected, soonest free first.
    pub(super) fn order(
        &self,
        hosts: &[(usize, Health)],
        digest: Option<&Digest>,
        now: Instant,
    ) -> Vec<usize> {
        let mut order: Vec<_> = (hosts.iter())
            .map(|(host, health)| {
                let suspected = digest.and_then(|digest| self.suspected(*host, digest, now));
                ((suspected, health.set_back(now)), *host)
            })
            .collect();
        // `None` is less than any time, and the sort is stable.
        order.sort_by_key(|(standing, _)| *standing);
        order.into_iter().map(|(_, host)| host).collect()
    }
}

/// Which of two failures of the same request to tell: the one after which it makes sense to try again.
pub(super) fn telling(earlier: Option<Error>, later: Error) -> Error {
    match earlier {
        Some(earlier) if earlier.is_retryable() && !later.is_retryable() => earlier,
        _ => later,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::digest::sha256_of;

    fn down() -> Error {
        Error::Network {
            place: String::new(),
            source: "down".into(),
        }
    }

    fn missing() -> Error {
        Error::NotFound {
            what: String::new(),
            place: String::new(),
        }
    }

    #[test]
    fn failures_set_back_longer_each_time_and_success_forgives() {
        let start = Instant::now();
        let mut health = Health::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            health.fail(start, None);
            assert_eq!(health.set_back(start), Some(start + Duration::from_secs(seconds)));
        }
        health.succeed();
        assert_eq!(health.set_back(start), None);
        health.fail(start, Some(Duration::from_secs(7)));
        assert_eq!(health.set_back(start), Some(start + Duration::from_secs(7)));
        health.fail(start, Some(Duration::from_secs(7000)));
        assert_eq!(health.set_back(start), Some(start + SET_BACK_MAX));
    }

    #[test]
    fn one_request_tries_a_host_again() {
        let start = Instant::now();
        let mut health = Health::default();
        health.ask(start);
        assert_eq!(health.set_back(start), None, "a good host is asked by all");
        health.fail(start, None);
        let later = start + SET_BACK_MIN;
        assert_eq!(health.set_back(later), None);
        health.ask(later);
        assert_eq!(health.set_back(later), Some(later + TRIAL));
        health.succeed();
        assert_eq!(health.set_back(later), None);
    }

    #[test]
    fn bad_bytes_are_the_last_sender_s() {
        let (one, two) = (sha256_of(b"1"), sha256_of(b"2"));
        let mut ledger = Ledger::default();
        ledger.note(0, &one, 0..100);
        ledger.note(1, &one, 50..150);
        ledger.note(2, &two, 0..500);
        assert_eq!(ledger.sender(&one, &(10..20)), Some(0));
        assert_eq!(ledger.sender(&one, &(60..70)), Some(1));
        assert_eq!(ledger.sender(&one, &(60..60)), Some(1));
        assert_eq!(ledger.sender(&one, &(150..160)), None);
        assert_eq!(ledger.sender(&two, &(150..160)), Some(2));
    }

    #[test]
    fn suspicion_is_about_one_blob_and_ends() {
        let (bad, good, now) = (sha256_of(b"1"), sha256_of(b"2"), Instant::now());
        let hosts = [(0, Health::default()), (1, Health::default())];
        let mut ledger = Ledger::default();
        ledger.suspect(0, &bad, Blame::Bytes, now);
        ledger.suspect(1, &good, Blame::Host(None), now);
        assert_eq!(ledger.order(&hosts, Some(&bad), now), [1, 0]);
        assert_eq!(ledger.order(&hosts, Some(&good), now), [0, 1]);
        assert_eq!(ledger.order(&hosts, Some(&bad), now + BAD_BYTES), [0, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for number in 0..2000_u32 {
            let digest = sha256_of(&number.to_le_bytes());
            ledger.note(0, &digest, 0..1);
            ledger.suspect(0, &digest, Blame::Missing, now);
        }
        assert_eq!(ledger.served.len(), SERVED_COUNT_MAX);
        assert_eq!(ledger.suspicions.len(), SUSPICION_COUNT_MAX);
        ledger.suspect(0, &sha256_of(b"new"), Blame::Missing, now + MISSING);
        assert_eq!(ledger.suspicions.len(), 1, "old ones make room");
    }

    #[test]
    fn failures_that_may_pass_are_told_first() {
        assert!(telling(Some(down()), missing()).is_retryable());
        assert!(telling(Some(missing()), down()).is_retryable());
        assert!(!telling(Some(missing()), missing()).is_retryable());
        assert!(!telling(None, missing()).is_retryable());
    }

    proptest! {
        #[test]
        fn every_host_is_in_the_order_and_the_good_ones_come_first(
            hosts in proptest::collection::vec((0_u64..90, 0_u32..3, any::<bool>()), 1..8),
            at in 0_u64..90,
        ) {
            let (start, digest) = (Instant::now(), sha256_of(b"blob"));
            let now = start + Duration::from_secs(at);
            let mut ledger = Ledger::default();
            let mut states = Vec::new();
            for (index, (failed_at, failures, is_missing)) in hosts.iter().enumerate() {
                let mut health = Health::default();
                for _ in 0..*failures {
                    health.fail(start + Duration::from_secs(*failed_at), None);
                }
                if *is_missing {
                    ledger.suspect(index, &digest, Blame::Missing, start);
                }
                states.push((index, health));
            }
            let order = ledger.order(&states, Some(&digest), now);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..hosts.len()).collect::<Vec<_>>());

            let rank = |host: usize| {
                if ledger.suspected(host, &digest, now).is_some() {
                    2
                } else {
                    usize::from(states[host].1.set_back(now).is_some())
                }
            };
            for pair in order.windows(2) {
                let (first, second) = (rank(pair[0]), rank(pair[1]));
                prop_assert!(first <= second);
                prop_assert!(first != 0 || second != 0 || pair[0] < pair[1], "good hosts keep their order");
            }
        }
    }
}
