//! The FUSE session of a node and the images in it.

mod cache;
mod error;
mod handover;
mod spec;
mod tier;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::cache::Cache;
use crate::fetch::{Engine, Filler};
use crate::image::Served;
use crate::mount::Trust;
use crate::session::{self, Mounted, Serving};
pub use crate::session::{Keep, ResumeError};
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
/// that stand on it. Dropping it unmounts, unless the connection is kept: then it waits for the next server.
pub struct Server {
    mountpoint: PathBuf,
    threads: usize,
    top: Top,
    tree: Arc<Tree>,
    engine: Arc<Engine>,
    cache: Cache,
    tiers: Tiers,
    /// Held shared while an image opens its blobs, and alone while blobs are deleted.
    opening: RwLock<()>,
    mounted: OnceLock<Mounted>,
}

impl Server {
    /// Makes a server that shows `images/` and `blobs/` once it is mounted or resumes; images may be announced before.
    /// Fetches run on `runtime`, which needs its timer, must run on a thread other than the caller's and must outlive
    /// the server.
    ///
    /// # Errors
    /// The cache is in use by another process or cannot be made.
    pub fn prepare(config: &ServerConfig, runtime: tokio::runtime::Handle) -> Result<Self, Error> {
        Self::new(config, runtime, Top::Node, Tiers::prepare(config)?)
    }

    /// Mounts a session that shows `images/` and `blobs/`, and tries out the kernel's EROFS: [`Server::prepare`] and a
    /// mount that ends with the process. Only root may; the mount honours set-user-id and device files, so its place
    /// should be root's only.
    ///
    /// # Errors
    /// As [`Server::prepare`], the mount is refused, or the kernel's EROFS does not work and nothing else is allowed.
    pub fn mount_node(config: &ServerConfig, runtime: tokio::runtime::Handle) -> Result<Self, Error> {
        let server = Self::prepare(config, runtime)?;
        server.tiers.detach_stale()?;
        server.begin(|serving| session::start(&server.mountpoint, Trust::Container, serving))?;
        server.probe()?;
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
        let tiers = Tiers::fuse_only("one image alone is shown by FUSE");
        let server = Self::new(config, runtime, Top::Image(image.id), tiers)?;
        server.add(image)?;
        server.begin(|serving| session::start(&server.mountpoint, Trust::Visitor, serving))?;
        Ok(server)
    }

    fn new(
        config: &ServerConfig,
        runtime: tokio::runtime::Handle,
        top: Top,
        tiers: Tiers,
    ) -> Result<Self, Error> {
        let cache = Cache::open(&config.cache_dir, config.cache_limits).map_err(|source| Error::Io {
            what: format!("cache {}", config.cache_dir.display()),
            source,
        })?;
        Ok(Server {
            mountpoint: config.mountpoint.clone(),
            threads: config.threads,
            top,
            tree: Arc::new(Tree::new(top)),
            engine: Engine::new(runtime, config.read_deadline / KERNEL_TRIES),
            cache,
            tiers,
            opening: RwLock::default(),
            mounted: OnceLock::new(),
        })
    }

    fn begin(&self, start: impl FnOnce(&Serving) -> io::Result<Mounted>) -> Result<(), Error> {
        let serving = Serving {
            tree: self.tree.clone(),
            engine: self.engine.clone(),
            threads: self.threads,
        };
        let mounted = start(&serving).map_err(|source| Error::Io {
            what: format!("mount at {}", self.mountpoint.display()),
            source,
        })?;
        // A server has one session in its life; dropping a second one's handle would leave its threads running.
        assert!(self.mounted.set(mounted).is_ok(), "a server is mounted once");
        Ok(())
    }

    /// Starts to serve an image; adding one that is served already is no error.
    ///
    /// # Errors
    /// The bootstrap cannot be read or is bad.
    pub fn add(&self, image: ImageSpec) -> Result<(), Error> {
        let id = image.id;
        let bootstrap = image.bootstrap.clone();
        let is_new = self.list(image)?;
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

    /// Lists an image. Returns whether it was unknown before.
    fn list(&self, image: ImageSpec) -> Result<bool, Error> {
        if !(1..IMAGE_ID_END).contains(&image.id.0) {
            return Err(Error::ImageNumber(image.id.0));
        }
        if self.tree.images.relist(image.id.0) {
            return Ok(false);
        }
        let _opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
        let served = Served::open(image, &self.cache, &self.engine)?;
        self.tree.images.add(served);
        Ok(true)
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
        if self.tree.images.remove(id.0) {
            self.forget_name(id);
        }
    }

    fn forget_name(&self, id: ImageId) {
        if let Some(mounted) = self.mounted.get() {
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
    fn probe(&self) -> Result<(), Error> {
        self.tiers.probe(|image| {
            // A server that died in the middle of it may have left this.
            self.remove(image.id);
            self.forget_name(image.id);
            let (id, bootstrap) = (image.id, image.bootstrap.clone());
            let served = Served::open(image, &self.cache, &self.engine).map_err(|error| error.to_string())?;
            let served = Arc::new(served);
            self.tree.images.add(served.clone());
            let shown = self.tiers.try_show(&served, &bootstrap, &self.blobs_dir(id));
            let read = shown.and_then(|()| tier::read_probe(&self.tiers.target(id)));
            self.remove(id);
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
        let is_kept = self.mounted.get().is_some_and(Mounted::is_kept);
        let ended = if is_kept {
            // Before the tasks end, whose unsent replies would be errors.
            let left = self.leave();
            self.engine.close();
            left
        } else {
            self.end()
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "a server did not end cleanly");
        }
    }
}

#[cfg(test)]
mod tests;
