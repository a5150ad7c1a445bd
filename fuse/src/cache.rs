//! Chunks on disk, with what is known of them.
//!
//! ```text
//! <cache>/lock                              held while a process uses the folder
//! <cache>/v1/<first 2 hex digits>/<blob id>/data    sparse, a blob's uncompressed image
//!                                           state   what lies in it
//!                                           meta    chunk infos, for blobs with shared units
//! ```
//! What is stored is never synced: a chunk that an earlier process recorded is hashed once before it is believed, so
//! a torn write, a crash or a rotten block costs a fetch and never a wrong byte. What is evicted is forgotten on disk
//! before its bytes go.
//!
//! The cache serves all images of a node. What one image wrote is shown to another only where both say the same
//! digest at the same place, so an image cannot speak for a blob it does not share.

pub(crate) mod account;
pub(crate) mod blob;
mod evict;
mod lease;
pub(crate) mod meta;
mod slots;
mod state;
mod uncached;
mod writeback;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rafs::Digester;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

pub(crate) use account::{Account, CacheLimits};
pub(crate) use blob::{Blob, Standing};
use evict::Candidate;

/// Folder of the layout this version reads and writes; another layout gets another folder.
const LAYOUT: &str = "v1";

/// Name of a blob: the sha256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlobId([u8; 32]);

impl BlobId {
    /// Names bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        BlobId(Sha256::digest(bytes).into())
    }

    /// Takes a name from outside. `None` if it is anything else than 64 lower-case hex digits: it becomes a path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).ok()?;
        (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(BlobId(id))
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an image says about a blob as a whole. Source: the bootstrap's blob table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Its name.
    pub(crate) id: BlobId,
    /// Chunks in it.
    pub(crate) chunk_count: u32,
    /// Bytes of its uncompressed image.
    pub(crate) uncompressed_size: u64,
    /// Hash function of its chunks' digests.
    pub(crate) digester: Digester,
}

/// Bytes of one unit of `st_blocks`, whatever the file system's block size.
const STAT_BLOCK_LEN: u64 = 512;

/// The cache folder of a node.
pub(crate) struct Cache {
    root: PathBuf,
    account: Arc<Account>,
    open: Mutex<HashMap<BlobId, Weak<Blob>>>,
    _lock: File,
}

