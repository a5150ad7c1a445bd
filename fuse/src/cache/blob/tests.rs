use rafs::{BlobIndex, Codec, Compressor, Digester};
use tempfile::TempDir;

use super::super::{BlobId, Cache};
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

#[test]
fn what_is_stored_is_read_and_the_next_process_has_to_check_it() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = verified(1, 1, 7);
    {
        let blob = Cache::open(dir.path()).unwrap().blob(&shape());
        assert_eq!(blob.standing(chunk.chunk()), Standing::Absent);
        blob.store(&chunk);
        assert_eq!(blob.standing(chunk.chunk()), Standing::Ready);
        assert_eq!(content(&blob, &chunk), chunk.content());
        assert_eq!(blob.local_len(), u64::from(CHUNK));
    }
    let blob = Cache::open(dir.path()).unwrap().blob(&shape());
    assert_eq!(blob.standing(chunk.chunk()), Standing::Recorded);
    assert_eq!(blob.local_len(), u64::from(CHUNK));
    blob.promote(&recheck(chunk.chunk(), Digester::Sha256, content(&blob, &chunk)).unwrap());
    assert_eq!(blob.standing(chunk.chunk()), Standing::Ready);
}

#[test]
fn a_rejected_chunk_is_gone_for_the_next_process_too() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = verified(1, 1, 7);
    Cache::open(dir.path()).unwrap().blob(&shape()).store(&chunk);
    {
        let blob = Cache::open(dir.path()).unwrap().blob(&shape());
        blob.reject(chunk.chunk());
        assert_eq!(blob.standing(chunk.chunk()), Standing::Absent);
        assert_eq!(blob.local_len(), 0);
    }
    let blob = Cache::open(dir.path()).unwrap().blob(&shape());
    assert_eq!(blob.standing(chunk.chunk()), Standing::Absent);
}

#[test]
fn an_image_that_says_otherwise_neither_reads_nor_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let blob = Cache::open(dir.path()).unwrap().blob(&shape());
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
    let blob = Cache::open(dir.path()).unwrap().blob(&shape());
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
    let blob = Cache::open(dir.path()).unwrap().blob(&shape());
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
        Cache::open(dir.path()).unwrap().blob(&shape()).store(&chunk);
        damage(&dir);
        let blob = Cache::open(dir.path()).unwrap().blob(&shape());
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
        Cache::open(dir.path()).unwrap().blob(&shape()).store(&chunk);
        std::fs::remove_file(path(&dir, name)).unwrap();
        std::os::unix::fs::symlink(&foreign, path(&dir, name)).unwrap();
        let blob = Cache::open(dir.path()).unwrap().blob(&shape());
        assert_eq!(blob.standing(chunk.chunk()), Standing::Barred, "{name}");
        blob.store(&chunk);
        assert_eq!(std::fs::read(&foreign).unwrap(), b"not of the cache", "{name}");
    }
}
