//! Which chunks of a blob have a place in its data file, how far each is, and when it was used. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};

use rafs::Span;

use super::state::Entry;

/// Bytes of a data file that are evicted as one: large enough that few calls free much and that a fetch brings them
/// back in one request, small beside any image.
const EXTENT_LEN: u64 = 4 << 20;

/// Data files are given back in whole blocks of this length; what lies between two chunks in one is nobody's.
const BLOCK_LEN: u64 = 4096;

/// How far a chunk that has a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its bytes are on their way to the disk.
    Writing,
    /// An earlier process recorded it.
    Recorded,
    /// Its bytes were checked by this process.
    Ready,
    /// Its bytes are about to go. Nobody reads them, nobody writes there.
    Evicting,
    /// It was there and is no longer. The place stays its own: somebody may still be reading there, and must not
    /// find bytes of another chunk.
    Dropped,
}

impl Stage {
    fn is_local(self) -> bool {
        matches!(self, Stage::Recorded | Stage::Ready)
    }
}

/// A chunk that has a place.
pub(super) struct Slot {
    pub(super) entry: Entry,
    pub(super) stage: Stage,
    /// How often it was evicted: tells a reader that its bytes went, and perhaps came back, under it.
    pub(super) evictions: u32,
    /// When it was last used, in seconds.
    used: AtomicU32,
}

impl Slot {
    /// Notes a use. Wherever it is a little late, the later time stays.
    pub(super) fn touch(&self, now: u32) {
        self.used.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether its bytes can be read.
    pub(super) fn is_readable(&self) -> bool {
        self.stage.is_local()
    }
}

/// Chunks that lie near each other, with what is to know about giving them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Its place among those of the blob.
    pub(super) number: u64,
    /// Bytes of the chunks that are there.
    pub(super) len: u64,
    /// When one of them was last used, in seconds.
    pub(super) used: u32,
}

/// A chunk that is being evicted, and what it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub(super) index: u32,
    pub(super) entry: Entry,
    was: Stage,
    /// The chunk before it in the data file is one too.
    is_next: bool,
}

/// Which chunks have a place, by number and by offset. No two places overlap.
#[derive(Default)]
pub(super) struct Slots {
    by_index: HashMap<u32, Slot>,
    by_offset: BTreeMap<u64, u32>,
    local_len: u64,
    pins: u32,
}

impl Slots {
    /// Keeps everything where it is until it is unpinned as often.
    pub(super) fn pin(&mut self) {
        self.pins += 1;
    }

    pub(super) fn unpin(&mut self) {
        self.pins -= 1;
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins > 0
    }

    /// Finds a chunk that has a place.
    pub(super) fn get(&self, index: u32) -> Option<&Slot> {
        self.by_index.get(&index)
    }

    /// Uncompressed bytes of the chunks that are there.
    pub(super) fn local_len(&self) -> u64 {
        self.local_len
    }

    /// Gives a chunk a place, unless its number or any byte of the place is another's.
    pub(super) fn reserve(&mut self, index: u32, entry: Entry, stage: Stage, now: u32) -> bool {
        match self.by_index.get(&index) {
            Some(slot) if slot.entry == entry && slot.stage == Stage::Dropped => {}
            Some(_) => return false,
            None if self.is_taken(entry.place) => return false,
            None => {
                self.by_offset.insert(entry.place.offset, index);
                let slot = Slot {
                    entry,
                    stage: Stage::Dropped,
                    evictions: 0,
                    used: AtomicU32::new(now),
                };
                self.by_index.insert(index, slot);
            }
        }
        if let Some(slot) = self.by_index.get(&index) {
            slot.touch(now);
        }
        self.advance(index, &entry, stage);
        true
    }

    /// Whether any byte of a place is a chunk's.
    pub(super) fn is_taken(&self, place: Span) -> bool {
        // An empty place takes its first byte too: every entry has an offset of its own.
        let end = place.offset + u64::from(place.len.max(1));
        let Some((_, index)) = self.by_offset.range(..end).next_back() else {
            return false;
        };
        let below = self.by_index[index].entry.place;
        below.offset + u64::from(below.len.max(1)) > place.offset
    }

    /// Puts a chunk to a stage, if it has that very place.
    pub(super) fn advance(&mut self, index: u32, entry: &Entry, stage: Stage) {
        let Some(slot) = self.by_index.get_mut(&index).filter(|slot| slot.entry == *entry) else {
            return;
        };
        let len = u64::from(entry.place.len);
        match (slot.stage.is_local(), stage.is_local()) {
            (false, true) => self.local_len += len,
            (true, false) => self.local_len -= len,
            _ => {}
        }
        slot.stage = stage;
    }

    /// Believes nothing any more that was checked. Who is just reading notices.
    pub(super) fn distrust(&mut self) {
        for slot in self
            .by_index
            .values_mut()
            .filter(|slot| slot.stage == Stage::Ready)
        {
            slot.stage = Stage::Recorded;
            slot.evictions = slot.evictions.wrapping_add(1);
        }
    }

