//! What a server is told, and what it tells.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::DataPath;
use crate::cache::CacheLimits;
use crate::source::BlobSource;

/// Number of an image on this node: stable across restarts, never reused, 1..2^23 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub u32);

/// First number that is none of an image's: image and inode share 64 bits, and the upper half is the kernel's own.
/// It is that of the probe.
pub(super) const IMAGE_ID_END: u32 = (1 << 23) - 1;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where the session is mounted.
    pub mountpoint: PathBuf,
    /// Folder of the chunk cache.
    pub cache_dir: PathBuf,
    /// How much the cache may hold.
    pub cache_limits: CacheLimits,
    /// Folder for the kernel's EROFS mounts, one for each image. It is made when it is missing. On it and its parents
    /// only root should pass.
    pub erofs_dir: PathBuf,
    /// Which way images are to reach the kernel.
    pub data_path: DataPath,
    /// FUSE threads.
    pub threads: usize,
    /// How long a program's read may wait for its bytes before it fails with EIO. A single request of the kernel waits
    /// half as long.
    pub read_deadline: Duration,
}

/// An image to serve.
pub struct ImageSpec {
    /// Its number.
    pub id: ImageId,
    /// The bootstrap file; it is mapped, so it must stay as it is while the image is served.
    pub bootstrap: PathBuf,
    /// Where its blobs come from.
    pub source: Arc<dyn BlobSource>,
}

/// What an image has cost and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageStatus {
    /// Uncompressed bytes of all its blobs.
    pub bytes_total: u64,
    /// Of these, bytes of the chunks that the image lists: what must be in the cache to read all of it.
    pub bytes_needed: u64,
    /// Bytes in the cache, those of other images that share the blobs included.
    pub bytes_local: u64,
    /// Bytes that its blobs take on the disk, those left out that an image with a lower number uses too: so the sum
    /// over all images is what the cache takes.
    pub bytes_disk: u64,
    /// Stored (compressed) bytes fetched for it since the server started.
    pub bytes_fetched: u64,
    /// Of these, bytes that a reader waited for or was about to.
    pub bytes_demand: u64,
    /// Of these, bytes that somebody said would be wanted.
    pub bytes_hint: u64,
    /// Of these, bytes that nobody had asked for yet.
    pub bytes_fill: u64,
    /// Uncompressed bytes that an earlier process left and that were hashed before they were used.
    pub bytes_checked: u64,
    /// Requests to its source.
    pub requests: u64,
    /// Time that reads waited for what was not in the cache, all of them together.
    pub blocked: Duration,
    /// Reads that ended in an error.
    pub read_errors: u64,
    /// Chunks that were not kept, for all images that share the blobs: the disk refused, or there was no room. They
    /// were served all the same.
    pub cache_errors: u64,
}
