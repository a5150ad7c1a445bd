//! What a server does about its cache: deleting what no image needs, giving back what is used least.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::{Error, ImageId, Server};
use crate::cache::account::{self, CacheStatus};
use crate::cache::{Account, BlobId};
use crate::image::{self, Served};

/// Tells how much the cache holds, beyond the server's life.
#[derive(Clone)]
pub struct CacheMeter(Arc<Account>);

impl CacheMeter {
    /// The numbers, as of the last count.
    pub fn status(&self) -> CacheStatus {
        self.0.status()
    }

    /// Waits until the cache comes near its limits, or could not keep something. It is time for [`Server::trim`] then.
    pub async fn pressed(&self) {
        self.0.pressed().await;
    }
}

impl Server {
    /// Deletes the cached blobs that no image needs, and returns how many those were. Needed is what a served image
    /// uses, and what one of the bootstraps in `keep` names: those of images that are to be served later. Open files
    /// of removed images read on; the disk space is free when they are closed.
    ///
    /// A bootstrap that is gone or damaged needs nothing, since it can never be served. An image that is added later,
    /// without being in `keep`, fetches its data again.
    ///
    /// # Errors
    /// A bootstrap cannot be read for another reason: then nothing is deleted. Else the cache's folder refused; what
    /// could be deleted is.
    pub fn reclaim(&self, keep: &[PathBuf]) -> Result<usize, Error> {
        let mut needed = HashSet::new();
        for bootstrap in keep {
            match image::blob_ids(bootstrap) {
                Ok(ids) => needed.extend(ids),
                Err(error) if error.is_for_ever() => {
                    tracing::warn!(%error, "nothing is kept for an image that cannot be served");
                }
                Err(error) => return Err(error),
            }
        }
        // From here on no image is half-way open: what is needed is needed by a listed one.
        let _alone = self.opening.write().unwrap_or_else(PoisonError::into_inner);
        for served in self.tree.images.all() {
            needed.extend(served.supply.blobs().map(|blob| blob.shape().id));
        }
        self.cache.retain(&needed).map_err(|source| Error::Io {
            what: "delete unneeded blobs".to_owned(),
            source,
        })
    }

    /// Counts what the cache holds and, where that is more than its limits allow, gives back what was used longest ago,
    /// that of the images in `running` last. Readers are not held up: what went is fetched again when it is asked for.
    /// What the kernel itself has open stays. Returns how many bytes went.
    ///
    /// To be called when images that are known are served: blobs that nobody serves are the first to go.
    ///
    /// # Errors
    /// The disk could not be asked.
    pub fn trim(&self, running: &[ImageId]) -> Result<u64, Error> {
        self.trim_at(running, account::now())
    }

    /// As [`Server::trim`], at a time in seconds.
    pub(super) fn trim_at(&self, running: &[ImageId], now: u32) -> Result<u64, Error> {
        let served = running.iter().filter_map(|id| self.tree.images.listed(id.0));
        let running: HashSet<BlobId> = served.flat_map(|served| blobs_of(&served)).collect();
        // As while blobs are deleted: one that is just being opened is nobody's yet.
        let _alone = self.opening.write().unwrap_or_else(PoisonError::into_inner);
        let trimmed = self.cache.trim(&running, now);
        trimmed.map_err(|source| Error::Io {
            what: "trim the cache".to_owned(),
            source,
        })
    }

    /// Tells how much the cache holds.
    pub fn cache_meter(&self) -> CacheMeter {
        CacheMeter(Arc::clone(self.cache.account()))
    }

    /// Bytes on the disk of an image's blobs that no image with a lower number has.
    pub(super) fn disk_len(&self, served: &Served) -> u64 {
        let lower = self.tree.images.all().into_iter();
        let lower = lower.take_while(|other| other.id.0 < served.id.0);
        let mut counted: HashSet<BlobId> = lower.flat_map(|other| blobs_of(&other)).collect();
        let own = served.supply.blobs();
        let own = own.filter(|blob| counted.insert(blob.shape().id));
        own.map(|blob| blob.disk_len()).sum()
    }
}

fn blobs_of(served: &Served) -> Vec<BlobId> {
    served.supply.blobs().map(|blob| blob.shape().id).collect()
}
