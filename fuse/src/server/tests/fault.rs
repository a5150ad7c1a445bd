//! Sources that misbehave, as only a test in this crate can see it. What readers see of failing sources is played from
//! `doc/SEMANTICS.md` by the integration tests.

use std::os::unix::fs::FileExt;
use std::sync::Barrier;

use rafs::Tree;

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, FakeSource, Fault, Fixture, mode, noise};

/// Long enough that several requests are needed for all of it.
const BIG_LEN: usize = 3 << 20;

fn fixture() -> (Fixture, Vec<u8>) {
    let mut builder = Builder::new();
    let content = noise(BIG_LEN, 1);
    builder.file(Tree::ROOT, "big", mode(0o644), &content);
    (builder.finish(), content)
}

struct Setup {
    node: Node,
    source: Arc<FakeSource>,
    file: PathBuf,
    content: Vec<u8>,
    fixture: Fixture,
}

fn setup() -> Setup {
    let (fixture, content) = fixture();
    let node = Node::new();
    let source = fixture.source();
    let file = node.add(fixture.spec(1, &source)).join("big");
    Setup {
        node,
        source,
        file,
        content,
        fixture,
    }
}

#[test]
fn chunks_before_a_fault_are_served() {
    let setup = setup();
    setup.source.set(Fault::Stall(500_000));
    let file = std::fs::File::open(&setup.file).unwrap();
    let mut bytes = vec![0; CHUNK_LEN];
    // Random advice: the kernel asks for what is read and no more.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    file.read_exact_at(&mut bytes, 10 * CHUNK_LEN as u64).unwrap();
    assert_eq!(bytes, setup.content[10 * CHUNK_LEN..][..CHUNK_LEN]);
    assert_eq!(setup.source.reads().len(), 1);
}

#[test]
fn parallel_readers_fetch_every_chunk_once() {
    let setup = setup();
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for reader in 0..16 {
            let (setup, barrier) = (&setup, &barrier);
            scope.spawn(move || {
                let file = std::fs::File::open(&setup.file).unwrap();
                barrier.wait();
                for step in 0..64 {
                    let offset = (step * 37 + reader * 11) % 64 * (BIG_LEN / 64);
                    let mut bytes = vec![0; BIG_LEN / 64];
                    file.read_exact_at(&mut bytes, offset as u64).unwrap();
                    assert_eq!(bytes, setup.content[offset..][..bytes.len()]);
                }
            });
        }
    });
    let reads = setup.source.reads();
    // Chunks come once; what a request skips between two of its chunks may come again.
    let total: u64 = reads.iter().map(|range| range.end - range.start).sum();
    let skipped_max = reads.len() as u64 * (64 << 10);
    assert!(
        total <= setup.fixture.blob.len() as u64 + skipped_max,
        "{reads:?}"
    );
    let mut starts: Vec<_> = reads.iter().map(|range| range.start).collect();
    starts.sort_unstable();
    assert!(
        starts.windows(2).all(|pair| pair[0] < pair[1]),
        "a chunk came twice: {reads:?}"
    );
    let status = setup.node.status(ImageId(1)).unwrap();
    assert_eq!(status.bytes_local, status.bytes_total);
    assert_eq!(status.requests, reads.len() as u64);
    assert_eq!(status.bytes_fetched, total);
}

#[test]
fn an_image_with_a_dead_source_does_not_hold_up_another_of_the_same_blob() {
    let setup = setup();
    setup.source.set(Fault::Hang);
    let healthy = setup.fixture.source();
    let other = setup.node.add(setup.fixture.spec(2, &healthy)).join("big");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| std::fs::read(&setup.file));
        eventually(|| !setup.source.reads().is_empty());
        assert_eq!(std::fs::read(&other).unwrap(), setup.content);
        // The first one finds in the cache what the second fetched.
        assert_eq!(waiting.join().unwrap().unwrap(), setup.content);
    });
}

#[test]
fn an_image_that_names_the_blob_of_another_spoils_nothing() {
    let image = |seed, name: Option<&str>| {
        let mut builder = Builder::new();
        let content = noise(20 * CHUNK_LEN, seed);
        builder.file(Tree::ROOT, "file", mode(0o644), &content);
        (builder.finish_as(name), content)
    };
    let honest = image(1, None);
    let hostile = image(2, Some(&honest.0.blob_id));
    for order in [[&honest, &hostile], [&hostile, &honest]] {
        let node = Node::new();
        let files: Vec<_> = (1..)
            .zip(order)
            .map(|(id, (fixture, _))| node.add(fixture.spec(id, &fixture.source())).join("file"))
            .collect();
        for _ in 0..2 {
            for (file, (_, content)) in files.iter().zip(order) {
                assert_eq!(&std::fs::read(file).unwrap(), content);
                drop_page_cache(file);
            }
        }
        let requests: Vec<_> = [1, 2].map(|id| node.status(ImageId(id)).unwrap().requests).into();
        assert_eq!(requests[0], 1, "the first has the cache");
        assert!(requests[1] >= 2, "the second is served without it");
    }
}

#[test]
fn ending_a_server_under_a_reader_that_waits_does_not_hang() {
    let setup = setup();
    setup.source.set(Fault::Hang);
    let Setup {
        node,
        source,
        file,
        fixture: _fixture,
        ..
    } = setup;
    let reader = std::thread::spawn(move || std::fs::read(file));
    eventually(|| !source.reads().is_empty());
    node.end();
    assert!(reader.join().unwrap().is_err());
}
