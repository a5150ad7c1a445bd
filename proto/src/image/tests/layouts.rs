//! `oci:` and `oci-archive:`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[tokio::test]
async fn images_live_side_by_side_in_one_layout() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("oci:{}/layout", folder.path().display());
    let (one, two) = (tar_layer("one", 3000), tar_layer("two", 700_000));
    let first = write_image(&format!("{place}:v1"), std::slice::from_ref(&one)).await;
    // One image needs no name.
    assert_eq!(
        open(&place).await.unwrap().root_manifest().await.unwrap().digest,
        first
    );

    let blob = folder
        .path()
        .join("layout/blobs/sha256")
        .join(digest::sha256_of(&one).digest());
    let metadata = std::fs::metadata(&blob).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o644);
    let second = write_image(&format!("{place}:v2"), &[one.clone(), two.clone()]).await;
    assert_eq!(
        std::fs::metadata(&blob).unwrap().ino(),
        metadata.ino(),
        "a blob that is there is not written again"
    );

    let source = open(&format!("{place}:v1")).await.unwrap();
    assert_eq!(source.root_manifest().await.unwrap().digest, first);
    assert_eq!(
        source.manifest(&second).await.unwrap().media_type,
        MediaType::ImageManifest
    );
    let source = open(&format!("{place}:v2")).await.unwrap();
    assert_eq!(layers_of(&source).await, [one, two.clone()]);
    let range = source
        .range(&digest::sha256_of(&two), 600_000..600_700)
        .await
        .unwrap();
    assert_eq!(
        stream::gather(range, "range", 1000).await.unwrap(),
        two[600_000..600_700]
    );
    let beyond = source
        .range(&digest::sha256_of(&two), 0..two.len() as u64 + 1)
        .await;
    assert!(matches!(beyond, Err(Error::LengthMismatch { .. })));

    let error = open(&place).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("v1, v2"), "{error}");
    assert!(matches!(
        open(&format!("{place}:v3")).await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(
        names(&folder.path().join("layout")),
        ["blobs", "index.json", "oci-layout"]
    );
}

#[tokio::test]
async fn a_name_moves_to_the_newer_image_and_foreign_members_stay() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("oci:{}", folder.path().display());
    write_image(&format!("{place}:a"), &[tar_layer("a", 10)]).await;
    let index = folder.path().join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(
        &index,
        text.replacen("\"size\"", "\"platform\":{\"os.version\":\"9\"},\"size\"", 1),
    )
    .unwrap();
    write_image(&format!("{place}:b"), &[tar_layer("b", 10)]).await;
    let newest = write_image(&format!("{place}:b"), &[tar_layer("c", 10)]).await;

    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(index).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(index["manifests"][0]["platform"]["os.version"], "9");
    assert_eq!(index["manifests"][1]["digest"], newest.as_ref());
}

