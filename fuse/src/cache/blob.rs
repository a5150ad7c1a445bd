//! One blob of the cache: its data file, its state file, and what this process knows about each chunk.

mod evict;
mod files;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use rafs::{ChunkRef, Span};

pub(crate) use self::evict::Pin;
use self::files::Files;
use super::account::{Account, now};
use super::meta::{self, MetaPlace};
use super::slots::{Slots, Stage};
use super::state::{self, Entry};
use super::{Shape, writeback};
use crate::decode::VerifiedChunk;

/// Files of a blob that could not be opened are tried again after this time: often enough that nobody restarts the
/// daemon for it, seldom enough to cost nothing on a disk that stays as it is.
const RETRY: Duration = Duration::from_secs(5);

/// What disks give at least: a chunk takes whole ones.
const BLOCK_LEN: u64 = 4096;

/// Bytes that a chunk takes in the state, with room for the blocks that are begun.
const ENTRY_COST: u64 = 64;

/// Bytes that a blob takes before anything is stored: two folders and the head of its state.
const BLOB_COST: u64 = 3 * BLOCK_LEN;

/// What the cache can do for one chunk of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is there; it can be stored.
    Absent,
    /// An earlier process left it: to be hashed before it is used.
    Recorded,
    /// Read it.
    Ready,
    /// Another image keeps other content there, or the blob keeps nothing: fetch, and do not store.
    Barred,
}

/// A cached blob. All methods may be called from any thread; those that name it touch the disk.
pub(crate) struct Blob {
    shape: Shape,
    dir: PathBuf,
    files: OnceLock<Files>,
    /// When to try to open the files, if not yet. `None`: never.
    retry: Mutex<Option<Instant>>,
    slots: RwLock<Slots>,
    account: Arc<Account>,
    setbacks: AtomicU64,
}

impl Blob {
    /// Opens the folder of a blob, making or remaking what is missing or not readable as its state. Where the disk
    /// refuses, the blob keeps nothing until it no longer does.
    pub(super) fn open(dir: &Path, shape: &Shape, account: Arc<Account>) -> Self {
        let blob = Blob {
            dir: dir.to_owned(),
            retry: Mutex::new(Some(Instant::now())),
            ..Self::uncached(shape, account)
        };
        blob.open_files();
        blob
    }

    /// Makes a blob that never keeps anything.
    pub(super) fn uncached(shape: &Shape, account: Arc<Account>) -> Self {
        Blob {
            shape: shape.clone(),
            dir: PathBuf::new(),
            files: OnceLock::new(),
            retry: Mutex::new(None),
            slots: RwLock::default(),
            account,
            setbacks: AtomicU64::new(0),
        }
    }

    /// Opens the files if it is time to try.
    fn open_files(&self) -> Option<&Files> {
        if let Some(files) = self.files.get() {
            return Some(files);
        }
        let mut retry = self.retry.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.get().is_none() && retry.is_some_and(|at| at <= Instant::now()) {
            match Files::open(&self.dir, &self.shape) {
                Ok((files, entries)) => {
                    let used = files.modified();
                    let mut slots = self.write_slots();
                    for (index, entry) in entries {
                        if fits(entry.place, &self.shape) {
                            slots.reserve(index, entry, Stage::Recorded, used);
                        }
                    }
                    self.account.spend(BLOB_COST);
                    // Only here, under the lock: nobody has set it meanwhile.
                    self.files.set(files).ok();
                }
                Err(error) => {
                    self.set_back();
                    *retry = Some(Instant::now() + RETRY);
                    tracing::warn!(blob = %self.shape.id, %error, "the cache cannot hold a blob; served without caching");
                }
            }
        }
        self.files.get()
    }

    /// What is known of the blob as a whole.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Uncompressed bytes of the chunks that are there, believed or not yet.
    pub(crate) fn local_len(&self) -> u64 {
        self.read_slots().local_len()
    }

    /// Bytes that its files take on the disk.
    pub(crate) fn disk_len(&self) -> u64 {
        super::disk_len(&self.dir)
    }

    /// How often a chunk was not kept since the blob was opened: the disk refused, or there was no room.
    pub(crate) fn setbacks(&self) -> u64 {
        self.setbacks.load(Ordering::Relaxed)
    }

    /// Whether there is room for what nobody asked for.
    pub(crate) fn may_fill(&self) -> bool {
        self.account.may_fill()
    }

    /// Says what the cache can do for a chunk.
    pub(crate) fn standing(&self, chunk: &ChunkRef) -> Standing {
        if self.files.get().is_none()
            || !fits(chunk.uncompressed, &self.shape)
            || chunk.index >= self.shape.chunk_count
        {
            return Standing::Barred;
        }
        let slots = self.read_slots();
        match slots.get(chunk.index) {
            Some(slot) if slot.entry != entry_of(chunk) => Standing::Barred,
            Some(slot) => match slot.stage {
                Stage::Writing | Stage::Evicting => Standing::Barred,
                Stage::Recorded => Standing::Recorded,
                Stage::Ready => Standing::Ready,
                Stage::Dropped => Standing::Absent,
            },
            None if slots.is_taken(chunk.uncompressed) => Standing::Barred,
            None => Standing::Absent,
        }
    }

