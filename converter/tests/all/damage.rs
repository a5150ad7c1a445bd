//! `slipway check` on good, damaged and foreign things.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use crate::archive::Layer;
use crate::place::{Place, noise};

fn converted() -> Place {
    let place = Place::new();
    place.image(&[Layer::default()
        .file("a", &noise(300_000, 3))
        .file("b", b"b")
        .bytes()]);
    place.convert(&["--chunk-size", "64KiB"]).success();
    place
}

/// Exit code and both streams.
pub(crate) fn check(place: &Place, subject: &str, options: &[&str]) -> (i32, String, String) {
    let output = place
        .slipway()
        .args(["check", subject, "--platform", "linux/amd64"])
        .args(options)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

pub(crate) fn blob(place: &Place) -> PathBuf {
    place.blob_path(
        "dst",
        place.manifest("dst")["layers"][0]["digest"].as_str().unwrap(),
    )
}

fn bootstrap(place: &Place) -> Vec<u8> {
    let manifest = place.manifest("dst");
    let layer = manifest["layers"].as_array().unwrap().last().unwrap();
    let layer = fs::read(place.blob_path("dst", layer["digest"].as_str().unwrap())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
    let mut file = archive.entries().unwrap().nth(1).unwrap().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn good_images_and_bootstraps_pass() {
    let place = converted();
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(
        stderr.contains("no fault found") && stderr.contains("6 chunks verified"),
        "{stderr}"
    );
    fs::write(place.path("image.boot"), bootstrap(&place)).unwrap();
    let (code, stdout, stderr) = check(&place, "image.boot", &[]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
}

#[test]
fn flipped_bytes_are_found_by_reading_the_data() {
    let place = converted();
    let mut bytes = fs::read(blob(&place)).unwrap();
    bytes[10] ^= 1;
    bytes[200_000] ^= 1;
    fs::write(blob(&place), bytes).unwrap();
    assert_eq!(check(&place, &place.oci("dst"), &[]).0, 0, "the metadata is good");
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
    // The file's digest, that of its chunks, and each of the two chunks.
    assert_eq!((code, stdout.lines().count()), (1, 4), "{stdout}{stderr}");
    for expected in [
        ": its bytes have the digest sha256:",
        ": byte 0: image.blob has another digest than the table of contents says",
        ": byte 0: chunk 0: chunk digest mismatch",
        ": byte 196608: chunk 3: chunk digest mismatch",
    ] {
        assert!(stdout.contains(expected), "{expected}\n{stdout}");
    }
    let (code, stdout, _) = check(&place, &place.oci("dst"), &["--data", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, findings["faults"].as_array().unwrap().len()), (1, 4));
}

#[test]
fn missing_short_and_long_blobs_are_found() {
    let place = converted();
    let bytes = fs::read(blob(&place)).unwrap();
    fs::write(blob(&place), &bytes[..1000]).unwrap();
    let (code, stdout, _) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("1000 bytes, the bootstrap needs"), "{stdout}");
    assert!(
        stdout.contains(": byte 1000: the file ends before image.blob does"),
        "{stdout}"
    );
    // What is still there is verified.
    fs::write(blob(&place), &bytes[..100_000]).unwrap();
    let (_, stdout, _) = check(&place, &place.oci("dst"), &["--data", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(findings["chunk_count"], 1, "{stdout}");
    fs::write(blob(&place), b"").unwrap();
    let (code, stdout, _) = check(&place, &place.oci("dst"), &["--data"]);
    assert!(code == 1 && stdout.contains(": it is empty"), "{stdout}");
    fs::write(blob(&place), [&bytes[..], b"x"].concat()).unwrap();
    let (code, stdout, _) = check(&place, &place.oci("dst"), &[]);
    assert_eq!(code, 1);
    assert!(stdout.contains("the manifest says"), "{stdout}");
    fs::remove_file(blob(&place)).unwrap();
    let (code, stdout, _) = check(&place, &place.oci("dst"), &[]);
    assert_eq!(code, 1);
    assert!(stdout.contains(": missing"), "{stdout}");
}

#[test]
fn truncated_and_foreign_files_give_clear_lines_and_no_panic() {
    let place = converted();
    let whole = bootstrap(&place);
    fs::write(place.path("bad"), &whole[..5000]).unwrap();
    let (code, stdout, stderr) = check(&place, "bad", &[]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(
        stdout.starts_with("bad: byte 5000: the file ends inside a block"),
        "{stdout}"
    );
    assert!(
        stdout.lines().all(|line| line.starts_with("bad: byte ")),
        "{stdout}"
    );
    for foreign in [&b"#!/bin/sh\n"[..], b"", &whole[..1000], &[0xff; 9000]] {
        fs::write(place.path("bad"), foreign).unwrap();
        let (code, stdout, stderr) = check(&place, "bad", &[]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(
            stderr.starts_with("error: bad: not a RAFS v6 bootstrap: "),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 2, "one line and a hint: {stderr}");
    }
    let (code, _, stderr) = check(&place, &place.oci("src"), &[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("is not a RAFS image") && stderr.contains("hint: "),
        "{stderr}"
    );
}

#[test]
fn a_damaged_bootstrap_layer_is_an_answer() {
    let place = converted();
    let manifest = place.manifest("dst");
    let layer = manifest["layers"].as_array().unwrap().last().unwrap();
    let path = place.blob_path("dst", layer["digest"].as_str().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &[]);
    assert_eq!((code, stdout.lines().count()), (1, 1), "{stdout}{stderr}");
    // It does not hide what is wrong with others.
    let mut bytes = fs::read(blob(&place)).unwrap();
    bytes[10] ^= 1;
    fs::write(blob(&place), bytes).unwrap();
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!((code, stdout.lines().count()), (1, 2), "{stdout}{stderr}");
    assert!(stdout.contains(": its bytes have the digest sha256:"), "{stdout}");
}

#[test]
fn damaged_metadata_never_panics() {
    let place = converted();
    let whole = bootstrap(&place);
    for seed in 0..60 {
        let mut bytes = whole.clone();
        let positions = noise(8, seed + 1);
        for pair in positions.chunks(2) {
            let position = (usize::from(pair[0]) * 256 + usize::from(pair[1])) * 7 % bytes.len();
            bytes[position] ^= pair[1] | 1;
        }
        fs::write(place.path("bad"), &bytes).unwrap();
        for command in ["check", "inspect", "ls"] {
            let output = place.slipway().args([command, "bad"]).output().unwrap();
            assert!(
                matches!(output.status.code(), Some(0..=2)),
                "{command}, seed {seed}: {output:?}"
            );
        }
    }
}

#[test]
fn a_missing_blob_does_not_hide_what_is_wrong_with_another() {
    let place = Place::new();
    let layer = |name: &str, seed| Layer::default().file(name, &noise(300_000, seed)).bytes();
    place.image(&[layer("a", 1), layer("b", 2)]);
    place.convert(&["--chunk-size", "64KiB"]).success();
    let manifest = place.manifest("dst");
    let blob = |number: usize| {
        let digest = manifest["layers"][number]["digest"].as_str().unwrap();
        place.blob_path("dst", digest)
    };
    fs::remove_file(blob(0)).unwrap();
    let mut bytes = fs::read(blob(1)).unwrap();
    bytes[100_000] ^= 1;
    fs::write(blob(1), bytes).unwrap();
    let (code, stdout, stderr) = check(&place, &place.oci("dst"), &["--data"]);
    assert_eq!((code, stdout.lines().count()), (1, 4), "{stdout}{stderr}");
    assert!(
        stdout.contains(": missing") && stdout.contains(": byte 65536: chunk 1: chunk digest mismatch"),
        "{stdout}"
    );
}

#[test]
fn a_bootstrap_that_does_not_open_is_checked_to_its_end() {
    let place = converted();
    let mut bytes = bootstrap(&place);
    bytes[1152 + 20] |= 1;
    bytes[1152 + 8] |= 1;
    bytes[1152 + 24] |= 1;
    fs::write(place.path("bad"), &bytes).unwrap();
    let (code, stdout, stderr) = check(&place, "bad", &["--against", &place.oci("src")]);
    assert_eq!((code, stdout.lines().count()), (1, 3), "{stdout}{stderr}");
    assert!(stdout.contains("bad: byte 1172: the chunk size"), "{stdout}");
    assert!(stdout.contains("bad: byte 1160: the blob table"), "{stdout}");
    assert!(stdout.contains("bad: byte 1176: the chunk table"), "{stdout}");
}
