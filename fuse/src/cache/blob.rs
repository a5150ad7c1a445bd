//! One blob of the cache: its data file, its state file, and what this process knows about each chunk.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rafs::{ChunkRef, Span};
use rustix::fs::OFlags;

use super::meta::{self, MetaPlace};
use super::state::{self, Entry};
use super::uncached::UncachedFile;
use super::{Shape, make_dir};
use crate::decode::VerifiedChunk;

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

/// How far a chunk that has a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its bytes are on their way to the disk.
    Writing,
    /// An earlier process recorded it.
    Recorded,
    /// Its bytes were checked by this process.
    Ready,
    /// It was there and is no longer. The place stays its own: somebody may still be reading there, and must not
    /// find bytes of another chunk.
    Dropped,
}

struct Slot {
    entry: Entry,
    stage: Stage,
}

/// Which chunks have a place, by number and by offset. No two places overlap.
#[derive(Default)]
struct Slots {
    by_index: HashMap<u32, Slot>,
    by_offset: BTreeMap<u64, u32>,
    local_len: u64,
}

impl Slots {
    /// Gives a chunk a place, unless its number or any byte of the place is another's.
    fn reserve(&mut self, index: u32, entry: Entry, stage: Stage) -> bool {
        match self.by_index.get(&index) {
            Some(slot) if slot.entry == entry && slot.stage == Stage::Dropped => {}
            Some(_) => return false,
            None if self.is_taken(entry.place) => return false,
            None => {
                self.by_offset.insert(entry.place.offset, index);
                self.by_index.insert(
                    index,
                    Slot {
                        entry,
                        stage: Stage::Dropped,
                    },
                );
            }
        }
        self.advance(index, &entry, stage);
        true
    }

    fn is_taken(&self, place: Span) -> bool {
        // An empty place takes its first byte too: every entry has an offset of its own.
        let end = place.offset + u64::from(place.len.max(1));
        let Some((_, index)) = self.by_offset.range(..end).next_back() else {
            return false;
        };
        let below = self.by_index[index].entry.place;
        below.offset + u64::from(below.len.max(1)) > place.offset
    }

    fn advance(&mut self, index: u32, entry: &Entry, stage: Stage) {
        let Some(slot) = self.by_index.get_mut(&index).filter(|slot| slot.entry == *entry) else {
            return;
        };
        let len = u64::from(entry.place.len);
        let is_local = |stage| matches!(stage, Stage::Recorded | Stage::Ready);
        match (is_local(slot.stage), is_local(stage)) {
            (false, true) => self.local_len += len,
            (true, false) => self.local_len -= len,
            _ => {}
        }
        slot.stage = stage;
    }
}

struct Files {
    data: UncachedFile,
    data_path: PathBuf,
    state: File,
    /// The blob's chunk infos, for blobs that need them. Not kept open: they are read once.
    meta: PathBuf,
}

/// A cached blob. All methods may be called from any thread; those that name it touch the disk.
pub(crate) struct Blob {
    shape: Shape,
    files: Option<Files>,
    slots: RwLock<Slots>,
    write_errors: AtomicU64,
}

