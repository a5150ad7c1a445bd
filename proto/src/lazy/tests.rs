use std::io::{Read, Seek, Write};

use bytes::Bytes;
use oci_spec::image::{Digest, MediaType, Platform};

use super::*;
use crate::image::ImageSource;
use crate::image::{Error, ImageTarget, Location, Options, digest};

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

fn layer(media_type: &str, digest: &str, mark: Option<(&str, &str)>) -> serde_json::Value {
    let mut layer = serde_json::json!({"mediaType": media_type, "digest": digest, "size": 1});
    if let Some((key, value)) = mark {
        layer["annotations"] = serde_json::json!({key: value});
    }
    layer
}

fn manifest(layers: &[serde_json::Value]) -> ImageManifest {
    let config = layer("application/vnd.oci.image.config.v1+json", A, None);
    serde_json::from_value(serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers}))
        .unwrap()
}

#[test]
fn layers_are_sorted_by_their_marks() {
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let blob = layer(BLOB_MEDIA_TYPE, A, None);
    let marked = layer("application/octet-stream", B, Some((BLOB_ANNOTATION, "true")));
    let bootstrap = layer(gzip, C, Some((BOOTSTRAP_ANNOTATION, "true")));
    let parsed = LazyManifest::parse(&manifest(&[blob.clone(), marked, bootstrap.clone()])).unwrap();
    let digests: Vec<_> = parsed.blobs.iter().map(|blob| blob.digest().as_ref()).collect();
    assert_eq!(
        (digests.as_slice(), parsed.bootstrap.digest().as_ref()),
        ([A, B].as_slice(), C)
    );

    assert_eq!(LazyManifest::parse(&manifest(&[])), None);
    assert_eq!(LazyManifest::parse(&manifest(std::slice::from_ref(&blob))), None);
    let unmarked = layer(gzip, C, Some((BOOTSTRAP_ANNOTATION, "false")));
    assert_eq!(LazyManifest::parse(&manifest(&[blob.clone(), unmarked])), None);
    let mut many = vec![blob; LAYER_COUNT_MAX];
    many.push(bootstrap);
    assert_eq!(LazyManifest::parse(&manifest(&many)), None);
}

fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    let mut platform = Platform::default();
    platform
        .set_os(os.into())
        .set_architecture(architecture.into())
        .set_variant(variant.map(str::to_owned));
    platform
}

#[test]
fn an_index_gives_what_fits_and_is_wanted() {
    let entry = |digest: &str, extra: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"{digest}"{extra}}}"#
        )
    };
    let amd64 = r#","platform":{"os":"linux","architecture":"amd64"}"#;
    let arm = r#","platform":{"os":"linux","architecture":"arm","variant":"v7"}"#;
    let feature =
        r#","platform":{"os":"linux","architecture":"amd64","os.features":["nydus.remoteimage.v1"]}"#;
    let artifact = format!(r#"{amd64},"artifactType":"{ARTIFACT_TYPE}""#);
    let index = |entries: &[String]| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    let chosen = |index: &str, wanted: &Platform, prefer| {
        choose(index.as_bytes(), wanted, prefer)
            .map(|found| found.digest().to_string())
            .ok()
    };

    let wanted = platform("linux", "amd64", None);
    for rafs in [feature.to_owned(), artifact] {
        let both = index(&[entry(C, arm), entry(A, amd64), entry(B, &rafs)]);
        assert_eq!(chosen(&both, &wanted, Prefer::Rafs).as_deref(), Some(B));
        assert_eq!(chosen(&both, &wanted, Prefer::Plain).as_deref(), Some(A));
        let count = |architecture, variant| {
            fitting_count(both.as_bytes(), &platform("linux", architecture, variant)).unwrap()
        };
        assert_eq!(
            [count("amd64", None), count("arm", None), count("arm", Some("v6"))],
            [2, 1, 0]
        );
        assert_eq!(
            chosen(&both, &platform("linux", "arm", None), Prefer::Rafs).as_deref(),
            Some(C)
        );
        assert_eq!(
            chosen(&both, &platform("linux", "arm", Some("v6")), Prefer::Rafs),
            None
        );
        assert_eq!(chosen(&index(&[entry(B, &rafs)]), &wanted, Prefer::Plain), None);
    }
    assert_eq!(
        chosen(&index(&[entry(A, "")]), &wanted, Prefer::Plain).as_deref(),
        Some(A)
    );
    assert_eq!(
        chosen(&index(&[entry(A, ""), entry(B, "")]), &wanted, Prefer::Plain),
        None
    );
    let error = choose(index(&[entry(C, arm)]).as_bytes(), &wanted, Prefer::Rafs).unwrap_err();
    assert!(error.to_string().contains("linux/arm/v7"), "{error}");
    assert!(matches!(
        choose(b"{}", &wanted, Prefer::Rafs),
        Err(Error::Invalid { .. })
    ));
}

