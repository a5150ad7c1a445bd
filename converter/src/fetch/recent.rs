//! Units that were expanded a moment ago: many small files are cut from each, and not always one after the other.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rafs::BlobIndex;
use rafs::blob::Unit;

/// Bytes kept. A piece of a gzip layer is 2 MiB, so some dozen; at least the last unit, which is 32 MiB at most.
const LEN_MAX: usize = 64 << 20;

/// The last expanded units, oldest first.
#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<(BlobIndex, Unit, Bytes)>>);

impl Recent {
    pub(super) fn get(&self, blob: BlobIndex, unit: &Unit) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = kept.iter().rev();
        kept.find(|(of, known, _)| (*of, known) == (blob, unit))
            .map(|(_, _, content)| content.clone())
    }

    pub(super) fn put(&self, blob: BlobIndex, unit: Unit, content: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((blob, unit, content));
        let mut len: usize = kept.iter().map(|(_, _, content)| content.len()).sum();
        while len > LEN_MAX && kept.len() > 1 {
            len -= kept.pop_front().map_or(0, |(_, _, content)| content.len());
        }
    }
}
