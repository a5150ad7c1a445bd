//! Whatever the options, the image is what its layers say: read with a reader that shares no code with ours.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount};
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

/// The bootstrap of the image in `dst`.
fn bootstrap(place: &Place) -> Vec<u8> {
    let layer = std::fs::read(place.blob_path("dst", digests(place).last().unwrap())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
    let mut bootstrap = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if &*entry.path_bytes() == b"image/image.boot" {
            entry.read_to_end(&mut bootstrap).unwrap();
        }
    }
    bootstrap
}

/// Reads the image in `dst`.
fn image(place: &Place) -> (Vec<Blob>, Vec<Entry>) {
    second::read(&bootstrap(place), |id| file_of(place, id))
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
        // Our own reader agrees.
        let mut check = place.slipway();
        check.args(["check", "--data", &place.oci("dst"), "--platform", "linux/amd64"]);
        check.assert().success();
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

/// The layer files that the reference builder made of the same layers, by the digests of their chunks.
fn reference(name: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../rafs/tests/fixtures")
        .join(name);
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let blobs = entries.filter(|path| path.file_stem().unwrap().len() == 64);
    let unpacked = blobs.map(|path| zstd::decode_all(&std::fs::read(path).unwrap()[..]).unwrap());
    unpacked
        .map(|file| (section(&file, "blob.digest"), file))
        .collect()
}

/// A section of a layer file, expanded.
fn section(file: &[u8], name: &str) -> Vec<u8> {
    let sections = file::toc(file);
    let section = sections.iter().find(|section| section.name == name).unwrap();
    match name {
        "image.blob" => file[section.stored.clone()].to_vec(),
        _ => file::plain(section, &file[section.stored.clone()]),
    }
}

/// Where chunk infos of 24 bytes and batches agree with those of another builder: everywhere but in stored sizes and
/// offsets, and in checksums, which we do not write.
fn shape(infos: &[u8], chunk_count: usize) -> Vec<Vec<u8>> {
    let (infos, batches) = infos.split_at(24 * chunk_count);
    let info = |info: &[u8]| {
        let is_member = info[7] & 4 != 0;
        let mut shape = info[..8].to_vec();
        shape[7] &= 0xF;
        shape.extend_from_slice(if is_member { &info[16..] } else { &[] });
        shape
    };
    let infos = infos.chunks_exact(24).map(info);
    infos
        .chain(batches.chunks_exact(40).map(|batch| batch[4..].to_vec()))
        .collect()
}

#[test]
fn chunks_are_those_of_the_reference_builder() {
    for (name, options) in [
        ("zstd-blake3", &["--digester", "blake3"][..]),
        ("lz4-sha256", &["--compressor", "lz4"]),
        ("none-sha256", &["--compressor", "none"]),
        ("zstd-chunk64k", &["--chunk-size", "64KiB"]),
        ("zstd-batch", &["--batch-size", "64KiB"]),
    ] {
        let place = Place::new();
        place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
        place
            .convert(&[options, &["--layer-bootstraps"]].concat())
            .success();
        let reference = reference(name);
        for digest in digests(&place).iter().take(2) {
            let ours = file_of(&place, &digest["sha256:".len()..]);
            let digests = section(&ours, "blob.digest");
            // Found by the digests of all chunks in order, so these are equal.
            let theirs = &reference[&digests];
            let equal: &[&str] = match name {
                "none-sha256" => &["image.blob", "blob.meta"],
                _ => &[],
            };
            for section_name in equal {
                assert_eq!(
                    section(&ours, section_name),
                    section(theirs, section_name),
                    "{section_name}"
                );
            }
            if name == "zstd-batch" {
                let shape = |file: &[u8]| shape(&section(file, "blob.meta"), digests.len() / 32);
                assert_eq!(shape(&ours), shape(theirs));
            }
        }
    }
}

/// A mount that ends with the test.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn the_kernel_takes_flat_blobs_for_devices() {
    let place = Place::new();
    place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
    place.convert(&["--flat"]).success();
    let (blobs, entries) = image(&place);
    let [boot, point] = ["boot", "mnt"].map(|name| place.path(name));
    std::fs::write(&boot, bootstrap(&place)).unwrap();
    std::fs::create_dir(&point).unwrap();
    let devices = blobs.iter().map(|blob| {
        let path = place.blob_path("dst", &format!("sha256:{}", blob.id));
        format!("device={}", path.display())
    });
    let options = CString::new(devices.collect::<Vec<_>>().join(",")).unwrap();
    let mounted = mount(
        &boot,
        &point,
        "erofs",
        MountFlags::RDONLY,
        Some(options.as_c_str()),
    );
    match mounted {
        Ok(()) => {}
        // Not root, no EROFS, or none that mounts files (before 6.12).
        Err(Errno::PERM | Errno::NODEV | Errno::NOTBLK) => return,
        Err(error) => panic!("{error}"),
    }
    let mount = Mount(point);
    let mut file_count = 0;
    for entry in &entries {
        let path = mount.0.join(OsStr::from_bytes(&entry.path));
        if path.symlink_metadata().unwrap().is_file() {
            assert_eq!(std::fs::read(&path).unwrap(), entry.data, "{}", path.display());
            file_count += 1;
        }
    }
    assert!(file_count > 100);
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