/// Ends a layout folder with a manifest that names none of its blobs.
async fn finish_empty(target: ImageTarget) {
    let document = Bytes::from_static(br#"{"schemaVersion":2,"config":{},"layers":[]}"#);
    target
        .put_manifest(document, &MediaType::ImageManifest, true)
        .await
        .unwrap();
    target.finish().await.unwrap();
}

/// Stores `bytes` as a blob in a layout folder and fetches the bootstrap from it, promised as `digest`.
async fn fetch(bytes: Vec<u8>, promised: Option<Digest>) -> Result<Vec<u8>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let location: Location = format!("oci:{}", folder.path().display()).parse().unwrap();
    let target = ImageTarget::create(&location, &Options::default()).await.unwrap();
    let len = bytes.len() as u64;
    let stored = target.put_blob(Bytes::from(bytes)).await.unwrap();
    let digest = promised.unwrap_or_else(|| stored.clone());
    let blobs = folder.path().join("blobs/sha256");
    if digest != stored {
        std::fs::rename(blobs.join(stored.digest()), blobs.join(digest.digest())).unwrap();
    }
    finish_empty(target).await;

    let source = ImageSource::open(&location, &Options::default()).await.unwrap();
    let bootstrap = oci_spec::image::Descriptor::new(MediaType::ImageLayerGzip, len, digest);
    let mut file = tempfile::tempfile().unwrap();
    let len = fetch_bootstrap(
        &source,
        &LazyManifest {
            blobs: Vec::new(),
            bootstrap,
        },
        &file,
    )
    .await?;
    let mut found = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut found).unwrap();
    assert_eq!(found.len() as u64, len);
    Ok(found)
}

/// Bytes that do not compress, so that the layer has several pieces.
fn bootstrap() -> Vec<u8> {
    let digests = (0_u32..60_000)
        .map(|number| hex::decode(&digest::sha256_of(&number.to_le_bytes()).digest()[..40]).unwrap());
    digests.flatten().collect()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

#[tokio::test]
async fn what_is_packed_is_found_again() {
    let bootstrap = bootstrap();
    let (packed, diff_id) = bootstrap_layer(&bootstrap, &[("x.blob.meta", b"meta")]).unwrap();
    assert_eq!(
        bootstrap_layer(&bootstrap, &[("x.blob.meta", b"meta")]).unwrap(),
        (packed.clone(), diff_id.clone())
    );
    let plain = gunzip(&packed);
    assert_eq!(digest::sha256_of(&plain), diff_id);

    let mut archive = tar::Archive::new(plain.as_slice());
    let members = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (
            entry.path().unwrap().display().to_string(),
            entry.header().mode().unwrap(),
        )
    });
    let expected = [
        ("image/", 0o755),
        ("image/image.boot", 0o444),
        ("image/x.blob.meta", 0o444),
    ];
    assert_eq!(
        members.collect::<Vec<_>>(),
        expected.map(|(name, mode)| (name.to_owned(), mode))
    );

    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for layer in [packed, plain, zstd] {
        assert!(fetch(layer, None).await.unwrap() == bootstrap);
    }
}