    /// The extents in which something is there.
    pub(super) fn extents(&self) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for index in self.by_offset.values() {
            let slot = &self.by_index[index];
            if !slot.is_readable() {
                continue;
            }
            let number = slot.entry.place.offset / EXTENT_LEN;
            let (len, used) = (u64::from(slot.entry.place.len), slot.used.load(Ordering::Relaxed));
            match extents.last_mut().filter(|last| last.number == number) {
                Some(last) => {
                    last.len += len;
                    last.used = last.used.max(used);
                }
                None => extents.push(Extent { number, len, used }),
            }
        }
        extents
    }

    /// Begins to evict what is there of an extent, unless it was used after all: in the order of their places.
    pub(super) fn begin_eviction(&mut self, extent: &Extent) -> Vec<Victim> {
        let start = extent.number.saturating_mul(EXTENT_LEN);
        let inside = self.by_offset.range(start..start.saturating_add(EXTENT_LEN));
        let inside: Vec<u32> = inside.map(|(_, index)| *index).collect();
        let is_used = |index| {
            let slot = &self.by_index[index];
            slot.is_readable() && slot.used.load(Ordering::Relaxed) > extent.used
        };
        if inside.iter().any(is_used) {
            return Vec::new();
        }
        let mut victims = Vec::new();
        let mut is_next = false;
        for index in inside {
            let Some(slot) = self.by_index.get_mut(&index).filter(|slot| slot.is_readable()) else {
                is_next = false;
                continue;
            };
            slot.evictions = slot.evictions.wrapping_add(1);
            let (entry, was) = (slot.entry, slot.stage);
            self.advance(index, &entry, Stage::Evicting);
            victims.push(Victim {
                index,
                entry,
                was,
                is_next,
            });
            is_next = true;
        }
        victims
    }

    /// Ends an eviction: the bytes are gone, or they stayed what they were.
    pub(super) fn end_eviction(&mut self, victims: &[Victim], is_gone: bool) {
        for victim in victims {
            let stage = if is_gone { Stage::Dropped } else { victim.was };
            self.advance(victim.index, &victim.entry, stage);
        }
    }
}

/// The ranges to give back for victims, which are in the order of their places: neighbours together, with the bytes
/// between them that share a block.
pub(super) fn holes(victims: &[Victim]) -> Vec<std::ops::Range<u64>> {
    let mut holes: Vec<std::ops::Range<u64>> = Vec::new();
    for victim in victims {
        let start = victim.entry.place.offset;
        let end = start + u64::from(victim.entry.place.len);
        match holes.last_mut().filter(|_| victim.is_next) {
            Some(last) if start <= last.end.next_multiple_of(BLOCK_LEN) => last.end = end,
            _ if start == end => {}
            _ => holes.push(start..end),
        }
    }
    holes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rafs::Digest;

    use super::*;

    fn entry(offset: u64, len: u32) -> Entry {
        Entry {
            digest: Digest([7; 32]),
            place: Span { offset, len },
        }
    }

    #[test]
    fn an_extent_that_was_used_meanwhile_stays() {
        let mut slots = Slots::default();
        assert!(slots.reserve(0, entry(0, 4096), Stage::Ready, 5));
        assert!(slots.reserve(1, entry(4096, 4096), Stage::Ready, 5));
        let extent = slots.extents()[0];
        slots.get(1).unwrap().touch(6);
        assert!(slots.begin_eviction(&extent).is_empty());
        assert_eq!(slots.local_len(), 8192);
        let victims = slots.begin_eviction(&slots.extents()[0].clone());
        assert_eq!((victims.len(), slots.local_len()), (2, 0));
        slots.end_eviction(&victims, false);
        assert_eq!(
            (slots.get(0).unwrap().stage, slots.local_len()),
            (Stage::Ready, 8192)
        );
    }

    proptest! {
        #[test]
        fn evictions_free_all_of_their_extents_and_nothing_else(
            // Gap before each chunk, its length, and whether it is on its way in.
            places in proptest::collection::vec((0_u64..9000, 0_u32..300_000, 0_u8..8), 1..120),
            picks in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4),
        ) {
            let mut slots = Slots::default();
            let (mut at, mut spans) = (0, Vec::new());
            for (index, (gap, len, fate)) in (0..).zip(&places) {
                at += gap;
                let stage = if *fate == 0 { Stage::Writing } else { Stage::Ready };
                prop_assert!(slots.reserve(index, entry(at, *len), stage, index));
                spans.push(at..at + u64::from(*len));
                at += u64::from((*len).max(1));
            }
            let before = slots.extents();
            prop_assert_eq!(before.iter().map(|extent| extent.len).sum::<u64>(), slots.local_len());
            for pick in picks {
                let extents = slots.extents();
                if extents.is_empty() { break; }
                let extent = *pick.get(&extents);
                let (len, victims) = (slots.local_len(), slots.begin_eviction(&extent));
                prop_assert_eq!(slots.local_len(), len - extent.len);
                let holes = holes(&victims);
                prop_assert!(holes.windows(2).all(|pair| pair[0].end <= pair[1].start));
                slots.end_eviction(&victims, true);
                for (index, span) in (0..).zip(&spans) {
                    let covered = holes.iter().any(|hole| hole.start < span.end && span.start < hole.end);
                    let is_victim = victims.iter().any(|victim| victim.index == index);
                    prop_assert!(span.is_empty() || covered == is_victim, "chunk {index}");
                }
                prop_assert!(!slots.extents().iter().any(|left| left.number == extent.number));
            }
        }
    }
}
