//! One thing wrong in an image: the checker names it, and readers go on with the rest.

use rafs::build::{self, Options};
use rafs::image::{Error, Fault, check};
use rafs::{FileType, Image, Nid, Tree};

use crate::model;

/// The sample image, and where things lie in it.
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    image: Image<Vec<u8>>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let (tree, blobs) = model::sample();
        let options = Options {
            prefetch: vec![Tree::ROOT],
            ..model::options()
        };
        let bytes = build::bootstrap(&tree, &blobs, &options).unwrap();
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
    pub(crate) fn inode(&self, path: &[&str]) -> usize {
        self.meta() + self.nid(path).0 as usize * 32
    }

    fn meta(&self) -> usize {
        self.number(1024 + 40) as usize * 4096
    }

    pub(crate) fn chunk_table(&self) -> usize {
        self.number(1152 + 24) as usize
    }

    /// Byte offset of a directory's first entry, if the directory is all inline.
    fn entries(&self, path: &[&str]) -> usize {
        self.inode(path) + 64
    }

    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        assert_ne!(&self.bytes[at..at + bytes.len()], bytes, "nothing would change");
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Names in all directories, the root's included.
    pub(crate) fn names(&self) -> usize {
        let mut ahead = vec![self.image.root()];
        let mut count = 1;
        while let Some(nid) = ahead.pop() {
            let dir = self.image.inode(nid).unwrap();
            for entry in self.image.entries_from(&dir, 0).unwrap().map(Result::unwrap) {
                if entry.name != b"." && entry.name != b".." {
                    count += 1;
                    ahead.extend((entry.file_type == rafs::FileType::Directory).then_some(entry.nid));
                }
            }
        }
        count
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        check(&self.bytes).unwrap()
    }

    /// The one fault that there should be, as text.
    #[track_caller]
    pub(crate) fn fault(&self) -> String {
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

/// Offsets and sentences of all faults.
fn found(bytes: &[u8]) -> Vec<(u64, String)> {
    let faults = check(bytes).unwrap();
    faults
        .iter()
        .map(|fault| (fault.offset, fault.what.to_string()))
        .collect()
}

#[track_caller]
fn has(faults: &[(u64, String)], offset: usize, what: &str) {
    let is_it = |(at, text): &(u64, String)| *at == offset as u64 && text.contains(what);
    assert!(faults.iter().any(is_it), "no {what:?} at {offset} in {faults:#?}");
}

#[test]
fn every_table_is_checked_whatever_is_wrong_with_the_others() {
    let mut sample = Sample::new();
    let links = sample.inode(&["-first1"]) + 44;
    let (blobs, chunks) = (sample.number(1152 + 8) as usize, sample.chunk_table());
    let prefetch = sample.number(1152 + 40) as usize;
    assert_ne!(prefetch, 0, "the sample has a prefetch table");
    sample.put(1024 + 4, &[1]); // a checksum
    sample.put(1152, &[0x8F]); // two compressors
    sample.put(1152 + 20, &[1]); // no power of two
    sample.put(1408 + 64, &[0xFF]); // blocks of a device
    sample.put(blobs + 64, &[7]); // number of a blob
    sample.put(blobs + 96, &[1]); // its uncompressed size
    sample.put(chunks + 72, &[0xFF; 4]); // number of a chunk
    sample.put(prefetch, &[0xFF; 4]);
    sample.put(links, &[9]);
    assert!(Image::open(&sample.bytes).is_err());
    let faults = found(&sample.bytes);
    has(&faults, 1028, "superblock checksum");
    has(&faults, 1152, "exactly one compressor");
    has(&faults, 1152 + 20, "the chunk size is not a power of two");
    has(&faults, 1408, "a device has another size than its blob");
    has(&faults, blobs, "a blob's number is not its position");
    has(&faults, blobs, "uncompressed size is not a multiple of 4096");
    has(&faults, chunks, "a chunk's blob or number does not exist");
    has(&faults, prefetch, "the prefetch table lists what is no inode");
    has(&faults, links - 44, "the link count is 9");
    // What follows from these: files with the lost chunk. Nothing else is reported.
    let rest = faults
        .iter()
        .filter(|(_, what)| what.contains("a chunk is not in the chunk table"));
    assert_eq!(faults.len() - rest.count(), 10, "{faults:#?}");
}

#[test]
fn the_tree_is_walked_when_the_tables_are_lost() {
    let mut sample = Sample::new();
    let links = sample.inode(&["dir"]) + 44;
    sample.put(links, &[7]);
    sample.put(1152 + 8, &[1]); // the blob table, not aligned
    let faults = found(&sample.bytes);
    assert_eq!(faults.len(), 2, "{faults:#?}");
    sample.put(1152 + 30, &[0xFF]); // the chunk table, outside the file
    let faults = found(&sample.bytes);
    has(
        &faults,
        1152 + 8,
        "the blob table lies outside the file or is not aligned",
    );
    has(&faults, 1152 + 24, "the chunk table lies outside the file");
    has(&faults, links - 44, "the link count is 7");
    assert!(
        !faults.iter().any(|(_, what)| what.contains("a chunk")),
        "{faults:#?}"
    );
}

#[test]
fn tables_are_checked_when_the_root_is_lost() {
    let mut sample = Sample::new();
    let chunks = sample.chunk_table();
    sample.put(1024 + 14, &[0xFF, 0xFF]);
    sample.put(chunks + 40, &[0xFF; 4]);
    let faults = found(&sample.bytes);
    has(
        &faults,
        sample.meta() + 0xFFFF * 32,
        "an inode lies outside the file",
    );
    has(&faults, chunks, "");
}

#[test]
fn chunks_listed_twice_are_all_found() {
    let mut sample = Sample::new();
    let chunks = sample.chunk_table();
    let blob = sample.bytes[chunks + 32..chunks + 36].to_vec();
    let number = sample.bytes[chunks + 72..chunks + 76].to_vec();
    for entry in [1, 2] {
        let at = chunks + 80 * entry;
        sample.bytes[at + 32..at + 36].copy_from_slice(&blob);
        sample.bytes[at + 72..at + 76].copy_from_slice(&number);
    }
    let faults = found(&sample.bytes);
    has(&faults, chunks + 80, "a chunk is listed twice");
    has(&faults, chunks + 160, "a chunk is listed twice");
}

#[test]
fn a_sound_image_of_unknown_features_is_not_damaged() {
    let mut sample = Sample::new();
    sample.put(1152 + 3, &[0x02]);
    assert!(matches!(
        check(&sample.bytes),
        Err(Error::Unsupported {
            feature: "encryption",
            ..
        })
    ));
}