impl Cache {
    /// Opens the folder, making it when it is missing, and keeps other processes out of it.
    ///
    /// # Errors
    /// The folder cannot be made, or another process uses it (`WouldBlock`).
    pub(crate) fn open(dir: &Path, limits: CacheLimits) -> io::Result<Self> {
        make_dir(dir)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))?;
        // Two processes would overwrite each other's entries, each sure of its own copy in memory.
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let root = dir.join(LAYOUT);
        make_dir(&root)?;
        let cache = Cache {
            root,
            account: Arc::new(Account::new(limits, dir.to_owned())),
            open: Mutex::new(HashMap::new()),
            _lock: lock,
        };
        cache.measure()?;
        Ok(cache)
    }

    /// How much it holds and may hold.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Opens a blob, shared with all who have it open. Where the disk refuses, or where another image that is being
    /// served describes the blob otherwise, the answer is a blob that keeps nothing: reads go on, uncached.
    pub(crate) fn blob(&self, shape: &Shape) -> Arc<Blob> {
        let mut open = self.opened();
        open.retain(|_, blob| blob.strong_count() > 0);
        if let Some(blob) = open.get(&shape.id).and_then(Weak::upgrade) {
            if blob.shape() == shape {
                return blob;
            }
            tracing::warn!(blob = %shape.id, "images disagree about a blob; not cached for the later one");
            return Arc::new(Blob::uncached(shape, Arc::clone(&self.account)));
        }
        let blob = Arc::new(Blob::open(
            &self.dir_of(shape.id),
            shape,
            Arc::clone(&self.account),
        ));
        open.insert(shape.id, Arc::downgrade(&blob));
        blob
    }

    /// Counts what the cache holds and, where that is too much, gives back what was used longest ago: blobs that nobody
    /// has open, then extents of others, those in `running` last. Returns how many bytes went.
    ///
    /// # Errors
    /// The disk could not be asked.
    pub(crate) fn trim(&self, running: &HashSet<BlobId>, now: u32) -> io::Result<u64> {
        let mut need = self.measure()?;
        if need == 0 {
            return Ok(0);
        }
        let before = self.account.status().bytes_used;
        for id in self.oldest_first()? {
            if need == 0 {
                break;
            }
            let mut open = self.opened();
            if open.get(&id).is_none_or(|blob| blob.strong_count() == 0) {
                self.discard(id, &mut open)?;
                drop(open);
                need = self.measure()?;
            }
        }
        if need > 0 {
            self.evict(need, running, now);
            self.measure()?;
        }
        Ok(before.saturating_sub(self.account.status().bytes_used))
    }

    fn evict(&self, need: u64, running: &HashSet<BlobId>, now: u32) {
        let blobs: Vec<_> = self.opened().values().filter_map(Weak::upgrade).collect();
        let candidates = blobs.iter().enumerate().flat_map(|(number, blob)| {
            let is_running = running.contains(&blob.shape().id);
            let extents = blob.extents().into_iter();
            extents.map(move |extent| Candidate {
                blob: number,
                extent,
                is_running,
            })
        });
        let mut left = candidates.collect::<Vec<_>>();
        let mut freed = 0_u64;
        // What is chosen of a blob that somebody else reads does not go: others have to.
        while freed < need && !left.is_empty() {
            let chosen = evict::choose(left.clone(), need - freed, now);
            if chosen.is_empty() {
                break;
            }
            left.retain(|candidate| !chosen.contains(candidate));
            for (number, blob) in blobs.iter().enumerate() {
                let of_blob = chosen.iter().filter(|candidate| candidate.blob == number);
                let mut extents: Vec<_> = of_blob.map(|candidate| candidate.extent).collect();
                extents.sort_unstable_by_key(|extent| extent.number);
                if !extents.is_empty() {
                    freed = freed.saturating_add(blob.evict(&extents));
                }
            }
        }
        tracing::debug!(need, freed, "evicted from the cache");
    }

    /// Asks the disk, and tells how many bytes should go.
    fn measure(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.account.dir)?;
        Ok(self.account.measured(account::Measure {
            used: disk_len(&self.account.dir),
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        }))
    }

    /// All blobs, longest unused first.
    fn oldest_first(&self) -> io::Result<Vec<BlobId>> {
        let modified = |id: &BlobId| {
            let data = std::fs::symlink_metadata(self.dir_of(*id).join("data"));
            data.map_or(0, |data| data.mtime())
        };
        let mut ids = self.ids()?;
        ids.sort_by_cached_key(modified);
        Ok(ids)
    }

    /// Deletes the files of all blobs but those in `keep`, and returns how many blobs that were. Who has one open
    /// reads on, and fetches what it reads. A blob that is opened again starts anew.
    ///
    /// Goes on after a blob that cannot be deleted.
    ///
    /// # Errors
    /// The folder cannot be listed; else the first blob that could not be deleted.
    pub(crate) fn retain(&self, keep: &HashSet<BlobId>) -> io::Result<usize> {
        let mut count = 0;
        let mut failure = None;
        for id in self.ids()?.into_iter().filter(|id| !keep.contains(id)) {
            match self.discard(id, &mut self.opened()) {
                Ok(()) => count += 1,
                Err(error) => {
                    tracing::warn!(blob = %id, %error, "cannot delete a blob that is no longer needed");
                    failure.get_or_insert(error);
                }
            }
        }
        if let Err(error) = self.measure() {
            tracing::debug!(%error, "what the cache holds could not be counted");
        }
        failure.map_or(Ok(count), Err)
    }

    /// Deletes the files of a blob. The lock is held meanwhile, so that nobody opens them in the middle of it.
    fn discard(&self, id: BlobId, open: &mut HashMap<BlobId, Weak<Blob>>) -> io::Result<()> {
        if let Some(blob) = open.remove(&id).and_then(|blob| blob.upgrade()) {
            blob.abandon();
        }
        match std::fs::remove_dir_all(self.dir_of(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The blobs that have a folder. What is no blob's folder is none of ours and left out.
    fn ids(&self) -> io::Result<Vec<BlobId>> {
        let mut ids = Vec::new();
        for shelf in std::fs::read_dir(&self.root)? {
            let shelf = shelf?;
            if !shelf.file_type()?.is_dir() {
                continue;
            }
            for blob in std::fs::read_dir(shelf.path())? {
                ids.extend(blob?.file_name().to_str().and_then(BlobId::parse));
            }
        }
        Ok(ids)
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<BlobId, Weak<Blob>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir_of(&self, id: BlobId) -> PathBuf {
        let id = id.to_string();
        self.root.join(&id[..2]).join(&id)
    }
}

/// Makes a folder that only its owner can read: it holds the files of private images.
fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Bytes that a file takes on the disk, or a folder with all in it, as `du` counts. What vanishes meanwhile, or cannot
/// be looked at, takes nothing.
fn disk_len(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let inside = match metadata.is_dir() {
        true => std::fs::read_dir(path).into_iter().flatten().flatten(),
        false => return metadata.blocks() * STAT_BLOCK_LEN,
    };
    inside.fold(metadata.blocks() * STAT_BLOCK_LEN, |sum, entry| {
        sum.saturating_add(disk_len(&entry.path()))
    })
}

#[cfg(test)]
mod tests;
