//! `slipway check --data` reads blobs whole.

use std::fs;

use crate::archive::Layer;
use crate::damage::{blob, check};
use crate::fixture::{REFERENCE, reference_bootstrap, reference_image, reference_image_with};
use crate::place::{OCI_MANIFEST, Place, add_blob, noise, write_index};

#[test]
fn blobs_of_every_kind_are_read_whole() {
    for options in [
        &["--batch-size", "64KiB"][..],
        &["--flat"],
        &["--layer-bootstraps"],
        &["--compressor", "lz4"],
    ] {
        let place = Place::new();
        place.image(&[Layer::default()
            .file("a", &noise(300_000, 3))
            .file("b", b"b")
            .file("c", &[b'c'; 9000])
            .bytes()]);
        place.convert(options).success();
        let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
        assert_eq!((code, stdout.as_str()), (0, ""), "{options:?}: {stderr}");
        // Everywhere behind the chunks, and where these are padded.
        let whole = fs::read(blob(&place)).unwrap();
        for at in (300_000..whole.len()).step_by(997) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(blob(&place), bytes).unwrap();
            let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
            assert_eq!(code, 1, "{options:?}, byte {at}: {stderr}");
            assert!(
                stdout.contains(": byte ") && stdout.contains(": its bytes have the digest sha256:"),
                "{options:?}, byte {at}: {stdout}"
            );
        }
    }
}

#[test]
fn layers_that_the_image_does_not_use_count_too() {
    let place = Place::new();
    let lower = Layer::default().file("a/b", b"1").bytes();
    let hiding = Layer::default().file("a/.wh.b", b"").bytes();
    place.image(&[lower, hiding]);
    place.convert(&["--layer-bootstraps"]).success();
    let digest = place.manifest("dst")["layers"][1]["digest"].clone();
    let (digest, path) = (
        digest.as_str().unwrap(),
        place.blob_path("dst", digest.as_str().unwrap()),
    );
    assert_eq!(check(&place, &place.oci("dst"), &["--data"]).0, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (code, stdout, _) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!((code, stdout.lines().count()), (1, 1), "{stdout}");
    assert!(
        stdout.contains(&format!("blob {}: its bytes have", &digest[7..])),
        "{stdout}"
    );
    fs::remove_file(&path).unwrap();
    let (code, stdout, _) = check(&place, &place.oci("dst"), &[]);
    assert!(
        code == 1 && stdout.contains(&format!("blob {}: missing", &digest[7..])),
        "{stdout}"
    );
}

#[test]
fn images_of_the_reference_are_read_whole() {
    for name in REFERENCE {
        let place = Place::new();
        reference_image(&place, "dst", name);
        let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
        assert_eq!((code, stdout.as_str()), (0, ""), "{name}: {stderr}");
        assert!(stderr.contains("chunks verified"), "{stderr}");
        // Of the gzip layers that chunks are cut from, and of the files with their chunk infos, each byte counts.
        let folder = place.path("dst/blobs/sha256");
        let mut bootstrap = place.manifest("dst")["layers"].as_array().unwrap().clone();
        let bootstrap = bootstrap.pop().unwrap()["digest"].as_str().unwrap()[7..].to_owned();
        for blob in fs::read_dir(&folder).unwrap() {
            let path = blob.unwrap().path();
            let whole = fs::read(&path).unwrap();
            let id = path.file_name().unwrap().to_str().unwrap();
            if whole.starts_with(b"{") || id == bootstrap {
                continue;
            }
            for at in [7, whole.len() / 2, whole.len() - 600, whole.len() - 3] {
                let mut bytes = whole.clone();
                bytes[at] ^= 4;
                fs::write(&path, bytes).unwrap();
                let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
                assert_eq!(code, 1, "{name}, {id}, byte {at}: {stderr}");
                let expected = format!("blob {id}: its bytes have the digest sha256:");
                assert!(stdout.contains(&expected), "{name}, byte {at}: {stdout}");
            }
            fs::write(&path, whole).unwrap();
        }
    }
}

#[test]
fn a_bootstrap_that_does_not_open_does_not_hide_damaged_blobs() {
    let place = Place::new();
    let mut bootstrap = reference_bootstrap("zstd-blake3");
    bootstrap[1152 + 20] |= 1;
    reference_image_with(&place, "dst", "zstd-blake3", &bootstrap);
    let mut bytes = fs::read(blob(&place)).unwrap();
    bytes[10] ^= 1;
    fs::write(blob(&place), bytes).unwrap();
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!((code, stdout.lines().count()), (1, 2), "{stdout}{stderr}");
    for expected in [
        ": byte 1172: the chunk size",
        ": its bytes have the digest sha256:",
    ] {
        assert!(stdout.contains(expected), "{stdout}");
    }
}

#[test]
fn checksums_of_the_reference_are_verified() {
    let place = Place::new();
    let mut bootstrap = reference_bootstrap("zstd-blake3");
    let table = u64::from_le_bytes(bootstrap[1176..1184].try_into().unwrap()) as usize;
    bootstrap[table + 76] ^= 1;
    reference_image_with(&place, "dst", "zstd-blake3", &bootstrap);
    assert_eq!(check(&place, &place.oci("dst"), &[]).0, 0);
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!((code, stdout.lines().count()), (1, 1), "{stdout}{stderr}");
    assert!(
        stdout.contains("its content has another checksum than the chunk table says"),
        "{stdout}"
    );
}

#[test]
fn bootstraps_of_layers_are_looked_into() {
    let place = Place::new();
    reference_image(&place, "dst", "zstd-blake3");
    // A layer without data, whose bootstrap is wrong, and whose digests are right.
    let mut bootstrap = reference_bootstrap("zstd-chunk64k");
    bootstrap[1152 + 20] |= 1;
    let (_, file) = rafs::blob::layer_without_data(&bootstrap);
    let layout = place.path("dst");
    let mut layer = add_blob(&layout, proto::lazy::BLOB_MEDIA_TYPE, &file);
    layer["annotations"] = serde_json::json!({proto::lazy::BLOB_ANNOTATION: "true"});
    let id = layer["digest"].as_str().unwrap()[7..].to_owned();
    let mut manifest = place.manifest("dst");
    manifest["layers"].as_array_mut().unwrap().insert(0, layer);
    let manifest = add_blob(&layout, OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    write_index(&layout, &[manifest]);
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!((code, stdout.lines().count()), (1, 1), "{stdout}{stderr}");
    let expected = format!("blob {id}: byte 0: image.boot: byte 1172: the chunk size");
    assert!(stdout.contains(&expected), "{stdout}");
}
