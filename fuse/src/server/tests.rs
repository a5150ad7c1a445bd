//! Servers mounted for real. These tests need root.

mod child;
mod erofs;
mod fault;
mod reclaim;
mod shared;
mod show;
mod takeover;

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::CacheLimits;

/// Short, so that tests of faults are; long enough for a loaded machine to answer from memory.
const DEADLINE: Duration = Duration::from_secs(6);

/// A server with all it stands on. Dropping unmounts it first.
struct Node {
    server: Option<Server>,
    _runtime: Runtime,
    mountpoint: TempDir,
    erofs_dir: TempDir,
    cache: Arc<TempDir>,
}

impl Node {
    fn new() -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// A server on a cache that an earlier one left.
    fn on(cache: Arc<TempDir>) -> Self {
        Self::on_path(cache, DataPath::Fuse)
    }

    /// A server on a cache that an earlier one left, which shows images one way only.
    fn on_path(cache: Arc<TempDir>, data_path: DataPath) -> Self {
        Self::mounted(cache, data_path, |config, runtime| {
            Server::mount_node(config, runtime).unwrap()
        })
    }

    /// A server that shows images by mounts of the kernel's EROFS.
    fn erofs() -> Self {
        Self::on_path(Arc::new(tempfile::tempdir().unwrap()), DataPath::Erofs)
    }

    fn of_image(image: ImageSpec) -> Self {
        let cache = Arc::new(tempfile::tempdir().unwrap());
        Self::mounted(cache, DataPath::Auto, |config, runtime| {
            Server::mount_image(config, runtime, image).unwrap()
        })
    }

    fn mounted(
        cache: Arc<TempDir>,
        data_path: DataPath,
        mount: impl FnOnce(&ServerConfig, tokio::runtime::Handle) -> Server,
    ) -> Self {
        let mountpoint = tempfile::tempdir().unwrap();
        let erofs_dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = ServerConfig {
            mountpoint: mountpoint.path().to_owned(),
            cache_dir: cache.path().to_owned(),
            cache_limits: CacheLimits::default(),
            erofs_dir: erofs_dir.path().to_owned(),
            data_path,
            threads: 2,
            read_deadline: DEADLINE,
        };
        let server = mount(&config, runtime.handle().clone());
        Node {
            server: Some(server),
            _runtime: runtime,
            mountpoint,
            erofs_dir,
            cache,
        }
    }

    /// Adds an image and gives its folder.
    fn add(&self, image: ImageSpec) -> PathBuf {
        let id = image.id;
        Server::add(self, image).unwrap();
        self.path(id)
    }

    /// Evicts whatever can be, and tells how many bytes went.
    fn evict_all(&self) -> u64 {
        let served = self.tree.images.all();
        let blobs = served.iter().flat_map(|served| served.supply.blobs());
        blobs.map(|blob| blob.evict(&blob.extents())).sum()
    }

    fn end(mut self) -> Arc<TempDir> {
        self.server.take().unwrap().unmount().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        for dir in [&self.mountpoint, &self.erofs_dir] {
            assert!(!mounts.contains(dir.path().to_str().unwrap()));
        }
        self.cache.clone()
    }
}

impl Deref for Node {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_ref().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Before the runtime and the folders go.
        self.server.take();
    }
}

/// Lets the kernel forget what it has read of files under `path`, so that the next read is a request again.
fn drop_page_cache(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// Waits for something that is bound to come. The bound only keeps a broken test from hanging.
fn eventually(mut is_so: impl FnMut() -> bool) {
    let bound = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < bound, "it never came");
        std::thread::yield_now();
    }
}
