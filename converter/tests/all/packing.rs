//! Whatever the options, the image is what its layers say: read with a reader that shares no code with ours.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::Value;

use crate::archive::Layer;
use crate::fixture::{fixture, stored};
use crate::place::Place;
use crate::second::{self, Blob, Entry, file};

/// Each option once, and those that meet in the writer together.
const OPTIONS: [&[&str]; 10] = [
    &[],
    &["--digester", "blake3", "--compressor", "zstd:1"],
    &["--compressor", "lz4", "--chunk-size", "4KiB"],
    &["--compressor", "none", "--chunk-size", "16MiB"],
    &["--batch-size", "64KiB"],
    &[
        "--batch-size",
        "1MiB",
        "--compressor",
        "lz4",
        "--digester",
        "blake3",
    ],
    &[
        "--batch-size",
        "64KiB",
        "--chunk-size",
        "64KiB",
        "--layer-bootstraps",
    ],
    &["--layer-bootstraps"],
    &["--flat"],
    &[
        "--flat",
        "--layer-bootstraps",
        "--digester",
        "blake3",
        "--chunk-size",
        "8KiB",
    ],
];

fn digests(place: &Place) -> Vec<String> {
    let manifest = place.manifest("dst");
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect()
}

fn file_of(place: &Place, id: &str) -> Vec<u8> {
    std::fs::read(place.blob_path("dst", &format!("sha256:{id}"))).unwrap()
}

/// Reads the image in `dst`.
fn image(place: &Place) -> (Vec<Blob>, Vec<Entry>) {
    let layer = std::fs::read(place.blob_path("dst", digests(place).last().unwrap())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
    let mut bootstrap = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if &*entry.path_bytes() == b"image/image.boot" {
            entry.read_to_end(&mut bootstrap).unwrap();
        }
    }
    second::read(&bootstrap, |id| file_of(place, id))
}

/// Reads the bootstrap inside a layer's blob as the ecosystem's tools do: with the name of the file as the blob's id.
fn layer(place: &Place, id: &str) -> Vec<Entry> {
    let bytes = file_of(place, id);
    let sections = file::toc(&bytes);
    let boot = sections
        .iter()
        .find(|section| section.name == "image.boot")
        .unwrap();
    let mut bootstrap = file::plain(boot, &bytes[boot.stored.clone()]);
    for at in 0..bootstrap.len() - 64 {
        if bootstrap[at..].starts_with(&[b'x'; 64]) {
            bootstrap[at..at + 64].copy_from_slice(id.as_bytes());
        }
    }
    second::read(&bootstrap, |id| file_of(place, id)).1
}

fn paths(entries: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| String::from_utf8_lossy(&entry.path).into_owned();
    entries.iter().map(text).collect()
}

#[test]
fn every_option_gives_the_tree_of_the_layers() {
    let truth = String::from_utf8(fixture("truth.jsonl")).unwrap();
    let truth: BTreeMap<String, Value> = (truth.lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["path"].as_str().unwrap().to_owned(), line))
        .collect();
    for options in OPTIONS {
        let place = Place::new();
        place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
        place.convert(options).success();
        let (blobs, entries) = image(&place);
        let seen = second::lines(&entries);
        for (path, line) in &truth {
            assert_eq!(seen.get(path), Some(line), "{options:?} {path}");
        }
        assert_eq!(seen.len(), truth.len(), "{options:?}");
        let is_batched = blobs.iter().any(|blob| blob.features & 0x80 != 0);
        assert_eq!(is_batched, options.contains(&"--batch-size"), "{options:?}");
        let digester = u32::from(!options.contains(&"blake3"));
        assert!(blobs.iter().all(|blob| blob.digester == digester));
        // Our own reader agrees, as far as it reads.
        if !is_batched {
            let mut check = place.slipway();
            check.args(["check", "--data", &place.oci("dst"), "--platform", "linux/amd64"]);
            check.assert().success();
        }
    }
}

#[test]
fn every_option_gives_the_same_bytes_again() {
    for options in OPTIONS {
        let digests = ["1", "3"].map(|jobs| {
            let place = Place::new();
            place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
            place.convert(&[options, &["--jobs", jobs]].concat()).success();
            digests(&place)
        });
        assert_eq!(digests[0], digests[1], "{options:?}");
    }
}

#[test]
fn batches_make_images_of_small_files_smaller() {
    let len = |options: &[&str]| {
        let place = Place::new();
        place.stored_image(&[stored("layer1.tar.gz")]);
        place.convert(options).success();
        file_of(&place, &image(&place).0[0].id).len()
    };
    assert!(len(&["--batch-size", "64KiB"]) < len(&[]));
}

#[test]
fn layers_carry_their_own_bootstraps() {
    let place = Place::new();
    let lower = Layer::default()
        .dir("a/")
        .file("a/b", b"1")
        .file("c", b"2")
        .bytes();
    let hiding = Layer::default()
        .file("a/.wh.b", b"")
        .file("a/.wh..wh..opq", b"")
        .bytes();
    place.image(&[lower, hiding]);
    place.convert(&["--layer-bootstraps"]).success();
    let digests: Vec<String> = (digests(&place).iter())
        .map(|digest| digest["sha256:".len()..].to_owned())
        .collect();
    let [lower, hiding, _] = &digests[..] else {
        panic!("{digests:?}")
    };
    assert_eq!(paths(&layer(&place, lower)), ["", "a", "a/b", "c"]);
    // Without data, but part of what a merge of all layers needs.
    assert_eq!(
        paths(&layer(&place, hiding)),
        ["", "a", "a/.wh..wh..opq", "a/.wh.b"]
    );
    let (blobs, entries) = image(&place);
    assert_eq!(paths(&entries), ["", "a", "c"]);
    assert_eq!(blobs.len(), 1);
    assert_eq!(blobs[0].features & 2, 0);
}

#[test]
fn a_layer_that_makes_no_sense_alone_has_no_bootstrap() {
    let place = Place::new();
    let lower = Layer::default().file("a", b"1").bytes();
    let upper = Layer::default().link("b", "a").file("c", b"2").bytes();
    place.image(&[lower, upper]);
    place.convert(&["--layer-bootstraps"]).success();
    let digests = digests(&place);
    let names = |digest: &str| file::toc(&file_of(&place, &digest["sha256:".len()..])).len();
    assert_eq!((names(&digests[0]), names(&digests[1])), (5, 4));
    assert_eq!(paths(&image(&place).1), ["", "a", "b", "c"]);
}

#[test]
fn a_flat_blob_starts_with_its_device() {
    let place = Place::new();
    let (one, two) = (b"x".repeat(10_000), b"y".repeat(5000));
    place.image(&[Layer::default().file("a", &one).file("b", &two).bytes()]);
    place.convert(&["--flat", "--chunk-size", "8KiB"]).success();
    let file = file_of(&place, &image(&place).0[0].id);
    assert_eq!((&file[..10_000], &file[12_288..17_288]), (&one[..], &two[..]));
    assert!(file[10_000..12_288].iter().all(|&byte| byte == 0));
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let place = Place::new();
    place.image(&[Layer::default().file("a", b"1").bytes()]);
    for options in [
        &["--flat", "--compressor", "zstd"][..],
        &["--batch-size", "64KiB", "--compressor", "none"],
        &["--batch-size", "128KiB", "--chunk-size", "64KiB"],
        &["--flat", "--batch-size", "64KiB"],
        &["--digester", "md5"],
    ] {
        place.convert(options).code(2);
    }
}
