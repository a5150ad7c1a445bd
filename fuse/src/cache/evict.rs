//! What to give up when the cache is too large. Pure.

use super::slots::Extent;

/// What was used within this time is not given up: somebody may be about to read it. Longer than a read may take from
/// the first look at its chunks to the copy, save where it waits for the network.
const YOUNG_SECS: u32 = 10;

/// An extent, and what matters about its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Number of the blob, as the caller counts.
    pub(super) blob: usize,
    pub(super) extent: Extent,
    /// A container runs on it.
    pub(super) is_running: bool,
}

/// Chooses candidates until `need` bytes are found: images without containers first, in both groups what was used
/// longest ago first.
///
/// What was used in the future was used before the clock was put back: nobody knows when, so it goes first. Else it
/// would stay until that time comes, and nothing could be kept meanwhile.
pub(super) fn choose(mut candidates: Vec<Candidate>, need: u64, now: u32) -> Vec<Candidate> {
    candidates.retain(|candidate| {
        let is_young = candidate.extent.used.saturating_add(YOUNG_SECS) > now;
        !is_young || is_future(candidate, now)
    });
    candidates.sort_by_key(|candidate| {
        let used = if is_future(candidate, now) {
            0
        } else {
            candidate.extent.used
        };
        (candidate.is_running, used)
    });
    let mut found = 0_u64;
    let wanted = candidates.into_iter().take_while(|candidate| {
        let is_wanted = found < need;
        found = found.saturating_add(candidate.extent.len);
        is_wanted
    });
    wanted.collect()
}

/// Later than anything that is read while this is decided.
fn is_future(candidate: &Candidate, now: u32) -> bool {
    candidate.extent.used > now.saturating_add(YOUNG_SECS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(blob: usize, number: u64, len: u64, used: u32, is_running: bool) -> Candidate {
        Candidate {
            blob,
            extent: Extent { number, len, used },
            is_running,
        }
    }

    #[test]
    fn running_images_are_last_and_what_is_young_stays() {
        let (old, running, newer, young) = (
            candidate(0, 0, 4, 10, false),
            candidate(1, 0, 4, 5, true),
            candidate(0, 1, 4, 20, false),
            candidate(0, 2, 4, 95, false),
        );
        let future = candidate(0, 3, 4, 1000, false);
        assert_eq!(choose(vec![old, young, future], 8, 100), [future, old]);
        let all = vec![young, running, newer, old];
        assert_eq!(choose(all.clone(), 5, 100), [old, newer]);
        assert_eq!(choose(all.clone(), 100, 100), [old, newer, running]);
        assert_eq!(choose(all, 0, 100), []);
    }

    proptest! {
        #[test]
        fn enough_and_not_more_than_needed(
            extents in proptest::collection::vec((0_usize..4, 1_u64..100, 0_u32..160, any::<bool>()), 0..40),
            need in 0_u64..1000,
        ) {
            let all: Vec<_> = (0..).zip(&extents)
                .map(|(number, (blob, len, used, is_running))| candidate(*blob, number, *len, *used, *is_running))
                .collect();
            let chosen = choose(all.clone(), need, 150);
            let found: u64 = chosen.iter().map(|candidate| candidate.extent.len).sum();
            let old = all.iter().filter(|candidate| candidate.extent.used <= 140);
            let most: u64 = old.clone().map(|candidate| candidate.extent.len).sum();
            prop_assert!(found >= need.min(most));
            if let Some(last) = chosen.last() {
                prop_assert!(found - last.extent.len < need);
                for spared in old.filter(|candidate| !chosen.contains(candidate)) {
                    let key = |candidate: &Candidate| (candidate.is_running, candidate.extent.used);
                    prop_assert!(key(spared) >= key(last));
                }
            }
        }
    }
}
