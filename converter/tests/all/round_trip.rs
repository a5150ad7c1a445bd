//! Convert, unpack, compare path by path with what the layers say.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use tar::EntryType;

use crate::archive::{Layer, Member, listing};
use crate::place::{Packing, Place, Stored, noise};

/// Three layers with something of everything.
fn layers() -> Vec<Vec<u8>> {
    let large = noise(3 << 20, 1);
    [lowest(&large), middle(), highest(&large)]
        .map(Layer::bytes)
        .into()
}

fn lowest(large: &[u8]) -> Layer {
    Layer::default()
        .add(&Member {
            mode: 0o750,
            owner: (1, 2),
            ..Member::new(b"./", EntryType::Directory)
        })
        .dir("etc/")
        .file("etc/passwd", b"root\n")
        .file("etc/shadow", b"secret\n")
        .add(&Member {
            mode: 0o1777,
            mtime: 7,
            ..Member::new(b"tmp/", EntryType::Directory)
        })
        .add(&Member {
            mode: 0o4755,
            content: large,
            ..Member::new(b"bin/tool", EntryType::Regular)
        })
        .link("bin/alias", "bin/tool")
        .symlink("lib", "usr/lib")
        .dir("usr/lib/")
        .file("lib/x", b"through the link")
        .dir("gone/")
        .file("gone/a", b"a")
        .dir("opaque/")
        .file("opaque/lower", b"lower")
        .file("swap-file", b"file")
        .file("swap-dir/x", b"x")
}

fn middle() -> Layer {
    Layer::default()
        .file(".wh.gone", b"")
        .file("opaque/upper", b"upper")
        .file("opaque/.wh..wh..opq", b"")
        .file("etc/.wh.shadow", b"")
        .dir("swap-file/")
        .file("swap-dir", b"now a file")
        .link("etc/passwd-", "etc/passwd")
        .pax(
            false,
            &[
                ("mtime", b"-1.5"),
                ("uid", b"3000000000"),
                ("SCHILY.xattr.user.empty", b""),
                ("SCHILY.xattr.user.note", b"\x00\xff="),
            ],
        )
        .file("odd", b"odd")
}

fn highest(large: &[u8]) -> Layer {
    Layer::default()
        .add(&Member {
            device: (1, 3),
            mode: 0o666,
            ..Member::new(b"dev/null", EntryType::Char)
        })
        .add(&Member {
            device: (259, 300),
            mode: 0o660,
            ..Member::new(b"dev/disk", EntryType::Block)
        })
        .add(&Member {
            mode: 0o600,
            ..Member::new(b"pipe", EntryType::Fifo)
        })
        .file("zeros", &vec![0; 2_500_000])
        .file("copy-of-tool", large)
        .file("empty", b"")
        .add(&Member {
            content: b"bytes",
            ..Member::new(b"\xff\xfe", EntryType::Regular)
        })
}

fn expected() -> Vec<(&'static str, String)> {
    let large = crate::place::sha256(&noise(3 << 20, 1));
    let zeros = crate::place::sha256(&vec![0; 2_500_000]);
    [
        ("./", "Directory 750 1:2 0"),
        ("bin/", "Directory 755 0:0 0"),
        ("bin/alias", &format!("Regular 4755 0:0 0 3145728 bytes {large}")),
        ("bin/tool", "Link 4755 0:0 0 -> bin/alias"),
        (
            "copy-of-tool",
            &format!("Regular 644 0:0 0 3145728 bytes {large}"),
        ),
        ("dev/", "Directory 755 0:0 0"),
        ("dev/disk", "Block 660 0:0 0 (259, 300)"),
        ("dev/null", "Char 666 0:0 0 (1, 3)"),
        ("empty", "Regular 644 0:0 0"),
        ("etc/", "Directory 755 0:0 0"),
        ("etc/passwd", "Regular 644 0:0 0 root\\n"),
        ("etc/passwd-", "Link 644 0:0 0 -> etc/passwd"),
        ("lib", "Symlink 777 0:0 0 -> usr/lib"),
        (
            "odd",
            "Regular 644 3000000000:0 -1.500000000 user.empty= user.note=\\x00\\xff= odd",
        ),
        ("opaque/", "Directory 755 0:0 0"),
        ("opaque/upper", "Regular 644 0:0 0 upper"),
        ("pipe", "Fifo 600 0:0 0"),
        ("swap-dir", "Regular 644 0:0 0 now a file"),
        ("swap-file/", "Directory 755 0:0 0"),
        ("tmp/", "Directory 1777 0:0 7"),
        ("usr/", "Directory 755 0:0 0"),
        ("usr/lib/", "Directory 755 0:0 0"),
        ("usr/lib/x", "Regular 644 0:0 0 through the link"),
        ("zeros", &format!("Regular 644 0:0 0 2500000 bytes {zeros}")),
        ("\\xff\\xfe", "Regular 644 0:0 0 bytes"),
    ]
    .into_iter()
    .map(|(path, line)| (path, line.to_owned()))
    .collect()
}