#[tokio::test]
async fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("oci:{}", folder.path().display());
    let layer = tar_layer("a", 100_000);
    write_image(&place, std::slice::from_ref(&layer)).await;
    let source = open(&place).await.unwrap();
    let descriptor = Descriptor::new(
        MediaType::ImageLayer,
        layer.len() as u64,
        digest::sha256_of(&layer),
    );
    let path = folder
        .path()
        .join("blobs/sha256")
        .join(descriptor.digest().digest());

    let mut bytes = layer.to_vec();
    bytes[50_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = stream::gather(source.blob(&descriptor).await.unwrap(), "layer", 1 << 20)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    std::fs::write(&path, &bytes[..99]).unwrap();
    assert!(matches!(
        source.blob(&descriptor).await,
        Err(Error::LengthMismatch { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        source.blob(&descriptor).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        source.small_blob(&descriptor, 10).await,
        Err(Error::TooLarge { .. })
    ));

    std::fs::write(folder.path().join("index.json"), b"{").unwrap();
    assert!(matches!(open(&place).await, Err(Error::Invalid { .. })));
    assert!(matches!(
        open("oci:/nonexistent/layout").await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn blobs_with_another_digest_and_abandoned_ones_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let location = format!("oci:{}", folder.path().display()).parse().unwrap();
    let target = ImageTarget::create(&location, &Options::default()).await.unwrap();
    let mut upload = target.start_blob().await.unwrap();
    upload.write(Bytes::from_static(b"this")).await.unwrap();
    assert!(matches!(
        upload.finish(&digest::sha256_of(b"that")).await,
        Err(Error::DigestMismatch { .. })
    ));
    let mut abandoned = target.start_blob().await.unwrap();
    abandoned.write(Bytes::from_static(b"half")).await.unwrap();
    drop(abandoned);
    assert_eq!(names(folder.path()), ["blobs", "oci-layout"]);
    assert_eq!(names(&folder.path().join("blobs/sha256")), [""; 0]);
    drop(target);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[tokio::test]
async fn a_layout_without_an_image_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("oci:{}/a/b", folder.path().display());
    let create = || async {
        ImageTarget::create(&place.parse().unwrap(), &Options::default())
            .await
            .unwrap()
    };
    let target = create().await;
    assert_eq!(
        names(folder.path()),
        [""; 0],
        "nothing is made before the first write"
    );
    target.put_blob(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(names(&folder.path().join("a/b")), ["blobs", "oci-layout"]);
    drop(target);
    assert_eq!(names(folder.path()), [""; 0]);

    // Somebody who was in the layout at the same time and lists an image keeps it.
    let (first, second) = (create().await, create().await);
    first.put_blob(Bytes::from_static(b"x")).await.unwrap();
    let manifest = Bytes::from_static(b"{}");
    second
        .put_manifest(manifest, &MediaType::ImageManifest, true)
        .await
        .unwrap();
    second.finish().await.unwrap();
    drop(first);
    assert_eq!(
        names(&folder.path().join("a/b")),
        ["blobs", "index.json", "oci-layout"]
    );
    // In a layout that was there, blobs stay: others may count on them.
    let third = create().await;
    third.put_blob(Bytes::from_static(b"y")).await.unwrap();
    drop(third);
    assert_eq!(names(&folder.path().join("a/b/blobs/sha256")).len(), 3);
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_by_its_name_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pipe = |name: &str| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let _ = std::fs::remove_file(at(name));
        rustix::fs::mknodat(rustix::fs::CWD, at(name), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let place = format!("oci:{}", at("layout").display());
    let layer = tar_layer("a", 10);
    write_image(&place, std::slice::from_ref(&layer)).await;
    let blob = format!("layout/blobs/sha256/{}", digest::sha256_of(&layer).digest());
    let source = open(&place).await.unwrap();
    let descriptor = Descriptor::new(
        MediaType::ImageLayer,
        layer.len() as u64,
        digest::sha256_of(&layer),
    );
    let is_named = |error: Error, name: &str| {
        let text = error.to_string();
        assert!(
            text.contains(at(name).to_str().unwrap()) && text.contains("not a regular file"),
            "{text}"
        );
    };

    pipe(&blob);
    is_named(source.blob(&descriptor).await.map(drop).unwrap_err(), &blob);
    is_named(source.blob_len(descriptor.digest()).await.unwrap_err(), &blob);
    let target = ImageTarget::create(&place.parse().unwrap(), &Options::default())
        .await
        .unwrap();
    is_named(target.has_blob(descriptor.digest()).await.unwrap_err(), &blob);
    pipe("layout/index.json");
    is_named(open(&place).await.map(drop).unwrap_err(), "layout/index.json");
    pipe("layout/oci-layout");
    let manifest = Bytes::from_static(b"{}");
    target
        .put_manifest(manifest, &MediaType::ImageManifest, true)
        .await
        .unwrap();
    is_named(target.finish().await.unwrap_err(), "layout/oci-layout");
    pipe("image.tar");
    for transport in ["oci-archive", "docker-archive"] {
        let place = format!("{transport}:{}", at("image.tar").display());
        is_named(open(&place).await.map(drop).unwrap_err(), "image.tar");
    }
    let place = format!("oci-archive:{}", at("image.tar").display());
    let error = ImageTarget::create(&place.parse().unwrap(), &Options::default()).await;
    is_named(error.map(drop).unwrap_err(), "image.tar");
    assert!(matches!(
        ImageTarget::create(
            &format!("oci:{}", at("image.tar").display()).parse().unwrap(),
            &Options::default()
        )
        .await,
        Err(Error::Invalid { .. })
    ));
    is_named(
        super::super::open_regular(std::path::Path::new("/dev/null")).unwrap_err(),
        "/dev/null",
    );
}

#[tokio::test]
async fn archives_are_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    let place = format!("oci-archive:{}:v1", file.display());
    let layers = [tar_layer("one", 3000), tar_layer("two", 700_000)];
    write_image(&place, &layers).await;
    assert_eq!(names(folder.path()), ["image.tar"]);
    let source = open(&place).await.unwrap();
    assert_eq!(layers_of(&source).await, layers);
    let range = source.range(&digest::sha256_of(&layers[1]), 5..6).await.unwrap();
    assert_eq!(stream::gather(range, "range", 1).await.unwrap(), layers[1][5..6]);

    let before = std::fs::read(&file).unwrap();
    let target = ImageTarget::create(&place.parse().unwrap(), &Options::default())
        .await
        .unwrap();
    target.put_blob(Bytes::from_static(b"x")).await.unwrap();
    drop(target);
    assert_eq!(names(folder.path()), ["image.tar"]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    write_image(&place, &layers).await;
    assert_eq!(
        std::fs::read(&file).unwrap(),
        before,
        "the same image makes the same bytes"
    );
}

#[tokio::test]
async fn archives_that_cannot_be_read_in_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar.gz");
    std::fs::write(&file, b"\x1f\x8b\x08\0\0\0\0\0\0\x03rest").unwrap();
    for transport in ["oci-archive", "docker-archive"] {
        let error = open(&format!("{transport}:{}", file.display()))
            .await
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(&error, Error::Invalid { reason, .. } if reason.contains("gunzip")),
            "{error}"
        );
    }
    std::fs::write(&file, vec![b'x'; 5000]).unwrap();
    assert!(matches!(
        open(&format!("oci-archive:{}", file.display())).await,
        Err(Error::Invalid { .. })
    ));
}

#[tokio::test]
async fn skopeo_reads_ours_and_we_read_skopeos() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("{}/{name}", folder.path().display());
    let layers = [tar_layer("one", 3000), tar_layer("two", 70_000)];
    for ours in [
        format!("oci:{}:v1", at("ours")),
        format!("oci-archive:{}:v1", at("ours.tar")),
    ] {
        let digest = write_image(&ours, &layers).await;
        let Some(shown) = skopeo(&["inspect", &ours]) else {
            return;
        };
        assert!(shown.contains(digest.as_ref()), "{shown}");
    }
    let ours = format!("oci:{}:v1", at("ours"));
    for theirs in [
        format!("oci:{}:v2", at("theirs")),
        format!("oci-archive:{}:v2", at("theirs.tar")),
    ] {
        skopeo(&["copy", &ours, &theirs]).unwrap();
        let source = open(&theirs).await.unwrap();
        // Skopeo compresses layers on their way into a layout; what is checked is that all of them can be read.
        assert_eq!(layers_of(&source).await.len(), layers.len());
    }
}
