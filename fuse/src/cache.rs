//! Chunks on disk, with what is known of them.
//!
//! ```text
//! <cache>/lock                              held while a process uses the folder
//! <cache>/v1/<first 2 hex digits>/<blob id>/data    sparse, a blob's uncompressed image
//!                                           state   what lies in it
//!                                           meta    chunk infos, for blobs with shared units
//! ```
//! Nothing here is ever synced: a chunk that an earlier process recorded is hashed once before it is believed, so
//! a torn write, a crash or a rotten block costs a fetch and never a wrong byte.
//!
//! The cache serves all images of a node. What one image wrote is shown to another only where both say the same
//! digest at the same place, so an image cannot speak for a blob it does not share.

pub(crate) mod blob;
pub(crate) mod meta;
mod state;
mod uncached;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rafs::Digester;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

pub(crate) use blob::{Blob, Standing};

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

/// The cache folder of a node.
pub(crate) struct Cache {
    root: PathBuf,
    open: Mutex<HashMap<BlobId, Weak<Blob>>>,
    _lock: File,
}

impl Cache {
    /// Opens the folder, making it when it is missing, and keeps other processes out of it.
    ///
    /// # Errors
    /// The folder cannot be made, or another process uses it (`WouldBlock`).
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
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
        Ok(Cache {
            root,
            open: Mutex::new(HashMap::new()),
            _lock: lock,
        })
    }

    /// Opens a blob, shared with all who have it open. Where the disk refuses, or where another image that is being
    /// served describes the blob otherwise, the answer is a blob that keeps nothing: reads go on, uncached.
    pub(crate) fn blob(&self, shape: &Shape) -> Arc<Blob> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, blob| blob.strong_count() > 0);
        if let Some(blob) = open.get(&shape.id).and_then(Weak::upgrade) {
            if blob.shape() == shape {
                return blob;
            }
            tracing::warn!(blob = %shape.id, "images disagree about a blob; not cached for the later one");
            return Arc::new(Blob::uncached(shape));
        }
        let blob = Blob::open(&self.dir_of(shape.id), shape).unwrap_or_else(|error| {
            tracing::warn!(blob = %shape.id, %error, "the cache cannot hold a blob; served without caching");
            Blob::uncached(shape)
        });
        let blob = Arc::new(blob);
        open.insert(shape.id, Arc::downgrade(&blob));
        blob
    }

    /// Deletes the files of all blobs but those in `keep`, and returns how many blobs that were. Who has one open
    /// reads on: the space is free when the last of them is done. A blob that is opened again starts anew.
    ///
    /// Goes on after a blob that cannot be deleted.
    ///
    /// # Errors
    /// The folder cannot be listed; else the first blob that could not be deleted.
    pub(crate) fn retain(&self, keep: &HashSet<BlobId>) -> io::Result<usize> {
        let mut count = 0;
        let mut failure = None;
        for id in self.ids()?.into_iter().filter(|id| !keep.contains(id)) {
            match self.discard(id) {
                Ok(()) => count += 1,
                Err(error) => {
                    tracing::warn!(blob = %id, %error, "cannot delete a blob that is no longer needed");
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(count), Err)
    }

    fn discard(&self, id: BlobId) -> io::Result<()> {
        // Held over the deletion, so that nobody opens the files in the middle of it.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&id);
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

    fn dir_of(&self, id: BlobId) -> PathBuf {
        let id = id.to_string();
        self.root.join(&id[..2]).join(&id)
    }
}

/// Makes a folder that only its owner can read: it holds the files of private images.
fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests;
