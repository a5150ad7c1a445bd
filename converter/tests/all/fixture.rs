//! Layers and a description of their merged tree that another program made.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use converter::opened::RafsImage;
use converter::walk::{Step, walk};
use proto::image::{ImageSource, Options};
use rafs::FileType;
use serde_json::{Value, json};

use crate::place::{OCI_CONFIG, OCI_MANIFEST, Place, Stored, add_blob, sha256, write_index};

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name),
    )
    .unwrap()
}

pub(crate) fn stored(name: &str) -> Stored {
    let bytes = fixture(name);
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..])
        .read_to_end(&mut tar)
        .unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
    Stored {
        media_type,
        bytes,
        diff_id: format!("sha256:{}", sha256(&tar)),
    }
}

/// Images that the reference builder made of the same layers.
pub(crate) const REFERENCE: [&str; 6] = [
    "lz4-sha256",
    "none-sha256",
    "zran",
    "zstd-batch",
    "zstd-blake3",
    "zstd-chunk64k",
];

fn reference_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rafs/tests/fixtures")
}

pub(crate) fn reference(name: &str) -> Vec<u8> {
    std::fs::read(reference_folder().join(name)).unwrap()
}

/// The bootstrap of one of them.
pub(crate) fn reference_bootstrap(name: &str) -> Vec<u8> {
    zstd::decode_all(&reference(&format!("{name}/bootstrap.zst"))[..]).unwrap()
}

/// Writes one of them as a layout, as the reference converter lays images out.
pub(crate) fn reference_image(place: &Place, layout: &str, name: &str) {
    reference_image_with(place, layout, name, &reference_bootstrap(name));
}

/// The same with another bootstrap.
pub(crate) fn reference_image_with(place: &Place, layout: &str, name: &str, bootstrap: &[u8]) {
    let folder = place.path(layout);
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(reference_folder().join(name))
        .unwrap()
        .collect();
    files.sort_by_key(|file| file.as_ref().unwrap().file_name());
    for file in files {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if path.file_stem().is_some_and(|stem| stem == "bootstrap") {
            continue;
        }
        let is_layer = path.extension().is_none();
        let bytes = if is_layer {
            bytes
        } else {
            zstd::decode_all(&bytes[..]).unwrap()
        };
        let mut layer = add_blob(&folder, proto::lazy::BLOB_MEDIA_TYPE, &bytes);
        // Layers of the original image are not layers of the new one; they only have to be there.
        if !is_layer {
            layer["annotations"] = json!({proto::lazy::BLOB_ANNOTATION: "true"});
            diff_ids.push(layer["digest"].clone());
            layers.push(layer);
        }
    }
    let (bytes, diff_id) = proto::lazy::bootstrap_layer(bootstrap, &[]).unwrap();
    let mut layer = add_blob(&folder, "application/vnd.oci.image.layer.v1.tar+gzip", &bytes);
    layer["annotations"] = json!({
        proto::lazy::BOOTSTRAP_ANNOTATION: "true", proto::lazy::FS_VERSION_ANNOTATION: "6",
    });
    layers.push(layer);
    diff_ids.push(diff_id.to_string().into());
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            {"created_by": "a step"},
            {"created_by": "another"},
            {"created_by": "Nydus Converter", "comment": "Nydus Bootstrap Layer"},
        ],
    });
    let config = add_blob(&folder, OCI_CONFIG, &serde_json::to_vec(&config).unwrap());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
    let manifest = add_blob(&folder, OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    write_index(&folder, &[manifest]);
}

/// Contents by path, hard links included.
fn contents(archive: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut contents: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if entry.header().entry_type() == tar::EntryType::Link {
            content = contents[&*entry.link_name_bytes().unwrap()].clone();
        }
        contents.insert(entry.path_bytes().into_owned(), content);
    }
    contents
}

/// A path as the description has it.
fn describe(image: &RafsImage, steps: &[Step], step: &Step, contents: &BTreeMap<Vec<u8>, Vec<u8>>) -> Value {
    let inode = &step.inode;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let xattrs: BTreeMap<String, String> = image
        .bootstrap
        .xattrs(inode)
        .unwrap()
        .map(|pair| pair.unwrap())
        .map(|(name, value)| (text(&name), hex::encode(value)))
        .collect();
    let mut value = json!({
        "path": text(&step.path), "uid": inode.uid, "gid": inode.gid, "xattr": xattrs,
        "mode": format!("{:#o}", inode.permissions),
        "mtime_ns": inode.mtime.secs * 1_000_000_000 + i64::from(inode.mtime.nanos),
    });
    let (kind, size) = match inode.file_type {
        FileType::Directory => {
            value["type"] = "dir".into();
            return value;
        }
        FileType::Regular => {
            value["content"] = sha256(&contents[&step.path]).into();
            ("file", inode.size)
        }
        FileType::Symlink => {
            value["target"] = hex::encode(image.bootstrap.symlink(inode).unwrap()).into();
            ("symlink", inode.size)
        }
        kind => {
            let rdev = u64::from(inode.rdev);
            value["rdev"] = format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev)).into();
            (
                if kind == FileType::CharDevice {
                    "char"
                } else {
                    "block"
                },
                0,
            )
        }
    };
    let group = steps.iter().filter(|other| other.inode.nid == inode.nid);
    let mut group: Vec<&[u8]> = group.map(|other| &other.path[..]).collect();
    group.sort();
    value["type"] = kind.into();
    value["size"] = size.into();
    value["nlink"] = inode.nlink.into();
    value["hlgroup"] = if inode.nlink > 1 {
        hex::encode(group.join(&0))
    } else {
        String::new()
    }
    .into();
    value
}

/// Everything of the image `dst`, by path.
pub(crate) fn seen(place: &Place) -> BTreeMap<String, Value> {
    let contents = contents(&place.unpacked());
    let location = place.oci("dst").parse().unwrap();
    let platform = "linux/amd64".parse().unwrap();
    let image = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let source = ImageSource::open(&location, &Options::default()).await.unwrap();
        RafsImage::open(source, "dst", Some(&platform)).await.unwrap()
    });
    let steps = walk(&image.bootstrap).unwrap();
    steps
        .iter()
        .filter(|step| !step.path.is_empty())
        .map(|step| describe(&image, &steps, step, &contents))
        .map(|value| (value["path"].as_str().unwrap().to_owned(), value))
        .collect()
}

pub(crate) fn expected(lines: Vec<u8>) -> BTreeMap<String, Value> {
    String::from_utf8(lines)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|value| (value["path"].as_str().unwrap().to_owned(), value))
        .collect()
}

pub(crate) fn assert_equal(seen: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    assert_eq!(expected.len(), 326);
    for (path, value) in expected {
        assert_eq!(seen.get(path), Some(value), "{path}");
    }
    assert_eq!(seen.len(), expected.len());
}

#[test]
fn the_merged_tree_is_what_the_layers_say() {
    let place = Place::new();
    place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
    place.convert(&[]).success();
    assert_equal(&seen(&place), &expected(fixture("truth.jsonl")));
}

#[test]
fn images_of_the_reference_builder_unpack_and_check() {
    for name in REFERENCE {
        let place = Place::new();
        reference_image(&place, "dst", name);
        assert_equal(&seen(&place), &expected(reference("expected.jsonl")));
        let check = place
            .slipway()
            .args(["check", "--data", &place.oci("dst"), "--platform", "linux/amd64"])
            .output()
            .unwrap();
        assert!(check.status.success(), "{name}: {check:?}");
    }
}
