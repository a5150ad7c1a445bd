//! For tests: an image in an engine, and nothing that is mounted.

use std::sync::Arc;
use std::time::Duration;

use rafs::image::Extent;
use rafs::{BlobIndex, Tree};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{Engine, Run};
use crate::cache::Cache;
use crate::fixture::{Builder, CHUNK_LEN, FakeSource, Fixture, mode, noise};
use crate::image::Served;

pub(super) const LEN: usize = 12 << 20;

/// An image of more than one range, and nothing that is mounted.
pub(super) struct Scene {
    _fixture: Fixture,
    pub(super) source: Arc<FakeSource>,
    pub(super) served: Served,
    engine: Arc<Engine>,
    pub(super) dir: TempDir,
}

pub(super) fn scene() -> Scene {
    let mut builder = Builder::new();
    builder.file(Tree::ROOT, "big", mode(0o644), &noise(LEN, 1));
    let fixture = builder.finish();
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), crate::CacheLimits::default()).unwrap();
    let engine = Engine::new(Handle::current(), Duration::from_secs(6));
    let source = fixture.source();
    let served = Served::open(fixture.spec(1, &source), &cache, &engine).unwrap();
    Scene {
        _fixture: fixture,
        source,
        served,
        engine,
        dir,
    }
}

impl Scene {
    pub(super) fn is_complete(&self) -> bool {
        let status = self.served.status();
        status.bytes_local == status.bytes_needed
    }

    pub(super) async fn completion(&self) {
        while !self.is_complete() {
            tokio::task::yield_now().await;
        }
    }

    /// Reads of the file as a reader does that is answered from the cache where possible.
    pub(super) async fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let chunks = offset / CHUNK_LEN..(offset + len).div_ceil(CHUNK_LEN);
        let runs: Vec<_> = chunks
            .map(|index| {
                let chunk = self.served.image.chunk(BlobIndex(0), index as u32).unwrap();
                let start = index * CHUNK_LEN;
                let skip = offset.saturating_sub(start);
                let end = (offset + len - start).min(CHUNK_LEN);
                Run::Chunk(Extent {
                    chunk,
                    skip: skip as u32,
                    len: (end - skip) as u32,
                })
            })
            .collect();
        let mut bytes = vec![0; len];
        if self.served.supply.read_ready(&runs, &mut bytes) {
            return bytes;
        }
        self.served.supply.read(runs).await.unwrap()
    }

    pub(super) async fn end(self) {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
    }
}
