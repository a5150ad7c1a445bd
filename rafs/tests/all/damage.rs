//! One thing wrong in an image: the checker names it, and readers go on with the rest.

use rafs::image::{Error, Fault, check};
use rafs::{FileType, Image, Nid};

use crate::model;

/// The sample image, and where things lie in it.
struct Sample {
    bytes: Vec<u8>,
    image: Image<Vec<u8>>,
}

impl Sample {
    fn new() -> Self {
        let (tree, blobs) = model::sample();
        let bytes = model::write(&tree, &blobs);
        let image = Image::open(bytes.clone()).unwrap();
        Sample { bytes, image }
    }

    fn nid(&self, path: &[&str]) -> Nid {
        path.iter().fold(self.image.root(), |nid, name| {
            let dir = self.image.inode(nid).unwrap();
            self.image.lookup(&dir, name.as_bytes()).unwrap().unwrap().nid
        })
    }

    /// Byte offset of an inode.
    fn inode(&self, path: &[&str]) -> usize {
        self.meta() + self.nid(path).0 as usize * 32
    }

    fn meta(&self) -> usize {
        self.number(1024 + 40) as usize * 4096
    }

    fn chunk_table(&self) -> usize {
        self.number(1152 + 24) as usize
    }

    /// Byte offset of a directory's first entry, if the directory is all inline.
    fn entries(&self, path: &[&str]) -> usize {
        self.inode(path) + 64
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        assert_ne!(&self.bytes[at..at + bytes.len()], bytes, "nothing would change");
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn faults(&self) -> Vec<Fault> {
        check(&Image::open(self.bytes.clone()).unwrap())
    }

    /// The one fault that there should be, as text.
    #[track_caller]
    fn fault(&self) -> String {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].to_string()
    }
}

#[test]
fn a_wrong_link_count() {
    let mut sample = Sample::new();
    let at = sample.inode(&["-first1"]);
    sample.put(at + 44, &[9]);
    assert_eq!(
        sample.fault(),
        format!("byte {at}: /-first1: the link count is 9, but should be 2")
    );
}

#[test]
fn an_entry_of_another_kind_than_its_inode() {
    let mut sample = Sample::new();
    let at = sample.entries(&[]);
    sample.put(at + 10, &[6]);
    assert_eq!(
        sample.fault(),
        format!("byte {at}: /-first0: the inode is of another kind than the entry says")
    );
}

#[test]
fn a_directory_inside_itself() {
    let mut sample = Sample::new();
    let root = sample.image.root().0.to_le_bytes();
    let at = sample.entries(&[]);
    sample.put(at, &root);
    sample.put(at + 10, &[2]);
    let faults: Vec<_> = sample.faults().iter().map(ToString::to_string).collect();
    assert!(
        faults[0].contains("/-first0: the directory has several names, or is in a loop"),
        "{faults:?}"
    );
}

#[test]
fn names_out_of_order_and_all_faults_behind_the_first() {
    let mut sample = Sample::new();
    let first = sample.entries(&[]);
    let name = first + usize::from(sample.bytes[first + 8]);
    assert_eq!(&sample.bytes[name..name + 7], b"-first0");
    sample.put(name + 6, b"9");
    let links = sample.inode(&["dir"]) + 44;
    sample.put(links, &[7]);
    let faults: Vec<_> = sample.faults().iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("names are not in order"), "{faults:?}");
    assert!(faults[1].contains("/dir: the link count is 7"), "{faults:?}");
}

#[test]
fn a_name_with_a_slash() {
    let mut sample = Sample::new();
    let first = sample.entries(&[]);
    let name = first + usize::from(sample.bytes[first + 8]);
    sample.put(name + 1, b"/");
    let faults: Vec<_> = sample.faults().iter().map(ToString::to_string).collect();
    assert!(faults[0].contains("a name holds a slash or a NUL"), "{faults:?}");
    let image = Image::open(sample.bytes).unwrap();
    let root = image.inode(image.root()).unwrap();
    let first = image.entries_from(&root, 0).unwrap().next().unwrap();
    assert!(matches!(first, Err(Error::Corrupt { .. })));
    let second = image.entries_from(&root, 1).unwrap().next().unwrap();
    assert_eq!(second.unwrap().name, b"-first1");
}

