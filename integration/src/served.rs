//! An image served by this very process, from a folder of blobs or any other source.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use fuse::{BlobSource, CacheLimits, DataPath, ImageId, ImageSpec, ImageStatus, Server, ServerConfig};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proto::image::{ByteStream, Error};
use tokio::runtime::{Handle, Runtime};

/// Number of the first image.
pub const ID: ImageId = ImageId(1);

/// On what terms images are served.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Which way they reach the kernel.
    pub data_path: DataPath,
    /// How much the cache may hold.
    pub limits: CacheLimits,
    /// How long reads wait. Unless set, long enough for a loaded machine to answer from its own disk.
    pub read_deadline: Duration,
    /// FUSE threads.
    pub threads: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            data_path: DataPath::Fuse,
            limits: CacheLimits::default(),
            read_deadline: Duration::from_secs(30),
            threads: 2,
        }
    }
}

/// A mount. Dropping it unmounts.
pub struct ServedImage {
    server: Option<Server>,
    runtime: Runtime,
}

/// Blobs in a folder, named by their ids.
struct Folder(PathBuf);

impl ServedImage {
    /// Mounts an image alone, over FUSE, with its mounts and its cache in `dir`.
    pub fn alone(bootstrap: &Path, blobs: &Path, dir: &Path) -> Result<Self> {
        let source = Arc::new(Folder(blobs.to_owned()));
        Self::alone_from(&Terms::default(), bootstrap, source, dir)
    }

    /// The same on other terms and from any source.
    pub fn alone_from(
        terms: &Terms,
        bootstrap: &Path,
        source: Arc<dyn BlobSource>,
        dir: &Path,
    ) -> Result<Self> {
        Self::start(terms, dir, |config, runtime| {
            let server = Server::mount_image(config, runtime, spec(ID, bootstrap, source));
            server.context("serve an image")
        })
    }

    /// Mounts an image as one of a node.
    pub fn on_node(terms: &Terms, bootstrap: &Path, blobs: &Path, dir: &Path) -> Result<Self> {
        let served = Self::node(terms, dir)?;
        served.add(ID, bootstrap, Arc::new(Folder(blobs.to_owned())))?;
        Ok(served)
    }

    /// Mounts a node without images, with its mounts and its cache in `dir`.
    pub fn node(terms: &Terms, dir: &Path) -> Result<Self> {
        Self::start(terms, dir, |config, runtime| {
            Server::mount_node(config, runtime).context("start a node's server")
        })
    }

    /// Adds an image.
    pub fn add(&self, id: ImageId, bootstrap: &Path, source: Arc<dyn BlobSource>) -> Result<()> {
        let added = self.server().add(spec(id, bootstrap, source));
        added.context("serve an image")
    }

    fn start(
        terms: &Terms,
        dir: &Path,
        mount: impl FnOnce(&ServerConfig, Handle) -> Result<Server>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start a runtime")?;
        let config = ServerConfig {
            mountpoint: dir.join("mnt"),
            cache_dir: cache_dir(dir),
            cache_limits: terms.limits,
            erofs_dir: dir.join("erofs"),
            data_path: terms.data_path,
            threads: terms.threads,
            read_deadline: terms.read_deadline,
        };
        std::fs::create_dir_all(&config.mountpoint).context("create the mount point")?;
        let server = mount(&config, runtime.handle().clone())?;
        Ok(ServedImage {
            server: Some(server),
            runtime,
        })
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it is only taken to drop it")
    }

    /// On which its fetches run.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The first image's root.
    pub fn point(&self) -> PathBuf {
        self.server().path(ID)
    }

    /// The first image's numbers.
    pub fn status(&self) -> ImageStatus {
        self.server().status(ID).unwrap_or_default()
    }
}

/// Where what is served in `dir` has its cache.
pub fn cache_dir(dir: &Path) -> PathBuf {
    dir.join("cache")
}

fn spec(id: ImageId, bootstrap: &Path, source: Arc<dyn BlobSource>) -> ImageSpec {
    ImageSpec {
        id,
        bootstrap: bootstrap.to_owned(),
        source,
    }
}

impl Drop for ServedImage {
    fn drop(&mut self) {
        // Before the runtime goes.
        self.server.take();
    }
}

impl BlobSource for Folder {
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let path = self.0.join(blob);
        async move {
            let read = || -> std::io::Result<Vec<u8>> {
                let len = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
                let mut bytes = vec![0; len];
                File::open(&path)?.read_exact_at(&mut bytes, range.start)?;
                Ok(bytes)
            };
            match read() {
                Ok(bytes) => Ok(stream::iter([Ok(Bytes::from(bytes))]).boxed()),
                Err(_) => Err(Error::NotFound {
                    what: format!("bytes {range:?}"),
                    place: path.display().to_string(),
                }),
            }
        }
        .boxed()
    }
}
