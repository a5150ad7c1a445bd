use rafs::{BlobIndex, Codec, Compressor, Digester};
use tempfile::TempDir;

use super::super::uncached::UncachedFile;
use super::super::{BlobId, Cache, CacheLimits};
use std::fs::File;

use super::*;
use crate::decode::recheck;

const CHUNK: u32 = 4096;

fn shape() -> Shape {
    Shape {
        id: BlobId::parse(&"0f".repeat(32)).unwrap(),
        chunk_count: 4,
        uncompressed_size: 4 * u64::from(CHUNK),
        digester: Digester::Sha256,
    }
}

/// A chunk full of `byte`, at page `page`.
fn verified(index: u32, page: u64, byte: u8) -> VerifiedChunk {
    let encoded = rafs::chunk::encode(vec![byte; CHUNK as usize], Compressor::None, 0, Digester::Sha256);
    let span = Span {
        offset: page * u64::from(CHUNK),
        len: CHUNK,
    };
    let chunk = ChunkRef {
        blob: BlobIndex(0),
        index,
        compressed: span,
        uncompressed: span,
        codec: Codec::Raw,
        digest: encoded.digest,
    };
    recheck(&chunk, Digester::Sha256, encoded.data).unwrap()
}

fn content(blob: &Blob, chunk: &VerifiedChunk) -> Vec<u8> {
    let mut out = vec![0; CHUNK as usize];
    blob.read(chunk.chunk(), 0, &mut out).unwrap();
    out
}

fn path(dir: &TempDir, name: &str) -> std::path::PathBuf {
    dir.path().join("v1/0f").join("0f".repeat(32)).join(name)
}

/// The blob in a cache that was just opened.
fn blob_in(dir: &tempfile::TempDir) -> Arc<Blob> {
    Cache::open(dir.path(), CacheLimits::default())
        .unwrap()
        .blob(&shape())
}

#[test]
fn what_is_stored_is_read_and_the_next_process_has_to_check_it() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = verified(1, 1, 7);
    {
        let blob = blob_in(&dir);
        assert_eq!(blob.standing(chunk.chunk()), Standing::Absent);
        blob.store(&chunk);
        assert_eq!(blob.standing(chunk.chunk()), Standing::Ready);
        assert_eq!(content(&blob, &chunk), chunk.content());
        assert_eq!(blob.local_len(), u64::from(CHUNK));
    }
    let blob = blob_in(&dir);
    assert_eq!(blob.standing(chunk.chunk()), Standing::Recorded);
    assert_eq!(blob.local_len(), u64::from(CHUNK));
    blob.promote(&recheck(chunk.chunk(), Digester::Sha256, content(&blob, &chunk)).unwrap());
    assert_eq!(blob.standing(chunk.chunk()), Standing::Ready);
}

#[test]
fn a_rejected_chunk_is_gone_for_the_next_process_too() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = verified(1, 1, 7);
    blob_in(&dir).store(&chunk);
    {
        let blob = blob_in(&dir);
        blob.reject(chunk.chunk());
        assert_eq!(blob.standing(chunk.chunk()), Standing::Absent);
        assert_eq!(blob.local_len(), 0);
    }
    let blob = blob_in(&dir);
    assert_eq!(blob.standing(chunk.chunk()), Standing::Absent);
}

#[test]
fn an_image_that_says_otherwise_neither_reads_nor_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let blob = blob_in(&dir);
    let honest = verified(1, 1, 7);
    blob.store(&honest);
    let other_content = verified(1, 1, 9);
    let other_place = verified(1, 2, 7);
    let mut straddling = *verified(2, 2, 9).chunk();
    straddling.uncompressed.offset -= 1;
    let same_place = verified(3, 1, 9);
    for hostile in [&other_content, &other_place, &same_place] {
        assert_eq!(blob.standing(hostile.chunk()), Standing::Barred);
        blob.store(hostile);
    }
    assert_eq!(blob.standing(&straddling), Standing::Barred);
    assert_eq!(content(&blob, &honest), honest.content());
}

#[test]
fn places_outside_the_file_are_barred() {
    let dir = tempfile::tempdir().unwrap();
    let blob = blob_in(&dir);
    let mut chunk = *verified(1, 1, 7).chunk();
    for offset in [4 * u64::from(CHUNK), u64::MAX, u64::MAX - 4096] {
        chunk.uncompressed.offset = offset;
        assert_eq!(blob.standing(&chunk), Standing::Barred);
    }
    assert_eq!(
        blob.standing(verified(4, 1, 7).chunk()),
        Standing::Barred,
        "number beyond the count"
    );
}

#[test]
fn a_lost_chunk_can_be_stored_again_and_its_place_stays_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let blob = blob_in(&dir);
    let chunk = verified(1, 1, 7);
    blob.store(&chunk);
    blob.lose(chunk.chunk());
    assert_eq!(blob.standing(verified(3, 1, 9).chunk()), Standing::Barred);
    blob.store(&chunk);
    assert_eq!(blob.standing(chunk.chunk()), Standing::Ready);
}

