//! Sources that misbehave: what readers see of it, and that nothing of it stays.

use std::os::unix::fs::FileExt;
use std::sync::Barrier;

use rafs::Tree;

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, FakeSource, Fault, Fixture, mode, noise};

/// Long enough that several requests are needed for all of it.
const BIG_LEN: usize = 3 << 20;

const EIO: Option<i32> = Some(rustix::io::Errno::IO.raw_os_error());

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
fn a_source_that_fails_is_an_error_within_the_deadline_and_works_when_it_is_back() {
    let faults = [
        Fault::Hang,
        Fault::Stall(0),
        Fault::Stall(CHUNK_LEN / 2),
        Fault::Short(1 << 20),
        Fault::Refuse,
        Fault::Missing,
        Fault::Flip(64),
    ];
    let setups: Vec<_> = faults.into_iter().map(|fault| (setup(), fault)).collect();
    // They wait for their deadlines side by side.
    std::thread::scope(|scope| {
        for (setup, fault) in &setups {
            scope.spawn(move || {
                setup.source.set(fault.clone());
                let error = std::fs::read(&setup.file).unwrap_err();
                assert_eq!(error.raw_os_error(), EIO, "{fault:?}");
                assert!(setup.node.status(ImageId(1)).unwrap().read_errors > 0);
                setup.source.set(Fault::None);
                assert_eq!(std::fs::read(&setup.file).unwrap(), setup.content, "{fault:?}");
            });
        }
    });
    for (setup, _) in setups {
        setup.node.end();
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
fn a_source_that_fails_now_and_then_is_not_noticed() {
    for fault in [
        Fault::Refuse,
        Fault::Short(10_000),
        Fault::Flip(1000),
        Fault::Stall(300_000),
    ] {
        let setup = setup();
        setup.source.set(Fault::First(1, Box::new(fault.clone())));
        assert_eq!(std::fs::read(&setup.file).unwrap(), setup.content, "{fault:?}");
        assert_eq!(setup.node.status(ImageId(1)).unwrap().read_errors, 0, "{fault:?}");
    }
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
fn what_is_cached_needs_no_source_and_what_is_damaged_is_fetched_again() {
    let setup = setup();
    assert_eq!(std::fs::read(&setup.file).unwrap(), setup.content);
    let cache = setup.node.end();

    // A second server on the same cache, whose source is dead.
    let node = Node::on(cache);
    setup.source.set(Fault::Missing);
    let file = node.add(setup.fixture.spec(1, &setup.source)).join("big");
    assert_eq!(std::fs::read(&file).unwrap(), setup.content);
    let status = node.status(ImageId(1)).unwrap();
    assert_eq!((status.requests, status.bytes_local), (0, status.bytes_total));
    let cache = node.end();

    let id = &setup.fixture.blob_id;
    let data = cache.path().join("v1").join(&id[..2]).join(id).join("data");
    let data = std::fs::File::options()
        .read(true)
        .write(true)
        .open(data)
        .unwrap();
    let mut byte = [0];
    let damaged = 9 * CHUNK_LEN as u64 + 5;
    data.read_exact_at(&mut byte, damaged).unwrap();
    data.write_all_at(&[byte[0] ^ 1], damaged).unwrap();
    let node = Node::on(cache);
    let before = setup.source.reads().len();
    setup.source.set(Fault::None);
    let file = node.add(setup.fixture.spec(1, &setup.source)).join("big");
    assert_eq!(std::fs::read(&file).unwrap(), setup.content);
    assert_eq!(setup.source.reads().len(), before + 1);
    assert_eq!(node.status(ImageId(1)).unwrap().requests, 1);
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
fn a_cache_that_cannot_be_written_costs_nothing_but_fetches() {
    let (fixture, content) = fixture();
    let cache = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir_all(cache.path().join("v1")).unwrap();
    let in_the_way = cache.path().join("v1").join(&fixture.blob_id[..2]);
    std::fs::write(in_the_way, "a file where a folder should be").unwrap();
    let node = Node::on(cache);
    let file = node.add(fixture.spec(1, &fixture.source())).join("big");
    assert_eq!(std::fs::read(&file).unwrap(), content);
    let status = node.status(ImageId(1)).unwrap();
    assert_eq!((status.bytes_local, status.read_errors), (0, 0));
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
