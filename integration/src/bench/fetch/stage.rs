//! One image of one large file, mounted by this process, at the other end of a line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use fuse::{DataPath, Filler, ImageId, ImageSpec, ImageStatus, Server, ServerConfig};
use rafs::blob::{BlobBuilder, BlobOptions};
use rafs::build::{Options, bootstrap};
use rafs::tree::{Attr, ChunkId, Content, Node};
use rafs::{BlobIndex, Compressor, Digester, Tree};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::line::Line;

/// Name of the file.
pub const FILE_NAME: &str = "weights";

/// The converter's default.
const CHUNK_LEN: usize = 1 << 20;

const ID: ImageId = ImageId(1);
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// An image and its blob.
pub struct Sample {
    bootstrap: Vec<u8>,
    /// The blob.
    pub blob: Bytes,
}

impl Sample {
    /// A file of so many bytes that do not shrink, the same on every run.
    pub fn make(len: usize) -> Result<Self> {
        let mut builder = BlobBuilder::new(BlobOptions {
            chunk_size: CHUNK_LEN as u32,
            compressor: Compressor::Zstd,
            digester: Digester::Sha256,
        });
        let mut data = Vec::with_capacity(len);
        let mut chunks = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        while data.len() < len {
            let mut content = Vec::with_capacity(CHUNK_LEN);
            while content.len() < CHUNK_LEN.min(len - data.len()) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                content.extend_from_slice(&state.to_le_bytes());
            }
            let chunk = rafs::chunk::encode(content, Compressor::None, 0, Digester::Sha256);
            data.extend_from_slice(&chunk.data);
            chunks.push(ChunkId {
                blob: BlobIndex(0),
                index: builder.push(&chunk)?,
            });
        }
        let mut tree = Tree::new(attr(0o755));
        let size = len as u64;
        let file = tree.add(Node {
            attr: attr(0o644),
            content: Content::Regular { size, chunks },
        });
        let names = tree.names_mut(Tree::ROOT).context("the root is a folder")?;
        names.insert(FILE_NAME.into(), file);
        let mut hash = Sha256::new();
        hash.update(&data);
        let blob = builder.finish(hash).context("the file is not empty")?;
        data.extend_from_slice(&blob.tail);
        let options = Options {
            chunk_size: CHUNK_LEN as u32,
            compressor: Compressor::Zstd,
            digester: Digester::Sha256,
            prefetch: vec![],
        };
        Ok(Sample {
            bootstrap: bootstrap(&tree, &[blob.info], &options)?,
            blob: data.into(),
        })
    }
}

fn attr(permissions: u16) -> Attr {
    Attr {
        permissions,
        ..Attr::default()
    }
}

/// The mounted image, with an empty cache. Dropping it unmounts.
pub struct Stage {
    server: Option<Server>,
    runtime: Runtime,
    dir: TempDir,
}

impl Stage {
    /// Mounts.
    pub fn start(sample: &Sample, line: Arc<Line>) -> Result<Self> {
        let dir = tempfile::tempdir().context("create a folder")?;
        let path = dir.path().join("bootstrap");
        std::fs::write(&path, &sample.bootstrap).context("write the bootstrap")?;
        let mountpoint = dir.path().join("mnt");
        std::fs::create_dir(&mountpoint).context("create the mount point")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.context("start a runtime")?;
        let config = ServerConfig {
            mountpoint,
            cache_dir: dir.path().join("cache"),
            cache_limits: fuse::CacheLimits::default(),
            erofs_dir: dir.path().join("erofs"),
            data_path: DataPath::Fuse,
            threads: 4,
            read_deadline: READ_DEADLINE,
        };
        let spec = ImageSpec {
            id: ID,
            bootstrap: path,
            source: line,
        };
        let server =
            Server::mount_image(&config, runtime.handle().clone(), spec).context("serve an image")?;
        Ok(Stage {
            server: Some(server),
            runtime,
            dir,
        })
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it is only taken to drop it")
    }

    /// Begins to fill.
    pub fn fill(&self) {
        // The filling is timed on the runtime's clock.
        let _inside = self.runtime.enter();
        self.server()
            .fill(ID, &Filler::new(None, 0, self.dir.path().join("cache")));
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.server().path(ID).join(FILE_NAME)
    }

    /// The image's numbers.
    pub fn status(&self) -> ImageStatus {
        self.server().status(ID).unwrap_or_default()
    }

    /// Whether all is in the cache.
    pub fn is_complete(&self) -> bool {
        let status = self.status();
        status.bytes_local >= status.bytes_needed
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Before the runtime goes.
        self.server.take();
    }
}
