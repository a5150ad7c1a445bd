//! Images of the reference builder are read as the reference daemon shows them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rafs::blob::{TOC_TAIL_MAX, Toc, Units};
use rafs::chunk::{decode, verify};
use rafs::image::{Blob, Inode, check};
use rafs::{ChunkRef, Compressor, FileType, Image, Nid};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The images.
pub(crate) const NAMES: [&str; 6] = [
    "zstd-blake3",
    "lz4-sha256",
    "none-sha256",
    "zstd-chunk64k",
    "zstd-batch",
    "zran",
];

/// A file of an image, or of the folder of images.
pub(crate) fn load_fixture(image: &str, name: &str) -> Vec<u8> {
    load(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(image),
        name,
    )
}

/// An image with its blobs.
pub(crate) struct Fixture {
    pub(crate) image: Image<Vec<u8>>,
    folder: PathBuf,
    blobs: HashMap<String, Vec<u8>>,
    /// By position of the blob.
    units: Vec<Units>,
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let image = Image::open(load(&folder, "bootstrap")).unwrap();
        let blobs = (image.blobs().iter())
            .map(|blob| (blob.id.clone(), load(&folder, &blob.id)))
            .collect();
        let units = (image.blobs().iter())
            .map(|blob| {
                let (id, range) = blob.meta_range();
                let file = load(&folder, id);
                Units::read(blob, &file[range.start as usize..range.end as usize]).unwrap()
            })
            .collect();
        Fixture {
            image,
            folder,
            blobs,
            units,
        }
    }

    /// The bootstrap alone.
    pub(crate) fn bootstrap(name: &str) -> Vec<u8> {
        load(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures")
                .join(name),
            "bootstrap",
        )
    }

    /// The file of a blob.
    pub(crate) fn data(&self, blob: &Blob) -> &[u8] {
        &self.blobs[&blob.id]
    }

    /// A blob's chunk infos and their header as if they were stored without compression.
    pub(crate) fn plain_meta(&self, blob: &Blob) -> (Blob, Vec<u8>) {
        let (id, range) = blob.meta_range();
        let file = load(&self.folder, id);
        let (infos, header) =
            file[range.start as usize..range.end as usize].split_at(blob.meta.compressed_size as usize);
        let mut blob = blob.clone();
        let mut plain = match blob.meta.compressor {
            Compressor::Zstd => zstd::decode_all(infos).unwrap(),
            _ => infos.to_vec(),
        };
        blob.meta.compressor = Compressor::None;
        blob.meta.compressed_size = plain.len() as u64;
        let mut header = header.to_vec();
        header[8..12].fill(0);
        header[24..32].copy_from_slice(&blob.meta.compressed_size.to_le_bytes());
        plain.extend_from_slice(&header);
        (blob, plain)
    }

    /// The file that holds a blob's chunk infos.
    pub(crate) fn meta_file(&self, blob: &Blob) -> Vec<u8> {
        load(&self.folder, blob.meta_range().0)
    }

    fn chunk(&self, chunk: &ChunkRef) -> Vec<u8> {
        let number = usize::from(chunk.blob.0);
        let (blob, units) = (&self.image.blobs()[number], &self.units[number]);
        let piece = units.piece(chunk).unwrap();
        let start = piece.unit.stored.offset as usize;
        let stored = &self.blobs[&blob.id][start..start + piece.unit.stored.len as usize];
        let mut out = vec![0; piece.unit.len as usize];
        units.expand(&piece.unit, stored, &mut out).unwrap();
        let content = piece.cut(&out).unwrap();
        verify(chunk, blob.digester, content).unwrap();
        if !blob.has_shared_units() {
            let mut alone = vec![0; content.len()];
            decode(chunk, blob.digester, stored, &mut alone).unwrap();
            assert_eq!(alone, content);
        }
        content.to_vec()
    }

    fn content(&self, inode: &Inode) -> Vec<u8> {
        let mut content = Vec::new();
        for extent in self.image.extents(inode, 0..u64::MAX).unwrap() {
            let extent = extent.unwrap();
            let (skip, len) = (extent.skip as usize, extent.len as usize);
            content.extend_from_slice(&self.chunk(&extent.chunk)[skip..skip + len]);
        }
        content
    }

    /// What the reference daemon's description says of one inode, but for its path and its hard links.
    fn describe(&self, inode: &Inode) -> Map<String, Value> {
        let xattrs: Map<_, _> = (self.image.xattrs(inode).unwrap())
            .map(Result::unwrap)
            .map(|(name, value)| (String::from_utf8(name).unwrap(), hex::encode(value).into()))
            .collect();
        let mut line = json!({
            "uid": inode.uid,
            "gid": inode.gid,
            "mode": format!("{:#o}", inode.permissions),
            "mtime_ns": inode.mtime.secs * 1_000_000_000 + i64::from(inode.mtime.nanos),
            "xattr": xattrs,
        });
        let Value::Object(line) = &mut line else {
            unreachable!()
        };
        if inode.file_type != FileType::Directory {
            line.insert("nlink".into(), inode.nlink.into());
            line.insert("size".into(), inode.size.into());
        }
        let kind = match inode.file_type {
            FileType::Directory => "dir",
            FileType::Regular => {
                let content = hex::encode(Sha256::digest(self.content(inode)));
                line.insert("content".into(), content.into());
                "file"
            }
            FileType::Symlink => {
                let target = hex::encode(self.image.symlink(inode).unwrap());
                line.insert("target".into(), target.into());
                "symlink"
            }
            FileType::CharDevice | FileType::BlockDevice => {
                // The reference writes small numbers only: 8 bits of each part.
                line.insert(
                    "rdev".into(),
                    format!("{}:{}", inode.rdev >> 8, inode.rdev & 0xFF).into(),
                );
                if inode.file_type == FileType::CharDevice {
                    "char"
                } else {
                    "block"
                }
            }
            other => panic!("unexpected {other:?}"),
        };
        line.insert("type".into(), kind.into());
        std::mem::take(line)
    }

    /// All paths with their inodes, without the root.
    fn paths(&self) -> BTreeMap<String, Nid> {
        let mut paths = BTreeMap::new();
        let mut pending = vec![(String::new(), self.image.root())];
        while let Some((path, nid)) = pending.pop() {
            let dir = self.image.inode(nid).unwrap();
            for entry in self.image.entries_from(&dir, 0).unwrap().map(Result::unwrap) {
                if matches!(entry.name, b"." | b"..") {
                    continue;
                }
                let name = std::str::from_utf8(entry.name).unwrap();
                let path = format!("{path}{name}");
                if entry.file_type == FileType::Directory {
                    pending.push((format!("{path}/"), entry.nid));
                }
                paths.insert(path, entry.nid);
            }
        }
        paths
    }
}

