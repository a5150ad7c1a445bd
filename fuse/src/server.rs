//! The FUSE session of a node and the images in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::source::BlobSource;

/// Number of an image on this node: stable across restarts, never reused, 1..2^23.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub u32);

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
pub struct Server {}

impl Server {
    /// Mounts a session that shows `images/`. Fetches run on `runtime`.
    pub fn mount_node(_config: &ServerConfig, _runtime: tokio::runtime::Handle) -> Result<Self, Error> {
        todo!()
    }

    /// Mounts a session whose root is the root of one image.
    pub fn mount_image(
        _config: &ServerConfig,
        _runtime: tokio::runtime::Handle,
        _image: ImageSpec,
    ) -> Result<Self, Error> {
        todo!()
    }

    /// Starts to serve an image; adding one that is served already is no error.
    pub fn add(&self, _image: ImageSpec) -> Result<(), Error> {
        todo!()
    }

    /// Stops to serve an image. Open files read on until closed.
    pub fn remove(&self, _id: ImageId) {
        todo!()
    }

    /// The folder that shows an image.
    pub fn path(&self, _id: ImageId) -> PathBuf {
        todo!()
    }

    /// Numbers of an image, if it is served.
    pub fn status(&self, _id: ImageId) -> Option<ImageStatus> {
        todo!()
    }

    /// Where the session is mounted.
    pub fn mountpoint(&self) -> &Path {
        todo!()
    }

    /// Unmounts (lazily when busy) and ends the threads.
    pub fn unmount(self) -> Result<(), Error> {
        todo!()
    }
}
