//! Which bytes of the file belong to something already.

use std::ops::Range;

use crate::layout::SLOT;

/// One bit per 32-byte slot of the file.
pub(in crate::image) struct Claims {
    words: Vec<u64>,
}

impl Claims {
    /// Starts with nothing claimed in a file of `len` bytes.
    pub(in crate::image) fn new(len: u64) -> Self {
        let words = len.div_ceil(SLOT).div_ceil(64);
        Claims {
            words: vec![0; usize::try_from(words).expect("the file is in memory")],
        }
    }

    /// Claims the slots of a range up to the first that is claimed already or outside the file, and returns
    /// whether there was none.
    ///
    /// Claiming what comes before a conflict bounds the work: however many ranges overlap, a slot is passed over
    /// only once.
    pub(in crate::image) fn claim(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        (range.start / SLOT..range.end.div_ceil(SLOT)).all(|slot| self.claim_slot(slot))
    }

    fn claim_slot(&mut self, slot: u64) -> bool {
        let bit = 1 << (slot % 64);
        let word = usize::try_from(slot / 64)
            .ok()
            .and_then(|at| self.words.get_mut(at));
        match word {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_claimed_once() {
        let mut claims = Claims::new(8192);
        assert!(claims.claim(0..100));
        assert!(!claims.claim(96..128));
        assert!(claims.claim(128..8192));
        assert!(!claims.claim(4096..4097));
        assert!(claims.claim(64..64));
        assert!(!claims.claim(8192..8193));
    }
}