#[tokio::test]
async fn layers_that_are_not_what_they_should_be_are_refused() {
    let (packed, _) = bootstrap_layer(&bootstrap(), &[]).unwrap();
    let foreign: Digest = A.parse().unwrap();
    // The bootstrap in it is whole; still the layer is not the one that was asked for.
    let result = fetch(packed.clone(), Some(foreign)).await;
    assert!(matches!(result, Err(Error::DigestMismatch { .. })));
    let result = fetch(packed[..packed.len() / 2].to_vec(), None).await;
    assert!(matches!(result, Err(Error::Invalid { .. })));
    let plain = gunzip(&packed);
    let result = fetch(plain[..plain.len() / 2].to_vec(), None).await;
    assert!(matches!(
        result,
        Err(Error::LengthMismatch { .. } | Error::Invalid { .. })
    ));
    for empty in [Vec::new(), vec![0; 1024]] {
        assert!(matches!(fetch(empty, None).await, Err(Error::NotFound { .. })));
    }

    let mut header = tar::Header::new_ustar();
    header.set_path(BOOTSTRAP_PATH).unwrap();
    header.set_size(BOOTSTRAP_LEN_MAX + 1);
    header.set_cksum();
    let mut huge = Vec::new();
    huge.write_all(header.as_bytes()).unwrap();
    huge.resize(4096, 0);
    assert!(matches!(fetch(huge, None).await, Err(Error::TooLarge { .. })));
}

/// A member of an archive whose header says `len` bytes, with the content that is given.
fn member(kind: u8, name: &str, len: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(len);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn extract(layer: impl Read) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    extract_bootstrap(layer, "the layer", &mut out).map(|_| out)
}

#[test]
fn extended_headers_are_passed_over() {
    let record = b"27 path=image/image.boot\n\n\n";
    let boot = member(b'0', BOOTSTRAP_PATH, 4, b"boot");
    let extensions = [
        member(b'x', "pax", 27, &record[..27]),
        member(b'g', "global", 27, &record[..27]),
        member(b'L', "././@LongLink", 17, b"image/image.boot\0"),
        member(b'K', "././@LongLink", 17, b"image/image.boot\0"),
    ];
    for extension in extensions {
        // Before the bootstrap it changes nothing, and it makes no other file the bootstrap.
        let found = extract([extension.clone(), boot.clone()].concat().as_slice()).unwrap();
        assert_eq!(found, b"boot");
        let other = [extension, member(b'0', "other", 4, b"fake")].concat();
        assert!(matches!(extract(other.as_slice()), Err(Error::NotFound { .. })));
    }
}

#[test]
fn an_extended_header_of_half_a_gigabyte_is_not_kept() {
    // Most memory that this process ever had, in bytes.
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
    };
    let len = 512 << 20;
    let before = peak();
    for kind in *b"xgLK" {
        let header = std::io::Cursor::new(member(kind, "extension", len, b""));
        let boot = std::io::Cursor::new(member(b'0', BOOTSTRAP_PATH, 4, b"boot"));
        let layer = header.chain(std::io::repeat(0).take(len)).chain(boot);
        assert_eq!(extract(layer).unwrap(), b"boot");
    }
    assert!(peak() - before < 256 << 20, "{} bytes more", peak() - before);
}

#[tokio::test]
async fn files_beside_the_bootstrap_are_found_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let location: Location = format!("oci:{}", folder.path().display()).parse().unwrap();
    let target = ImageTarget::create(&location, &Options::default()).await.unwrap();
    let (packed, _) = bootstrap_layer(b"boot", &[(HINTS_NAME, b"hints")]).unwrap();
    let len = packed.len() as u64;
    let digest = target.put_blob(Bytes::from(packed)).await.unwrap();
    finish_empty(target).await;
    let source = ImageSource::open(&location, &Options::default()).await.unwrap();
    let manifest = LazyManifest {
        blobs: Vec::new(),
        bootstrap: oci_spec::image::Descriptor::new(MediaType::ImageLayerGzip, len, digest),
    };
    let fetch = async |name, len_max| fetch_beside(&source, &manifest, name, len_max).await;
    assert_eq!(
        fetch(HINTS_NAME, 5).await.unwrap().as_deref(),
        Some(&b"hints"[..])
    );
    assert_eq!(fetch("none.json", 5).await.unwrap(), None);
    assert!(matches!(
        fetch(HINTS_NAME, 4).await,
        Err(Error::TooLarge { len_max: 4, .. })
    ));
}