#[track_caller]
fn assert_tree(place: &Place) {
    let seen = listing(&place.unpacked());
    let seen: Vec<_> = seen
        .iter()
        .map(|(path, line)| (path.as_str(), line.clone()))
        .collect();
    let mut wanted = expected();
    wanted.sort();
    assert_eq!(seen, wanted);
}

#[test]
fn every_compression_of_layers_gives_the_same_tree() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let place = Place::new();
        place.stored_image(
            &layers()
                .iter()
                .map(|tar| Stored::new(tar, packing))
                .collect::<Vec<_>>(),
        );
        place.convert(&[]).success();
        assert_tree(&place);
    }
}

#[test]
fn every_compressor_and_chunk_size_gives_the_same_tree() {
    for options in [["lz4", "1MiB"], ["none", "64KiB"], ["zstd:9", "4KiB"]] {
        let place = Place::new();
        place.image(&layers());
        place
            .convert(&["--compressor", options[0], "--chunk-size", options[1]])
            .success();
        assert_tree(&place);
        place
            .slipway()
            .args(["check", "--data", &place.oci("dst"), "--platform", "linux/amd64"])
            .assert()
            .success();
    }
}

#[test]
fn conversions_of_the_same_image_are_the_same_bytes() {
    let digest = |options: &[&str]| {
        let place = Place::new();
        place.image(&layers());
        place.convert(options).success();
        std::fs::read(place.path("dst").join("index.json")).unwrap()
    };
    let first = digest(&["--jobs", "1"]);
    assert_eq!(first, digest(&["--jobs", "4"]));
    assert_eq!(first, digest(&[]));
}

#[test]
fn layers_become_blobs_of_their_own() {
    let place = Place::new();
    place.image(&layers());
    place.convert(&[]).success();
    let whole = place.manifest("dst");
    // The highest layer alone has the same blob.
    let alone = Place::new();
    alone.image(&layers()[2..]);
    alone.convert(&[]).success();
    assert_eq!(alone.manifest("dst")["layers"][0], whole["layers"][2]);
}

#[test]
fn the_manifest_is_one_a_snapshotter_knows() {
    let place = Place::new();
    let empty = Layer::default()
        .file(".wh.zeros", b"")
        .dir("only-metadata/")
        .bytes();
    place.image(&[layers(), vec![empty]].concat());
    place.convert(&[]).success();
    let manifest = place.manifest("dst");
    let layers = manifest["layers"].as_array().unwrap();
    let (bootstrap, data) = layers.split_last().unwrap();
    assert_eq!(data.len(), 3, "a layer without contents has no blob");
    let config = place.blob("dst", manifest["config"]["digest"].as_str().unwrap());
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    for (layer, diff_id) in data.iter().zip(diff_ids) {
        assert_eq!(
            layer["mediaType"],
            "application/vnd.oci.image.layer.nydus.blob.v1"
        );
        assert_eq!(layer["annotations"]["containerd.io/snapshot/nydus-blob"], "true");
        assert_eq!(layer["digest"], *diff_id);
    }
    assert_eq!(
        bootstrap["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    assert_eq!(
        bootstrap["annotations"]["containerd.io/snapshot/nydus-bootstrap"],
        "true"
    );
    assert_eq!(
        bootstrap["annotations"]["containerd.io/snapshot/nydus-fs-version"],
        "6"
    );
    assert_eq!(diff_ids.len(), layers.len());
    assert_eq!(config["config"]["Env"][0], "PATH=/bin");
    let empty: Vec<_> = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["empty_layer"] == true)
        .collect();
    assert_eq!(empty, [false, false, false, true, false]);
}