    /// Reads bytes of a chunk that stands `Ready` (or `Recorded`, to check it), from `skip` on, until `out` is full.
    ///
    /// # Errors
    /// The chunk is not there or went meanwhile (`NotFound`), or the disk refuses.
    pub(crate) fn read(&self, chunk: &ChunkRef, skip: u32, out: &mut [u8]) -> io::Result<()> {
        let is_inside = u64::from(skip) + out.len() as u64 <= u64::from(chunk.uncompressed.len);
        let files = self
            .files
            .get()
            .filter(|_| is_inside)
            .ok_or(io::ErrorKind::NotFound)?;
        let before = self.evictions(chunk, now()).ok_or(io::ErrorKind::NotFound)?;
        files
            .data
            .read_exact_at(out, chunk.uncompressed.offset + u64::from(skip))?;
        self.demote_lost(files);
        // Looked at only now: an eviction makes holes after it is counted, so what was read before is whole. The same
        // holds for what the disk did not take.
        match self.evictions(chunk, 0) {
            Some(after) if after == before => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// How often a chunk was evicted, if it is there; notes that it is used.
    fn evictions(&self, chunk: &ChunkRef, now: u32) -> Option<u32> {
        let slots = self.read_slots();
        let slot = slots.get(chunk.index)?;
        slot.touch(now);
        (slot.entry == entry_of(chunk) && slot.is_readable()).then_some(slot.evictions)
    }

    /// Stores a chunk: its content, then its entry. Does nothing where it is barred or there already. A refusal of
    /// the disk is counted and forgotten: the next one may succeed.
    pub(crate) fn store(&self, verified: &VerifiedChunk) {
        let chunk = verified.chunk();
        let Some(files) = self
            .open_files()
            .filter(|_| self.standing(chunk) == Standing::Absent)
        else {
            return;
        };
        let entry = entry_of(chunk);
        let disk_len = u64::from(entry.place.len).next_multiple_of(BLOCK_LEN) + ENTRY_COST;
        if !self.is_kept() || !self.account.take(disk_len) {
            self.setbacks.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The place is taken before it is written, so that no other chunk is written there meanwhile.
        let mut slots = self.write_slots();
        let is_reserved = slots.reserve(chunk.index, entry, Stage::Writing, now());
        drop(slots);
        if !is_reserved {
            return;
        }
        let written = files
            .data
            .write_all_at(verified.content(), entry.place.offset)
            .and_then(|()| state::record(&files.state, chunk.index, Some(&entry)));
        let stage = match written {
            Ok(()) => Stage::Ready,
            Err(error) => {
                self.set_back();
                tracing::warn!(blob = %self.shape.id, %error, "a chunk could not be cached");
                Stage::Dropped
            }
        };
        self.write_slots().advance(chunk.index, &entry, stage);
    }

    /// Has everything hashed again before it is believed, if the kernel could not write something back.
    fn demote_lost(&self, files: &Files) {
        // The kernel tells one asker: others wait here until the slots say it, too.
        let _asking = self.retry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeback::check(files.data.file()) {
            self.set_back();
            tracing::warn!(blob = %self.shape.id, %error, "the disk lost what was cached; it is checked again before use");
            self.write_slots().distrust();
        }
    }

    fn set_back(&self) {
        self.setbacks.fetch_add(1, Ordering::Relaxed);
        self.account.note_write_error();
    }

    /// Declares a `Recorded` chunk to be what it says, after it was hashed.
    pub(crate) fn promote(&self, verified: &VerifiedChunk) {
        self.settle(verified.chunk(), Stage::Recorded, Stage::Ready);
    }

    /// Drops a `Recorded` chunk that turned out not to be what it says.
    pub(crate) fn reject(&self, chunk: &ChunkRef) {
        self.drop_from(chunk, Stage::Recorded);
    }

    /// Drops a `Ready` chunk that could not be read.
    pub(crate) fn lose(&self, chunk: &ChunkRef) {
        self.drop_from(chunk, Stage::Ready);
    }

    /// Finds the stored chunk infos that an image places at `place`, if they are there and whole.
    pub(crate) fn meta(&self, place: &MetaPlace) -> Option<Vec<u8>> {
        self.files.get().and_then(|files| meta::load(&files.meta, place))
    }

    /// Keeps stored chunk infos. What another image of the blob kept, at another place, is replaced.
    pub(crate) fn keep_meta(&self, place: &MetaPlace, stored: &[u8]) {
        let Some(files) = self.files.get().filter(|_| self.is_kept()) else {
            return;
        };
        if let Err(error) = meta::save(&files.meta, place, stored) {
            tracing::warn!(blob = %self.shape.id, %error, "chunk infos could not be cached");
        }
    }

    fn drop_from(&self, chunk: &ChunkRef, from: Stage) {
        let Some(files) = self
            .files
            .get()
            .filter(|_| self.settle(chunk, from, Stage::Dropped))
        else {
            return;
        };
        if let Err(error) = state::record(&files.state, chunk.index, None) {
            // The entry stays on disk; the next process hashes the chunk and comes to the same answer.
            tracing::warn!(blob = %self.shape.id, %error, "a bad cache entry could not be erased");
        }
    }

    fn settle(&self, chunk: &ChunkRef, from: Stage, to: Stage) -> bool {
        let mut slots = self.write_slots();
        let entry = entry_of(chunk);
        let is_there = slots
            .get(chunk.index)
            .is_some_and(|slot| slot.entry == entry && slot.stage == from);
        if is_there {
            slots.advance(chunk.index, &entry, to);
        }
        is_there
    }

    /// Whether its folder is still its own.
    fn is_kept(&self) -> bool {
        self.retry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn read_slots(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_slots(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry_of(chunk: &ChunkRef) -> Entry {
    Entry {
        digest: chunk.digest,
        place: chunk.uncompressed,
    }
}

/// Whether a place lies in the data file.
fn fits(place: Span, shape: &Shape) -> bool {
    place
        .offset
        .checked_add(u64::from(place.len))
        .is_some_and(|end| end <= shape.uncompressed_size)
}

#[cfg(test)]
mod tests;
