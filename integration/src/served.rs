//! An image served by this very process, from a folder of blobs.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use fuse::{BlobSource, DataPath, ImageId, ImageSpec, Server, ServerConfig};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proto::image::{ByteStream, Error};
use tokio::runtime::{Handle, Runtime};

/// Number of the only image.
const ID: ImageId = ImageId(1);
/// Long enough for a loaded machine to answer from its own disk.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// A mount. Dropping it unmounts.
pub struct ServedImage {
    server: Option<Server>,
    _runtime: Runtime,
}

/// Blobs in a folder, named by their ids.
struct Folder(PathBuf);

impl ServedImage {
    /// Mounts an image alone, over FUSE, with its mounts and its cache in `dir`.
    pub fn alone(bootstrap: &Path, blobs: &Path, dir: &Path) -> Result<Self> {
        Self::start(dir, DataPath::Fuse, |config, runtime| {
            let server = Server::mount_image(config, runtime, spec(bootstrap, blobs));
            server.context("serve an image")
        })
    }

    /// Mounts an image as one of a node, which reaches the kernel one way only.
    pub fn on_node(data_path: DataPath, bootstrap: &Path, blobs: &Path, dir: &Path) -> Result<Self> {
        Self::start(dir, data_path, |config, runtime| {
            let server = Server::mount_node(config, runtime).context("start a node's server")?;
            server.add(spec(bootstrap, blobs)).context("serve an image")?;
            Ok(server)
        })
    }

    fn start(
        dir: &Path,
        data_path: DataPath,
        mount: impl FnOnce(&ServerConfig, Handle) -> Result<Server>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start a runtime")?;
        let config = ServerConfig {
            mountpoint: dir.join("mnt"),
            cache_dir: dir.join("cache"),
            cache_limits: fuse::CacheLimits::default(),
            erofs_dir: dir.join("erofs"),
            data_path,
            threads: 2,
            read_deadline: READ_DEADLINE,
        };
        std::fs::create_dir_all(&config.mountpoint).context("create the mount point")?;
        let server = mount(&config, runtime.handle().clone())?;
        Ok(ServedImage {
            server: Some(server),
            _runtime: runtime,
        })
    }

    /// The image's root.
    pub fn point(&self) -> PathBuf {
        self.server
            .as_ref()
            .expect("it is only taken to drop it")
            .path(ID)
    }
}

fn spec(bootstrap: &Path, blobs: &Path) -> ImageSpec {
    ImageSpec {
        id: ID,
        bootstrap: bootstrap.to_owned(),
        source: Arc::new(Folder(blobs.to_owned())),
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
