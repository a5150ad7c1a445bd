//! Images that become complete by themselves, without a mount.

use rafs::Tree;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::cache::Cache;
use crate::fetch::Engine;
use crate::fixture::{Builder, CHUNK_LEN, FakeSource, Fault, Fixture, mode, noise};
use crate::image::Served;

const LEN: usize = 6 << 20;

/// An image of more than one range, and nothing that is mounted.
struct Scene {
    _fixture: Fixture,
    source: Arc<FakeSource>,
    served: Served,
    engine: Arc<Engine>,
    dir: TempDir,
}

fn scene() -> Scene {
    let mut builder = Builder::new();
    builder.file(Tree::ROOT, "big", mode(0o644), &noise(LEN, 1));
    let fixture = builder.finish();
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
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
    fn filler(&self) -> Filler {
        Filler::new(None, 0, self.dir.path().to_owned())
    }

    fn is_complete(&self) -> bool {
        let status = self.served.status();
        status.bytes_local == status.bytes_needed
    }

    async fn completion(&self) {
        while !self.is_complete() {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
    }
}

#[tokio::test]
async fn an_image_becomes_complete_and_every_byte_comes_once() {
    let scene = scene();
    assert_eq!(scene.served.status().bytes_needed, LEN as u64);
    scene.served.supply.fill(&scene.filler());
    scene.completion().await;
    let mut reads = scene.source.reads();
    reads.sort_by_key(|range| range.start);
    assert!(
        reads.len() > 1 && reads.windows(2).all(|pair| pair[0].end <= pair[1].start),
        "{reads:?}"
    );
    assert!(
        reads
            .iter()
            .all(|range| range.end - range.start <= LIMITS.range_max)
    );
    let status = scene.served.status();
    assert_eq!(
        status.bytes_fetched,
        reads.iter().map(|range| range.end - range.start).sum::<u64>()
    );
    assert_eq!(
        (status.bytes_fill, status.bytes_demand),
        (status.bytes_fetched, 0)
    );
    scene.end().await;
}

#[tokio::test]
async fn a_source_that_fails_is_asked_again() {
    for fault in [Fault::Refuse, Fault::Short(1000), Fault::Flip(CHUNK_LEN)] {
        let scene = scene();
        scene.source.set(Fault::First(2, Box::new(fault)));
        scene.served.supply.fill(&scene.filler());
        scene.completion().await;
        scene.end().await;
    }
}

#[tokio::test]
async fn an_image_that_is_removed_is_filled_no_further_and_still_read() {
    let scene = scene();
    scene.source.set(Fault::Hang);
    scene.served.supply.fill(&scene.filler());
    while scene.source.reads().is_empty() {
        tokio::task::yield_now().await;
    }
    scene.served.supply.retire();
    scene.source.set(Fault::None);
    let asked = scene.source.reads().len();
    let extents: Vec<_> = (scene.served.image)
        .chunk(rafs::BlobIndex(0), 0)
        .map(|chunk| rafs::image::Extent {
            chunk,
            skip: 0,
            len: 100,
        })
        .into_iter()
        .collect();
    let bytes = scene.served.supply.read(extents).await.unwrap();
    assert_eq!(bytes, noise(LEN, 1)[..100]);
    // A reader's own request, once the one that hangs has been given up, and nothing of the filling.
    assert!(scene.source.reads().len() <= asked + 1);
    assert!(!scene.is_complete());
    assert!(scene.served.status().blocked > Duration::ZERO);
    scene.end().await;
}

#[tokio::test]
async fn a_new_container_begins_anew_after_a_removal() {
    let scene = scene();
    scene.source.set(Fault::Hang);
    scene.served.supply.fill(&scene.filler());
    scene.served.supply.retire();
    scene.source.set(Fault::None);
    scene.served.supply.fill(&scene.filler());
    scene.completion().await;
    scene.end().await;
}

#[tokio::test]
async fn a_disk_without_room_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let filler = |free_min| Filler::new(None, free_min, dir.path().to_owned());
    assert!(filler(0).has_room());
    assert!(!filler(u64::MAX).has_room());
}
