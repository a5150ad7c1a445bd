use super::*;

fn shape() -> Shape {
    Shape {
        id: BlobId::parse(&"0f".repeat(32)).unwrap(),
        chunk_count: 4,
        uncompressed_size: 4096 * 4,
        digester: Digester::Sha256,
    }
}

#[test]
fn only_a_sha256_in_lower_case_names_a_blob() {
    assert!(BlobId::parse(&"0f".repeat(32)).is_some());
    for bad in [
        "",
        "../../etc/passwd",
        &"0F".repeat(32),
        &"0f".repeat(31),
        &"0g".repeat(32),
        &"0f".repeat(33),
    ] {
        assert_eq!(BlobId::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_folder_is_used_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), CacheLimits::default()).unwrap();
    let error = Cache::open(dir.path(), CacheLimits::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(cache);
    Cache::open(dir.path(), CacheLimits::default()).unwrap();
}

#[test]
fn a_blob_is_opened_once_and_shared() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), CacheLimits::default()).unwrap();
    let (one, two) = (cache.blob(&shape()), cache.blob(&shape()));
    assert!(Arc::ptr_eq(&one, &two));
    let other = cache.blob(&Shape {
        chunk_count: 5,
        ..shape()
    });
    assert!(!Arc::ptr_eq(&one, &other));
    assert!(
        Arc::ptr_eq(&one, &cache.blob(&shape())),
        "the other image has not displaced it"
    );
}

#[test]
fn blobs_that_nobody_keeps_leave_no_files_and_start_anew() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), CacheLimits::default()).unwrap();
    let kept = Shape {
        id: BlobId::parse(&"0e".repeat(32)).unwrap(),
        ..shape()
    };
    let (one, other) = (cache.blob(&shape()), cache.blob(&kept));
    std::fs::create_dir_all(cache.root.join("0f/not a blob")).unwrap();
    std::fs::write(cache.root.join("file"), "").unwrap();
    let keep = HashSet::from([kept.id]);
    assert_eq!(cache.retain(&keep).unwrap(), 1);
    assert!(!cache.dir_of(shape().id).exists() && cache.dir_of(kept.id).is_dir());
    assert!(cache.root.join("0f/not a blob").is_dir());
    assert_eq!(cache.retain(&keep).unwrap(), 0);

    let two = cache.blob(&shape());
    assert!(cache.dir_of(shape().id).is_dir() && !Arc::ptr_eq(&one, &two));
    assert!(Arc::ptr_eq(&other, &cache.blob(&kept)));
}

#[test]
fn a_folder_that_cannot_be_made_gives_a_blob_that_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), CacheLimits::default()).unwrap();
    std::fs::write(dir.path().join("v1/0f"), "a file where a folder should be").unwrap();
    assert_eq!(cache.blob(&shape()).local_len(), 0);
}

const CHUNK: u32 = 64 << 10;

/// A blob of so many chunks, all of them stored.
fn full(cache: &Cache, name: &str, count: u32) -> Arc<Blob> {
    let blob = cache.blob(&Shape {
        id: BlobId::parse(&name.repeat(32)).unwrap(),
        chunk_count: count,
        uncompressed_size: u64::from(count) * u64::from(CHUNK),
        digester: Digester::Sha256,
    });
    for index in 0..count {
        blob.store(&chunk(index));
    }
    blob
}

fn chunk(index: u32) -> crate::decode::VerifiedChunk {
    let content = vec![7; CHUNK as usize];
    let encoded = rafs::chunk::encode(content, rafs::Compressor::None, 0, Digester::Sha256);
    let span = rafs::Span {
        offset: u64::from(index) * u64::from(CHUNK),
        len: CHUNK,
    };
    let chunk = rafs::ChunkRef {
        blob: rafs::BlobIndex(0),
        index,
        compressed: span,
        uncompressed: span,
        codec: rafs::Codec::Raw,
        digest: encoded.digest,
    };
    crate::decode::recheck(&chunk, Digester::Sha256, encoded.data).unwrap()
}

fn limits(size_max: u64) -> CacheLimits {
    CacheLimits {
        size_max: account::SizeMax::Bytes(size_max),
        free_min: 0,
    }
}

/// What `du` says.
fn du(dir: &Path) -> u64 {
    let out = std::process::Command::new("du")
        .args(["-s", "-B1"])
        .arg(dir)
        .output()
        .unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn what_is_counted_is_what_du_counts() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), CacheLimits::default()).unwrap();
    let (one, _two) = (full(&cache, "0a", 40), full(&cache, "0b", 70));
    one.keep_meta(
        &meta::MetaPlace {
            blob: one.shape().id,
            range: 0..9000,
        },
        &[1; 9000],
    );
    one.evict(&one.extents());
    cache.measure().unwrap();
    assert_eq!(cache.account().status().bytes_used, du(dir.path()));
}

#[test]
fn the_limit_is_hard_and_trimming_makes_room_in_what_nobody_runs() {
    const LIMIT: u64 = 16 << 20;
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), limits(LIMIT)).unwrap();
    let (running, other) = (full(&cache, "0a", 100), full(&cache, "0b", 200));
    assert!(du(dir.path()) <= LIMIT, "{}", du(dir.path()));
    assert!(other.setbacks() > 0 && cache.account().status().bytes_refused > 0);
    let kept = other.local_len();
    let later = account::now() + 60;
    let freed = cache.trim(&HashSet::from([running.shape().id]), later).unwrap();
    assert!(freed >= LIMIT / 32, "{freed}");
    assert_eq!(running.local_len(), 100 * u64::from(CHUNK));
    assert!(other.local_len() < kept);
    assert_eq!(cache.account().status().bytes_used, du(dir.path()));
    assert_eq!(
        cache.trim(&HashSet::new(), later).unwrap(),
        0,
        "there is room now"
    );
}

#[test]
fn what_is_young_or_read_behind_the_cache_stays_and_blobs_nobody_has_open_go_first() {
    const LIMIT: u64 = 16 << 20;
    let dir = tempfile::tempdir().unwrap();
    drop(full(
        &Cache::open(dir.path(), CacheLimits::default()).unwrap(),
        "0c",
        10,
    ));
    let cache = Cache::open(dir.path(), limits(LIMIT)).unwrap();
    let (one, _two) = (full(&cache, "0a", 100), full(&cache, "0b", 200));
    assert!(cache.trim(&HashSet::new(), account::now()).unwrap() > 0);
    assert!(!dir.path().join("v1/0c").join("0c".repeat(32)).exists());
    assert_eq!(one.local_len(), 100 * u64::from(CHUNK), "it was just stored");
    let reader = File::open(cache.dir_of(one.shape().id).join("data")).unwrap();
    full(&cache, "0b", 200);
    cache.trim(&HashSet::new(), account::now() + 60).unwrap();
    assert_eq!(one.local_len(), 100 * u64::from(CHUNK), "somebody reads it");
    drop(reader);
}

#[test]
fn deleting_a_blob_gives_its_space_back_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), CacheLimits::default()).unwrap();
    let blob = full(&cache, "0a", 10);
    assert_eq!(cache.retain(&HashSet::new()).unwrap(), 1);
    assert_eq!(
        (blob.local_len(), blob.standing(chunk(0).chunk())),
        (0, Standing::Absent)
    );
    blob.store(&chunk(0));
    assert_eq!(
        blob.local_len(),
        0,
        "nothing more is put into a file that is gone"
    );
    let again = full(&cache, "0a", 10);
    assert_eq!(again.local_len(), 10 * u64::from(CHUNK));
}
