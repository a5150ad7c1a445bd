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
    let cache = Cache::open(dir.path()).unwrap();
    let error = Cache::open(dir.path()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(cache);
    Cache::open(dir.path()).unwrap();
}

#[test]
fn a_blob_is_opened_once_and_shared() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
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
    let cache = Cache::open(dir.path()).unwrap();
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
    let cache = Cache::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("v1/0f"), "a file where a folder should be").unwrap();
    assert_eq!(cache.blob(&shape()).local_len(), 0);
}