#[test]
fn damaged_files_are_remade() {
    let chunk = verified(1, 1, 7);
    let damages: [fn(&TempDir); 4] = [
        |dir| {
            File::options()
                .write(true)
                .open(path(dir, "data"))
                .unwrap()
                .set_len(5)
                .unwrap()
        },
        |dir| {
            File::options()
                .write(true)
                .open(path(dir, "state"))
                .unwrap()
                .set_len(4100)
                .unwrap()
        },
        |dir| std::fs::write(path(dir, "state"), b"something else").unwrap(),
        |dir| std::fs::remove_file(path(dir, "data")).unwrap(),
    ];
    for damage in damages {
        let dir = tempfile::tempdir().unwrap();
        blob_in(&dir).store(&chunk);
        damage(&dir);
        let blob = blob_in(&dir);
        assert_eq!(blob.standing(chunk.chunk()), Standing::Absent);
        blob.store(&chunk);
        assert_eq!(content(&blob, &chunk), chunk.content());
    }
}

#[test]
fn what_a_symlink_names_is_left_alone() {
    let chunk = verified(1, 1, 7);
    for name in ["data", "state"] {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("foreign");
        std::fs::write(&foreign, b"not of the cache").unwrap();
        blob_in(&dir).store(&chunk);
        std::fs::remove_file(path(&dir, name)).unwrap();
        std::os::unix::fs::symlink(&foreign, path(&dir, name)).unwrap();
        let blob = blob_in(&dir);
        assert_eq!(blob.standing(chunk.chunk()), Standing::Barred, "{name}");
        blob.store(&chunk);
        assert_eq!(std::fs::read(&foreign).unwrap(), b"not of the cache", "{name}");
    }
}

#[test]
fn evicted_chunks_are_absent_for_good_and_take_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let chunks: Vec<_> = (0..4).map(|index| verified(index, index.into(), 7)).collect();
    {
        let blob = blob_in(&dir);
        chunks.iter().for_each(|chunk| blob.store(chunk));
        let before = blob.disk_len();
        assert_eq!(blob.evict(&blob.extents()), 4 * u64::from(CHUNK));
        assert_eq!(
            (blob.local_len(), before - blob.disk_len()),
            (0, 4 * u64::from(CHUNK))
        );
        assert_eq!(blob.standing(chunks[2].chunk()), Standing::Absent);
        let error = blob.read(chunks[2].chunk(), 0, &mut [0; 5]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        blob.store(&chunks[2]);
        assert_eq!(content(&blob, &chunks[2]), chunks[2].content());
    }
    let blob = blob_in(&dir);
    let standings: Vec<_> = chunks.iter().map(|chunk| blob.standing(chunk.chunk())).collect();
    use Standing::{Absent, Recorded};
    assert_eq!(standings, [Absent, Absent, Recorded, Absent]);
}

#[test]
fn what_somebody_else_may_read_is_not_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let blob = blob_in(&dir);
    let chunk = verified(1, 1, 7);
    blob.store(&chunk);
    let pin = blob.pin().unwrap();
    assert_eq!(blob.evict(&blob.extents()), 0, "pinned");
    let reader = File::open(pin.path().unwrap()).unwrap();
    drop(pin);
    assert_eq!(blob.evict(&blob.extents()), 0, "open elsewhere");
    assert_eq!(content(&blob, &chunk), chunk.content());
    drop(reader);
    assert_eq!(blob.evict(&blob.extents()), u64::from(CHUNK));
}

#[test]
fn an_eviction_that_cannot_be_recorded_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = verified(1, 1, 7);
    let blob = Blob::open(&dir.path().join("blob"), &shape(), account());
    blob.store(&chunk);
    let Some(files) = blob.files.get() else {
        unreachable!()
    };
    let read_only = File::open(dir.path().join("blob/state")).unwrap();
    let broken = Files {
        data: UncachedFile::new(files.data.file().try_clone().unwrap()),
        state: read_only,
        data_path: files.data_path.clone(),
        meta: files.meta.clone(),
    };
    let extent = blob.extents()[0];
    let victims = blob.write_slots().begin_eviction(&extent);
    assert!(!blob.erase(&broken, &victims));
    blob.write_slots().end_eviction(&victims, false);
    assert_eq!(content(&blob, &chunk), chunk.content());
}

fn account() -> Arc<Account> {
    Arc::new(Account::new(CacheLimits::default(), std::path::PathBuf::new()))
}

#[test]
fn readers_never_see_holes_while_chunks_come_and_go() {
    const ROUNDS: u32 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let blob = blob_in(&dir);
    let chunks: Vec<_> = (0..4).map(|index| verified(index, index.into(), 7)).collect();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let (mut found, mut rounds) = (0, 0_u32);
            while !is_over.load(Ordering::Relaxed) {
                let chunk = &chunks[rounds as usize % 4];
                let mut out = vec![0; CHUNK as usize];
                if blob.read(chunk.chunk(), 0, &mut out).is_ok() {
                    assert!(out == chunk.content(), "a hole was served");
                    found += 1;
                }
                rounds += 1;
            }
            found
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for _ in 0..ROUNDS {
            chunks.iter().for_each(|chunk| blob.store(chunk));
            blob.evict(&blob.extents());
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(
            readers
                .into_iter()
                .map(|reader| reader.join().unwrap())
                .sum::<u32>()
                > 0
        );
    });
}

#[test]
fn files_that_could_not_be_opened_are_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blob");
    std::fs::write(&path, "in the way").unwrap();
    let (account, chunk) = (account(), verified(1, 1, 7));
    let blob = Blob::open(&path, &shape(), account.clone());
    blob.store(&chunk);
    assert_eq!(blob.standing(chunk.chunk()), Standing::Barred);
    assert_eq!(account.status().write_errors, 1);
    std::fs::remove_file(&path).unwrap();
    *blob.retry.lock().unwrap() = Some(Instant::now());
    blob.store(&chunk);
    assert_eq!(content(&blob, &chunk), chunk.content());
}
