//! The FUSE session of a node and the images in it.

mod cache;
mod error;
mod spec;
mod tier;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::cache::Cache;
use crate::fetch::{Engine, Filler};
use crate::image::Served;
use crate::mount::Trust;
use crate::session::{self, Mounted};
use crate::tree::{BLOBS_NAME, IMAGES_NAME, Top, Tree};

pub use cache::CacheMeter;
pub use error::Error;
use spec::IMAGE_ID_END;
pub use spec::{ImageId, ImageSpec, ImageStatus, ServerConfig};
use tier::Tiers;
pub use tier::{DataPath, Tier, TierChoice};

/// Requests that a program's read may wait for one after the other: when read-ahead fails, the kernel asks once more for
/// the page itself before the program sees the error.
const KERNEL_TRIES: u32 = 2;

/// The FUSE session of a node: `images/<id>/...` and `blobs/<id>/...` under one mount, and the kernel's EROFS mounts
/// that stand on it. Dropping it unmounts.
pub struct Server {
    mountpoint: PathBuf,
    top: Top,
    tree: Arc<Tree>,
    engine: Arc<Engine>,
    cache: Cache,
    tiers: Tiers,
    /// Held shared while an image opens its blobs, and alone while blobs are deleted.
    opening: RwLock<()>,
    mounted: Option<Mounted>,
}

impl Server {
    /// Mounts a session that shows `images/` and `blobs/`, and tries out the kernel's EROFS. Fetches run on `runtime`,
    /// which needs its timer, must run on a thread other than the caller's and must outlive the server. Only root
    /// may; the mount honours set-user-id and device files, so its place should be root's only.
    ///
    /// # Errors
    /// The cache is in use by another process or cannot be made, the mount is refused, or the kernel's EROFS does
    /// not work and nothing else is allowed.
    pub fn mount_node(config: &ServerConfig, runtime: tokio::runtime::Handle) -> Result<Self, Error> {
        let mut server = Self::mount(config, runtime, Top::Node, None)?;
        server.probe(config)?;
        Ok(server)
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
        let cache = Cache::open(&config.cache_dir, config.cache_limits).map_err(|source| Error::Io {
            what: format!("cache {}", config.cache_dir.display()),
            source,
        })?;
        let mut server = Server {
            mountpoint: config.mountpoint.clone(),
            top,
            tree: Arc::new(Tree::new(top)),
            engine: Engine::new(runtime, config.read_deadline / KERNEL_TRIES),
            cache,
            tiers: Tiers::fuse_only("one image alone is shown by FUSE"),
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
        let id = image.id;
        let bootstrap = image.bootstrap.clone();
        let is_new = !self.tree.images.relist(id.0);
        if is_new {
            let _opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
            let served = Served::open(image, &self.cache, &self.engine)?;
            self.tree.images.add(served);
        }
        let Some(served) = self.tree.images.listed(id.0) else {
            // Removed again meanwhile.
            return Ok(());
        };
        let shown = self.tiers.show(&served, &bootstrap, &self.blobs_dir(id));
        if shown.is_err() && is_new {
            self.hide(id);
        }
        shown
    }

    /// Stops to serve an image. Open files read on until closed, and so do containers that stand on its mount. What
    /// the cache has of it stays until [`Server::reclaim`].
    pub fn remove(&self, id: ImageId) {
        self.tiers.hide(id);
        self.hide(id);
    }

    fn hide(&self, id: ImageId) {
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

    fn blobs_dir(&self, id: ImageId) -> PathBuf {
        self.mountpoint.join(BLOBS_NAME).join(id.0.to_string())
    }

    /// Finds out how images can reach the kernel, by mounting one.
    fn probe(&mut self, config: &ServerConfig) -> Result<(), Error> {
        self.tiers = Tiers::clean(config)?;
        let server = &*self;
        server.tiers.probe(config, |image| {
            let (id, bootstrap) = (image.id, image.bootstrap.clone());
            let served =
                Served::open(image, &server.cache, &server.engine).map_err(|error| error.to_string())?;
            let served = Arc::new(served);
            server.tree.images.add(served.clone());
            let shown = server.tiers.try_show(&served, &bootstrap, &server.blobs_dir(id));
            let read = shown.and_then(|()| tier::read_probe(&server.tiers.target(id)));
            server.remove(id);
            read
        })
    }

    /// The folder that shows an image.
    pub fn path(&self, id: ImageId) -> PathBuf {
        match self.top {
            Top::Node if self.tiers.choice_of(id).tier == Tier::Erofs => self.tiers.target(id),
            Top::Node => self.mountpoint.join(IMAGES_NAME).join(id.0.to_string()),
            Top::Image(_) => self.mountpoint.clone(),
        }
    }

    /// Numbers of an image, if it is served.
    pub fn status(&self, id: ImageId) -> Option<ImageStatus> {
        let served = self.tree.images.listed(id.0)?;
        Some(ImageStatus {
            bytes_disk: self.disk_len(&served),
            ..served.status()
        })
    }

    /// Which way images reach the kernel where nothing speaks against it, and why this one.
    pub fn data_path(&self) -> TierChoice {
        self.tiers.choice()
    }

    /// Which way an image reaches the kernel, and why this one.
    pub fn data_path_of(&self, id: ImageId) -> TierChoice {
        self.tiers.choice_of(id)
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
        self.tiers.hide_all();
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