impl Blob {
    /// Opens the folder of a blob, making or remaking what is missing or not readable as its state.
    pub(super) fn open(dir: &Path, shape: &Shape) -> io::Result<Self> {
        make_dir(dir)?;
        let options = {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600);
            // A symlink here is not ours, and what it names would be overwritten.
            options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
            options
        };
        let data_path = dir.join("data");
        let mut data = options.open(&data_path)?;
        let state = options.open(dir.join("state"))?;
        let mut slots = Slots::default();
        let entries = match data.metadata()?.len() == shape.uncompressed_size {
            true => state::load(&state, shape)?,
            false => None,
        };
        match entries {
            Some(entries) => {
                for (index, entry) in entries {
                    if fits(entry.place, shape) {
                        slots.reserve(index, entry, Stage::Recorded);
                    }
                }
            }
            None => {
                // The state goes first: data without state is nothing, state without data would be a promise.
                state.set_len(0)?;
                // A new file, never the old one cut: a mount of the kernel's may still read that.
                std::fs::remove_file(&data_path)?;
                data = options.open(&data_path)?;
                data.set_len(shape.uncompressed_size)?;
                state::create(&state, shape)?;
            }
        }
        Ok(Blob {
            shape: shape.clone(),
            files: Some(Files {
                data: UncachedFile::new(data),
                data_path,
                state,
                meta: dir.join("meta"),
            }),
            slots: RwLock::new(slots),
            write_errors: AtomicU64::new(0),
        })
    }

    /// Makes a blob that keeps nothing.
    pub(super) fn uncached(shape: &Shape) -> Self {
        Blob {
            shape: shape.clone(),
            files: None,
            slots: RwLock::default(),
            write_errors: AtomicU64::new(0),
        }
    }

    /// What is known of the blob as a whole.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The file with the chunks that are there.
    pub(crate) fn data_path(&self) -> Option<&Path> {
        self.files.as_ref().map(|files| files.data_path.as_path())
    }

    /// Uncompressed bytes of the chunks that are there, believed or not yet.
    pub(crate) fn local_len(&self) -> u64 {
        self.read_slots().local_len
    }

    /// How often the disk refused a chunk since the blob was opened.
    pub(crate) fn write_errors(&self) -> u64 {
        self.write_errors.load(Ordering::Relaxed)
    }

    /// Says what the cache can do for a chunk.
    pub(crate) fn standing(&self, chunk: &ChunkRef) -> Standing {
        if self.files.is_none()
            || !fits(chunk.uncompressed, &self.shape)
            || chunk.index >= self.shape.chunk_count
        {
            return Standing::Barred;
        }
        let slots = self.read_slots();
        match slots.by_index.get(&chunk.index) {
            Some(slot) if slot.entry != entry_of(chunk) => Standing::Barred,
            Some(slot) => match slot.stage {
                Stage::Writing => Standing::Barred,
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
    /// The disk refuses, or the chunk is no longer there.
    pub(crate) fn read(&self, chunk: &ChunkRef, skip: u32, out: &mut [u8]) -> io::Result<()> {
        let is_inside = u64::from(skip) + out.len() as u64 <= u64::from(chunk.uncompressed.len);
        let files = self
            .files
            .as_ref()
            .filter(|_| is_inside)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        files
            .data
            .read_exact_at(out, chunk.uncompressed.offset + u64::from(skip))
    }

    /// Stores a chunk: its content, then its entry. Does nothing where it is barred or there already. A refusal of
    /// the disk is counted and forgotten: the next one may succeed.
    pub(crate) fn store(&self, verified: &VerifiedChunk) {
        let chunk = verified.chunk();
        let Some(files) = self
            .files
            .as_ref()
            .filter(|_| self.standing(chunk) == Standing::Absent)
        else {
            return;
        };
        let entry = entry_of(chunk);
        // The place is taken before it is written, so that no other chunk is written there meanwhile.
        if !self.write_slots().reserve(chunk.index, entry, Stage::Writing) {
            return;
        }
        let written = files
            .data
            .write_all_at(verified.content(), entry.place.offset)
            .and_then(|()| state::record(&files.state, chunk.index, Some(&entry)));
        let stage = match written {
            Ok(()) => Stage::Ready,
            Err(error) => {
                self.write_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(blob = %self.shape.id, %error, "a chunk could not be cached");
                Stage::Dropped
            }
        };
        self.write_slots().advance(chunk.index, &entry, stage);
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
        self.files
            .as_ref()
            .and_then(|files| meta::load(&files.meta, place))
    }

    /// Keeps stored chunk infos. What another image of the blob kept, at another place, is replaced.
    pub(crate) fn keep_meta(&self, place: &MetaPlace, stored: &[u8]) {
        let Some(files) = &self.files else { return };
        if let Err(error) = meta::save(&files.meta, place, stored) {
            tracing::warn!(blob = %self.shape.id, %error, "chunk infos could not be cached");
        }
    }

    fn drop_from(&self, chunk: &ChunkRef, from: Stage) {
        let Some(files) = self
            .files
            .as_ref()
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
            .by_index
            .get(&chunk.index)
            .is_some_and(|slot| slot.entry == entry && slot.stage == from);
        if is_there {
            slots.advance(chunk.index, &entry, to);
        }
        is_there
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
