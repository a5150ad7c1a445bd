//! Layers and a description of their merged tree that another program made.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use converter::opened::RafsImage;
use converter::walk::{Step, walk};
use proto::image::{ImageSource, Options};
use rafs::FileType;
use serde_json::{Value, json};

use crate::place::{Place, Stored, sha256};

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

#[test]
fn the_merged_tree_is_what_the_layers_say() {
    let place = Place::new();
    place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
    place.convert(&[]).success();
    let contents = contents(&place.unpacked());
    let location = place.oci("dst").parse().unwrap();
    let image = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let source = ImageSource::open(&location, &Options::default()).await.unwrap();
        RafsImage::open(source, "dst", None).await.unwrap()
    });
    let steps = walk(&image.bootstrap).unwrap();
    let seen: BTreeMap<String, Value> = steps
        .iter()
        .filter(|step| !step.path.is_empty())
        .map(|step| describe(&image, &steps, step, &contents))
        .map(|value| (value["path"].as_str().unwrap().to_owned(), value))
        .collect();
    let truth: BTreeMap<String, Value> = String::from_utf8(fixture("truth.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|value| (value["path"].as_str().unwrap().to_owned(), value))
        .collect();
    assert_eq!(truth.len(), 326);
    for (path, value) in &truth {
        assert_eq!(seen.get(path), Some(value), "{path}");
    }
    assert_eq!(seen.len(), truth.len());
}
