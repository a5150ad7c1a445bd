//! Giving back what a blob keeps.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use rustix::fs::FallocateFlags;

use super::Blob;
use super::files::Files;
use crate::cache::lease;
use crate::cache::slots::{self, Extent, Victim};
use crate::cache::state;

/// Keeps a blob from being evicted while somebody is about to read its file behind the cache's back.
pub(crate) struct Pin(Arc<Blob>);

impl Pin {
    /// The file with the chunks that are there.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.files.get().map(|files| files.data_path.as_path())
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.write_slots().unpin();
    }
}

impl Blob {
    /// Keeps the blob as it is until the pin is dropped, by when the reader must have opened the file. `None` where so
    /// much is in the cache that it had better remain evictable.
    pub(crate) fn pin(self: &Arc<Self>) -> Option<Pin> {
        if !self.account.may_pin() {
            return None;
        }
        self.write_slots().pin();
        let pin = Pin(Arc::clone(self));
        // Who reads the file itself learns nothing of what the disk does not take later.
        let is_safe = (self.files.get()).is_some_and(|files| files.data.file().sync_data().is_ok());
        is_safe.then_some(pin)
    }

    /// The extents in which something is there.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        self.read_slots().extents()
    }

    /// Gives back extents, in the order of their numbers, and returns how many bytes that were. Nothing goes while
    /// anybody else has the data file open, and no extent that was used since it was looked at.
    pub(crate) fn evict(&self, extents: &[Extent]) -> u64 {
        let Some(files) = self.files.get() else { return 0 };
        let victims = {
            let mut slots = self.write_slots();
            // Under the lock: who wants to open the file pins the blob first.
            if slots.is_pinned() || self.is_shared(files) {
                return 0;
            }
            let victims = extents.iter().flat_map(|extent| slots.begin_eviction(extent));
            victims.collect::<Vec<_>>()
        };
        let is_gone = self.erase(files, &victims);
        self.write_slots().end_eviction(&victims, is_gone);
        let lens = victims.iter().map(|victim| u64::from(victim.entry.place.len));
        let len = if is_gone { lens.sum() } else { 0 };
        self.account.note_evicted(len);
        len
    }

    /// Leaves the folder to others: it is about to be deleted. Who reads on fetches what it reads, except through a
    /// mount of the kernel's, which keeps the deleted file.
    pub(in crate::cache) fn abandon(&self) {
        let mut retry = self.retry.lock().unwrap_or_else(PoisonError::into_inner);
        *retry = None;
        drop(retry);
        self.evict(&self.extents());
    }

    fn is_shared(&self, files: &Files) -> bool {
        lease::is_shared(files.data.file()).unwrap_or_else(|error| {
            tracing::warn!(blob = %self.shape.id, %error, "a blob is not evicted, since nobody can tell who reads it");
            true
        })
    }

    /// Erases entries, for good, and then bytes. `false`: nothing has changed, save that the next process may not
    /// know of some chunks.
    pub(super) fn erase(&self, files: &Files, victims: &[Victim]) -> bool {
        let forget = |victim: &Victim| state::record(&files.state, victim.index, None);
        let forgotten = victims
            .iter()
            .try_for_each(forget)
            .and_then(|()| files.state.sync_data());
        if let Err(error) = forgotten {
            tracing::warn!(blob = %self.shape.id, %error, "chunks could not be evicted");
            return false;
        }
        for hole in slots::holes(victims) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if let Err(error) =
                rustix::fs::fallocate(files.data.file(), flags, hole.start, hole.end - hole.start)
            {
                tracing::warn!(blob = %self.shape.id, %error, "the file system does not give back evicted bytes");
            }
        }
        true
    }
}
