//! The FUSE session of a node and the images in it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::cache::Cache;
use crate::fetch::{Engine, Filler};
use crate::image::{self, Served};
use crate::mount::Trust;
use crate::session::{self, Mounted};
use crate::source::BlobSource;
use crate::tree::{IMAGES_NAME, Top, Tree};

/// Number of an image on this node: stable across restarts, never reused, 1..2^23.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub u32);

/// First number that is none of an image's: image and inode share 64 bits, and the upper half is the kernel's own.
const IMAGE_ID_END: u32 = 1 << 23;

/// Requests that a program's read may wait for one after the other: when read-ahead fails, the kernel asks once more for
/// the page itself before the program sees the error.
const KERNEL_TRIES: u32 = 2;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where the session is mounted.
    pub mountpoint: PathBuf,
    /// Folder of the chunk cache.
    pub cache_dir: PathBuf,
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
    /// Stored (compressed) bytes fetched for it since the server started.
    pub bytes_fetched: u64,
    /// Of these, bytes that a reader waited for or was about to.
    pub bytes_demand: u64,
    /// Of these, bytes that somebody said would be wanted.
    pub bytes_hint: u64,
    /// Of these, bytes that nobody had asked for yet.
    pub bytes_fill: u64,
    /// Requests to its source.
    pub requests: u64,
    /// Time that reads waited for what was not in the cache, all of them together.
    pub blocked: Duration,
    /// Reads that ended in an error.
    pub read_errors: u64,
    /// Chunks the cache's disk refused, for all images that share the blobs. They were served all the same.
    pub cache_errors: u64,
}

/// Why the server cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bootstrap is bad.
    #[error("bootstrap {path}: {source}")]
    Bootstrap {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rafs::Error,
    },
    /// The image's number is outside its range.
    #[error("image number {0} is outside 1..{IMAGE_ID_END}")]
    ImageNumber(u32),
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether trying again cannot help.
    fn is_for_ever(&self) -> bool {
        match self {
            Error::Bootstrap { .. } | Error::ImageNumber(_) => true,
            Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// The FUSE session of a node: `images/<id>/...` under one mount. Dropping it unmounts.
pub struct Server {
    mountpoint: PathBuf,
    top: Top,
    tree: Arc<Tree>,
    engine: Arc<Engine>,
    cache: Cache,
    /// Held shared while an image opens its blobs, and alone while blobs are deleted.
    opening: RwLock<()>,
    mounted: Option<Mounted>,
}

impl Server {
    /// Mounts a session that shows `images/`. Fetches run on `runtime`, which needs its timer and must outlive the
    /// server. Only root may; the mount honours set-user-id and device files, so its place should be root's only.
    ///
    /// # Errors
    /// The cache is in use by another process or cannot be made, or the mount is refused.
    pub fn mount_node(config: &ServerConfig, runtime: tokio::runtime::Handle) -> Result<Self, Error> {
        Self::mount(config, runtime, Top::Node, None)
    }

    /// Mounts a session whose root is the root of one image. Without root, through `fusermount3`.
    ///
    /// # Errors
    /// As [`Server::mount_node`], or the bootstrap is bad.
    pub fn mount_image(
        config: &ServerConfig,
        runtime: tokio::runtime::Handle,
        image: ImageSpec,
    ) -> Result<Self, Error> {
        Self::mount(config, runtime, Top::Image(image.id), Some(image))
    }

    fn mount(
        config: &ServerConfig,
        runtime: tokio::runtime::Handle,
        top: Top,
        image: Option<ImageSpec>,
    ) -> Result<Self, Error> {
        let cache = Cache::open(&config.cache_dir).map_err(|source| Error::Io {
            what: format!("cache {}", config.cache_dir.display()),
            source,
        })?;
        let mut server = Server {
            mountpoint: config.mountpoint.clone(),
            top,
            tree: Arc::new(Tree::new(top)),
            engine: Engine::new(runtime, config.read_deadline / KERNEL_TRIES),
            cache,
            opening: RwLock::default(),
            mounted: None,
        };
        if let Some(image) = image {
            server.add(image)?;
        }
        let trust = match top {
            Top::Node => Trust::Container,
            Top::Image(_) => Trust::Visitor,
        };
        let (tree, engine) = (server.tree.clone(), server.engine.clone());
        let mounted = session::start(&config.mountpoint, trust, config.threads, tree, engine);
        server.mounted = Some(mounted.map_err(|source| Error::Io {
            what: format!("mount at {}", config.mountpoint.display()),
            source,
        })?);
        Ok(server)
    }

    /// Starts to serve an image; adding one that is served already is no error.
    ///
    /// # Errors
    /// The bootstrap cannot be read or is bad.
    pub fn add(&self, image: ImageSpec) -> Result<(), Error> {
        if !(1..IMAGE_ID_END).contains(&image.id.0) {
            return Err(Error::ImageNumber(image.id.0));
        }
        if self.tree.images.relist(image.id.0) {
            return Ok(());
        }
        let _opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
        let served = Served::open(image, &self.cache, &self.engine)?;
        self.tree.images.add(served);
        Ok(())
    }

    /// Stops to serve an image. Open files read on until closed. What the cache has of it stays until
    /// [`Server::reclaim`].
    pub fn remove(&self, id: ImageId) {
        if let Some(served) = self.tree.images.get(id.0) {
            served.supply.retire();
        }
        if self.tree.images.remove(id.0)
            && let Some(mounted) = &self.mounted
        {
            mounted.forget_image(&id.0.to_string());
        }
    }

    /// Begins to make an image complete in the background, if it is served. Goes on until all of it is in the cache or
    /// it is removed. To be called for each container that uses it.
    pub fn fill(&self, id: ImageId, filler: &Filler) {
        if let Some(served) = self.tree.images.listed(id.0) {
            served.supply.fill(filler);
        }
    }

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

    /// The folder that shows an image.
    pub fn path(&self, id: ImageId) -> PathBuf {
        match self.top {
            Top::Node => self.mountpoint.join(IMAGES_NAME).join(id.0.to_string()),
            Top::Image(_) => self.mountpoint.clone(),
        }
    }

    /// Numbers of an image, if it is served.
    pub fn status(&self, id: ImageId) -> Option<ImageStatus> {
        self.tree.images.listed(id.0).map(|served| served.status())
    }

    /// Where the session is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Unmounts, busy or not (open files give errors from then on), and ends the threads and tasks. Must not be called on the only thread of a runtime.
    ///
    /// # Errors
    /// The unmount is refused; tasks are ended all the same.
    pub fn unmount(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        let result = self.mounted.take().map_or(Ok(()), Mounted::end);
        self.engine.close();
        result.map_err(|source| Error::Io {
            what: format!("unmount of {}", self.mountpoint.display()),
            source,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "a server did not end cleanly");
        }
    }
}

#[cfg(test)]
mod tests;
