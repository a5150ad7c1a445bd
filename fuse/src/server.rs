//! The FUSE session of a node and the images in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Blob, Cache};
use crate::fetch::Engine;
use crate::image::Served;
use crate::mount::Trust;
use crate::session::{self, Mounted};
use crate::source::BlobSource;
use crate::tree::{IMAGES_NAME, Top, Tree};

/// Number of an image on this node: stable across restarts, never reused, 1..2^23.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub u32);

/// First number that is none of an image's: image and inode share 64 bits, and the upper half is the kernel's own.
const IMAGE_ID_END: u32 = 1 << 23;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where the session is mounted.
    pub mountpoint: PathBuf,
    /// Folder of the chunk cache.
    pub cache_dir: PathBuf,
    /// FUSE threads.
    pub threads: usize,
    /// How long a read may wait for its bytes before it fails with EIO.
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
    /// Of these, bytes in the cache.
    pub bytes_local: u64,
    /// Stored (compressed) bytes fetched for it since the server started.
    pub bytes_fetched: u64,
    /// Requests to its source.
    pub requests: u64,
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
        source: std::io::Error,
    },
}

/// The FUSE session of a node: `images/<id>/...` under one mount. Dropping it unmounts.
pub struct Server {
    mountpoint: PathBuf,
    top: Top,
    tree: Arc<Tree>,
    engine: Arc<Engine>,
    cache: Cache,
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
            engine: Engine::new(runtime, config.read_deadline),
            cache,
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
        self.tree
            .images
            .add(Served::open(image, &self.cache, &self.engine)?);
        Ok(())
    }

    /// Stops to serve an image, and deletes what the cache has of it alone. Open files read on until closed; then the
    /// disk space is free.
    pub fn remove(&self, id: ImageId) {
        let removed = self.tree.images.listed(id.0);
        if self.tree.images.remove(id.0)
            && let Some(mounted) = &self.mounted
        {
            mounted.forget_image(&id.0.to_string());
        }
        if let Some(removed) = removed {
            self.discard_blobs(&removed);
        }
    }

    /// Deletes the cached blobs of an image that no listed image shares. One that is just being added may share them
    /// too: it then fills files that have no name any more, and whoever comes later makes new ones.
    fn discard_blobs(&self, removed: &Served) {
        let others = self.tree.images.all();
        let is_shared = |blob: &Arc<Blob>| {
            let mut theirs = others.iter().flat_map(|other| other.supply.blobs());
            theirs.any(|their| Arc::ptr_eq(their, blob))
        };
        let blobs = removed.supply.blobs();
        blobs
            .filter(|blob| !is_shared(blob))
            .for_each(|blob| self.cache.discard(blob));
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