#[test]
fn an_inode_over_another() {
    let mut sample = Sample::new();
    let (one, other) = (sample.nid(&["-first0"]).0, sample.nid(&["-first1"]).0);
    assert!(one < other);
    // An empty attribute of the right length reaches into the next inode.
    let at = sample.inode(&["-first0"]);
    let room = ((other - one) * 32 - 64) as usize;
    let value = room - 12 - 4 - 1 + 64;
    sample.put(at + 2, &((((room + 64) - 12) / 4 + 1) as u16).to_le_bytes());
    let mut entry = vec![0; 12];
    entry.extend_from_slice(&[1, 1]);
    entry.extend_from_slice(&(value as u16).to_le_bytes());
    entry.push(b'x');
    sample.put(at + 64, &entry);
    let fault = sample.fault();
    assert!(
        fault.contains("/-first1: the inode overlaps something else"),
        "{fault}"
    );
}

#[test]
fn a_chunk_outside_its_blob() {
    let mut sample = Sample::new();
    let at = sample.chunk_table();
    sample.put(at + 48, &[0xFF; 6]);
    let faults: Vec<_> = sample.faults().iter().map(ToString::to_string).collect();
    assert!(
        faults[0].starts_with(&format!("byte {at}: a chunk lies outside its blob")),
        "{faults:?}"
    );
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("/-first1: a chunk lies outside")),
        "{faults:?}"
    );
}

#[test]
fn a_chunk_index_that_disagrees_with_the_chunk_table() {
    let mut sample = Sample::new();
    let nid = sample.nid(&["-first1"]);
    let inode = sample.image.inode(nid).unwrap();
    let xattrs = usize::from(sample.bytes[sample.inode(&["-first1"]) + 2]);
    let indexes = (sample.inode(&["-first1"]) + 64 + 12 + 4 * (xattrs - 1)).next_multiple_of(8);
    sample.put(indexes + 4, &[1]);
    let fault = sample.fault();
    assert!(
        fault.contains("/-first1: a chunk index and the chunk table disagree"),
        "{fault}"
    );
    let image = Image::open(sample.bytes.clone()).unwrap();
    let good = image.extents(&inode, 4096..u64::MAX).unwrap();
    assert_eq!(good.map(Result::unwrap).count(), 2);
}

#[test]
fn widened_chunk_bits_change_nothing() {
    let mut sample = Sample::new();
    let at = sample.inode(&["-first1"]);
    sample.put(at + 16, &[0x22]);
    assert_eq!(sample.faults(), []);
}

#[test]
fn compact_inodes_are_read() {
    let mut sample = Sample::new();
    let at = sample.inode(&["-first4"]);
    let mut compact = [0_u8; 32];
    compact[4..6].copy_from_slice(&(0o020_000_u16 | 0o640).to_le_bytes());
    compact[6] = 2;
    compact[16..20].copy_from_slice(&0x105_u32.to_le_bytes());
    compact[24..26].copy_from_slice(&1000_u16.to_le_bytes());
    compact[26..28].copy_from_slice(&2000_u16.to_le_bytes());
    sample.put(at, &compact);
    assert_eq!(sample.faults(), []);
    let image = Image::open(sample.bytes.clone()).unwrap();
    let inode = image.inode(sample.nid(&["-first4"])).unwrap();
    assert_eq!(inode.file_type, FileType::CharDevice);
    assert_eq!((inode.permissions, inode.nlink, inode.rdev), (0o640, 2, 0x105));
    assert_eq!((inode.uid, inode.gid), (1000, 2000));
    assert_eq!(image.xattrs(&inode).unwrap().count(), 0);
}

#[test]
fn tables_that_overlap() {
    let mut sample = Sample::new();
    let blob_table: [u8; 8] = sample.bytes[1152 + 8..][..8].try_into().unwrap();
    sample.put(1152 + 24, &blob_table);
    let error = Image::open(sample.bytes).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Corrupt {
                what: "two tables overlap",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn features_of_others_are_named() {
    for (at, byte, name) in [
        (1024 + 12, 9, "tarfs"),
        (1024 + 80, 0x0D, "EROFS features"),
        (1152 + 1, 0x03, "tarfs"),
        (1152 + 3, 0x02, "encryption"),
        (1024 + 4, 1, "checksum"),
    ] {
        let mut sample = Sample::new();
        sample.put(at, &[byte]);
        let error = Image::open(sample.bytes).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn foreign_files_are_named_as_such() {
    for bytes in [Vec::new(), vec![0; 8192], b"#!/bin/sh\n".repeat(1000)] {
        let error = Image::open(bytes).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }
}