#[test]
fn equal_contents_are_stored_once_in_a_layer_and_referenced_once_in_an_image() {
    let place = Place::new();
    let content = noise(100_000, 5);
    let lower = Layer::default().file("a", &content).file("b", &content).bytes();
    let upper = Layer::default().file("c", &content).file("d", b"new").bytes();
    // A blob that brings nothing new is listed in the manifest, but not in the bootstrap.
    let copy = Layer::default().file("e", b"new").file("f", &content).bytes();
    place.image(&[lower, upper, copy]);
    let output = place.convert(&["--json"]).success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["content_len"], 400_006);
    assert_eq!(report["repeated_len"], 100_000);
    assert_eq!(report["shared_len"], 200_003);
    let output = place
        .slipway()
        .args([
            "inspect",
            "--json",
            &place.oci("dst"),
            "--platform",
            "linux/amd64",
        ])
        .unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let chunks: Vec<_> = summary["blobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|blob| &blob["chunk_count"])
        .collect();
    assert_eq!(chunks.len(), 2, "{summary}");
    assert_eq!(listing(&place.unpacked()).len(), 7);
}

#[test]
fn layers_that_occur_twice_and_layers_with_the_same_blob_work() {
    let place = Place::new();
    let layer = Layer::default().file("a", b"content").bytes();
    let same_blob = Layer::default().file("b", b"content").bytes();
    place.image(&[
        layer.clone(),
        Layer::default().file(".wh.a", b"").bytes(),
        layer,
        same_blob,
    ]);
    place.convert(&[]).success();
    let seen: Vec<_> = listing(&place.unpacked()).into_keys().collect();
    assert_eq!(seen, ["./", "a", "b"]);
    assert_eq!(place.manifest("dst")["layers"].as_array().unwrap().len(), 2);
}

#[test]
fn images_without_contents_convert() {
    let place = Place::new();
    place.image(&[Layer::default().dir("only/").bytes()]);
    place.convert(&[]).success();
    assert_eq!(
        listing(&place.unpacked()).into_keys().collect::<Vec<_>>(),
        ["./", "only/"]
    );
    let none = Place::new();
    none.image(&[]);
    none.convert(&[]).success();
    assert_eq!(listing(&none.unpacked()).into_keys().collect::<Vec<_>>(), ["./"]);
}

#[test]
fn folders_hold_what_archives_hold() {
    let place = Place::new();
    place.image(&layers());
    place.convert(&[]).success();
    let folder = place.path("out");
    let unpack = || {
        let mut command = place.slipway();
        command
            .args(["unpack", &place.oci("dst"), "--platform", "linux/amd64"])
            .arg(&folder);
        command
    };
    let output = unpack().assert().success();
    let is_root = rustix::process::geteuid().is_root();
    let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert_eq!(stderr.contains("only root"), !is_root, "{stderr}");
    let stat = |path: &str| std::fs::symlink_metadata(folder.join(path)).unwrap();
    assert_eq!(stat("bin/tool").ino(), stat("bin/alias").ino());
    // Setuid for another than the right owner would be wrong.
    assert_eq!(
        stat("bin/tool").mode() & 0o7777,
        if is_root { 0o4755 } else { 0o755 }
    );
    assert_eq!((stat("odd").mtime(), stat("odd").mtime_nsec()), (-2, 500_000_000));
    assert_eq!((stat("tmp").mtime(), stat("tmp").mode() & 0o7777), (7, 0o1777));
    assert_eq!(
        std::fs::read_link(folder.join("lib")).unwrap().to_str(),
        Some("usr/lib")
    );
    assert_eq!(
        (
            stat("lib").mtime(),
            stat("usr/lib").mtime(),
            stat("bin/tool").mtime()
        ),
        (0, 0, 0)
    );
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(std::fs::read(folder.join("bin/tool")).unwrap(), noise(3 << 20, 1));
    assert_eq!(
        std::fs::read(folder.join("usr/lib/x")).unwrap(),
        b"through the link"
    );
    if is_root {
        assert_eq!(
            (stat("odd").uid(), stat("").uid(), stat("").gid()),
            (3_000_000_000, 1, 2)
        );
        assert_eq!(stat("dev/null").rdev(), rustix::fs::makedev(1, 3));
        assert_eq!(
            xattr::get(folder.join("odd"), "user.note").unwrap().unwrap(),
            b"\x00\xff="
        );
        assert_eq!(
            xattr::get(folder.join("odd"), "user.empty").unwrap().unwrap(),
            b""
        );
    }
    let again = unpack().assert().code(2);
    let stderr = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert!(stderr.contains("is not empty\nhint: "), "{stderr}");
}
