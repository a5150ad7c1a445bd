//! Images of the reference builder, among them those whose chunks share units: batches, and pieces of gzip layers.

use std::collections::BTreeSet;
use std::sync::Barrier;

use rafs::Image;
use sha2::{Digest, Sha256};

use super::*;
use crate::fixture::{FakeSource, Fault, Reference};

const EIO: Option<i32> = Some(rustix::io::Errno::IO.raw_os_error());

/// Images in which chunks share units.
const SHARED: [&str; 2] = ["zstd-batch", "zran"];

fn check_files(root: &Path, files: &[(PathBuf, String)]) {
    for (path, digest) in files {
        let content = std::fs::read(root.join(path)).unwrap();
        assert_eq!(
            &hex::encode(Sha256::digest(content)),
            digest,
            "{}",
            path.display()
        );
    }
}

/// Blobs that chunk infos are fetched from, each with the place of those.
fn metas(reference: &Reference) -> Vec<(String, std::ops::Range<u64>)> {
    let image = Image::open(reference.bootstrap()).unwrap();
    let shared = image.blobs().iter().filter(|blob| blob.has_shared_units());
    shared
        .map(|blob| {
            let (id, range) = blob.meta_range();
            (id.to_owned(), range)
        })
        .collect()
}

/// How often the chunk infos at a place were asked for.
fn meta_reads(source: &FakeSource, (blob, place): &(String, std::ops::Range<u64>)) -> usize {
    let reads = source.reads_of(blob);
    let covering = reads
        .iter()
        .filter(|range| range.start <= place.start && range.end >= place.end);
    covering.count()
}

fn every_file_reads(name: &str) {
    let reference = Reference::open(name);
    let source = reference.source();
    let node = Node::new();
    let root = node.add(reference.spec(1, &source));
    check_files(&root, &reference.files);
    let cache = node.end();

    // Once more from the cache alone, and back to front.
    let node = Node::on(cache);
    source.set(Fault::Missing);
    let root = node.add(reference.spec(1, &source));
    let backwards: Vec<_> = reference.files.iter().rev().cloned().collect();
    check_files(&root, &backwards);
    assert_eq!(node.status(ImageId(1)).unwrap().requests, 0);
    node.end();
}

#[test]
fn zstd_blake3() {
    every_file_reads("zstd-blake3");
}

#[test]
fn lz4_sha256() {
    every_file_reads("lz4-sha256");
}

#[test]
fn none_sha256() {
    every_file_reads("none-sha256");
}

#[test]
fn zstd_chunk64k() {
    every_file_reads("zstd-chunk64k");
}

#[test]
fn zstd_batch() {
    every_file_reads("zstd-batch");
}

#[test]
fn zran() {
    every_file_reads("zran");
}

#[test]
fn parallel_readers_fetch_every_unit_once() {
    for name in SHARED {
        let reference = Reference::open(name);
        let source = reference.source();
        let node = Node::new();
        let root = node.add(reference.spec(1, &source));
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for reader in 0..8 {
                let (root, reference, barrier) = (&root, &reference, &barrier);
                scope.spawn(move || {
                    let mut files = reference.files.clone();
                    let len = files.len();
                    files.rotate_left(reader * len / 8);
                    barrier.wait();
                    check_files(root, &files);
                });
            }
        });
        let metas = metas(&reference);
        assert!(!metas.is_empty());
        for meta in &metas {
            assert_eq!(meta_reads(&source, meta), 1, "{name}: {:?}", source.reads());
        }
        let blobs: BTreeSet<_> = (Image::open(reference.bootstrap()).unwrap().blobs().iter())
            .map(|blob| blob.id.clone())
            .collect();
        for blob in blobs {
            let mut reads = source.reads_of(&blob);
            reads.sort_by_key(|range| range.start);
            let starts = reads.windows(2).all(|pair| pair[0].start < pair[1].start);
            assert!(starts, "{name}: a unit came twice: {reads:?}");
        }
        node.end();
    }
}

#[test]
fn all_chunks_of_a_unit_are_published() {
    for name in SHARED {
        let reference = Reference::open(name);
        let source = reference.source();
        let node = Node::new();
        let root = node.add(reference.spec(1, &source));
        let many: Vec<_> = (reference.files.iter())
            .filter(|(path, _)| path.starts_with("many"))
            .cloned()
            .collect();
        check_files(&root, &many[..1]);
        // Chunk infos, and all units of the neighbourhood, though pieces of a gzip layer overlap.
        assert_eq!(node.status(ImageId(1)).unwrap().requests, 2, "{name}");
        // Whatever shares the unit of the first is there, the one beside it for sure.
        source.set(Fault::Missing);
        check_files(&root, &many[1..2]);
        node.end();
    }
}

#[test]
fn chunk_infos_that_come_late_or_damaged_are_not_noticed() {
    for name in SHARED {
        for fault in [
            Fault::Refuse,
            Fault::Short(100),
            Fault::Flip(97),
            Fault::Stall(100),
        ] {
            let reference = Reference::open(name);
            let source = reference.source();
            source.set(Fault::First(1, Box::new(fault.clone())));
            let node = Node::new();
            let root = node.add(reference.spec(1, &source));
            check_files(&root, &reference.files[..20]);
            assert_eq!(
                node.status(ImageId(1)).unwrap().read_errors,
                0,
                "{name}: {fault:?}"
            );
            node.end();
        }
    }
}

#[test]
fn chunk_infos_that_cannot_be_had_fail_reads_until_they_can() {
    for name in SHARED {
        let reference = Reference::open(name);
        let source = reference.source();
        let node = Node::new();
        let root = node.add(reference.spec(1, &source));
        let many = root.join("many/file-0000");
        for fault in [Fault::Missing, Fault::Flip(97)] {
            source.set(fault);
            assert_eq!(std::fs::read(&many).unwrap_err().raw_os_error(), EIO);
        }
        source.set(Fault::None);
        check_files(&root, &reference.files);
        node.end();
    }
}

#[test]
fn damaged_chunk_infos_on_disk_are_fetched_again() {
    for name in SHARED {
        let reference = Reference::open(name);
        let source = reference.source();
        let node = Node::new();
        let root = node.add(reference.spec(1, &source));
        check_files(&root, &reference.files[..1]);
        check_files(&root, &reference.files);
        let cache = node.end();
        let mut damaged = 0;
        for entry in std::fs::read_dir(cache.path().join("v1")).unwrap() {
            for blob in std::fs::read_dir(entry.unwrap().path()).unwrap() {
                let blob = blob.unwrap().path();
                let mut bytes = std::fs::read(blob.join("meta")).unwrap();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                std::fs::write(blob.join("meta"), bytes).unwrap();
                // Nothing but the chunk infos is left, so they are needed.
                std::fs::write(blob.join("state"), "").unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0);
        let source = reference.source();
        for times in [1, 0] {
            let node = Node::on(cache.clone());
            let root = node.add(reference.spec(1, &source));
            check_files(&root, &reference.files);
            if times == 1 {
                let metas = metas(&reference);
                assert!(metas.iter().all(|meta| meta_reads(&source, meta) == 1));
            } else {
                assert_eq!(node.status(ImageId(1)).unwrap().requests, 0);
            }
            node.end();
        }
    }
}