/// Reads a file, packed or not.
fn load(folder: &Path, name: &str) -> Vec<u8> {
    match std::fs::read(folder.join(format!("{name}.zst"))) {
        Ok(packed) => zstd::decode_all(packed.as_slice()).unwrap(),
        Err(_) => std::fs::read(folder.join(name)).unwrap(),
    }
}

fn equals_expectation(name: &str) {
    let fixture = Fixture::open(name);
    assert_eq!(check(fixture.image.bytes()), Ok(Vec::new()));
    let expected = std::fs::read_to_string(fixture.folder.parent().unwrap().join("expected.jsonl")).unwrap();
    let expected: BTreeMap<String, Map<String, Value>> = (expected.lines())
        .map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap())
        .map(|line| (line["path"].as_str().unwrap().to_owned(), line))
        .collect();
    let paths = fixture.paths();
    assert_eq!(
        paths.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (path, nid) in &paths {
        let inode = fixture.image.inode(*nid).unwrap();
        let mut line = fixture.describe(&inode);
        line.insert("path".into(), path.clone().into());
        if inode.file_type != FileType::Directory {
            let group: Vec<_> = (paths.iter())
                .filter(|(_, other)| *other == nid && inode.nlink > 1)
                .map(|(path, _)| hex::encode(path))
                .collect();
            line.insert("hlgroup".into(), group.join("00").into());
        }
        assert_eq!(&line, &expected[path], "{path}");
    }
}

#[test]
fn zstd_blake3() {
    equals_expectation("zstd-blake3");
}

#[test]
fn lz4_sha256() {
    equals_expectation("lz4-sha256");
}

#[test]
fn none_sha256() {
    equals_expectation("none-sha256");
}

#[test]
fn zstd_chunk64k() {
    equals_expectation("zstd-chunk64k");
}

#[test]
fn zstd_batch() {
    equals_expectation("zstd-batch");
}

#[test]
fn zran() {
    equals_expectation("zran");
}

#[test]
fn tables_of_contents() {
    for name in ["zstd-blake3", "lz4-sha256", "none-sha256", "zstd-batch", "zran"] {
        let fixture = Fixture::open(name);
        for blob in fixture.image.blobs() {
            let (id, meta) = blob.meta_range();
            let file = load(&fixture.folder, id);
            let tail = &file[file.len() - TOC_TAIL_MAX as usize..];
            let toc = Toc::read(tail, file.len() as u64).unwrap();
            let [infos, header] = ["blob.meta", "blob.meta.header"].map(|name| toc.section(name).unwrap());
            assert_eq!(infos.range.start..header.range.end, meta);
            for section in toc
                .sections()
                .iter()
                .filter(|section| section.name != "image.blob")
            {
                let stored = &file[section.range.start as usize..section.range.end as usize];
                let content = section.expand(stored).unwrap();
                if section.name == "image.boot" && blob.meta_blob.is_none() {
                    // The bootstrap of a layer lies in the blob that it describes, so it cannot name it.
                    let error = Image::open(content).unwrap_err();
                    assert!(error.to_string().contains("single layer"), "{name}: {error}");
                }
            }
        }
    }
}
