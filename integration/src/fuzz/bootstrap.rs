//! Bootstraps: open, walk, look up, extents, attributes, check.

use std::collections::HashSet;

use rafs::image::{Inode, check};
use rafs::{BlobIndex, Error, FileType, Image, Nid};

/// Inodes that are looked at: enough for every kind in a small image, however many names a hostile one has.
const INODE_COUNT_MAX: usize = 2000;
/// Extents that are looked at.
const EXTENT_COUNT_MAX: u64 = 50_000;

/// Opens a bootstrap and reads all that it offers.
///
/// Listings ascend, resume at every cookie, and agree with lookups; extents tile their file; what [`check`] finds no
/// fault with is read without an error, and it finds one in what does not open.
pub fn bootstrap(input: &[u8]) {
    let faults = check(input);
    let image = match Image::open(input) {
        Ok(image) => image,
        Err(error) => return assert_ne!(faults, Ok(Vec::new()), "{error}"),
    };
    let mut reading = Reading {
        image: &image,
        extents_left: EXTENT_COUNT_MAX,
    };
    let outcome = reading.everything();
    let faults = faults.expect("an image that opens can be checked");
    assert!(faults.len() <= rafs::image::FAULTS_MAX);
    if faults.is_empty() {
        outcome.expect("an image without faults can be read");
    }
    // Paths of a flawless image may still be longer than this refuses.
    let _ = converter::walk::walk(&image);
}

struct Reading<'a, 'b> {
    image: &'a Image<&'b [u8]>,
    extents_left: u64,
}

impl Reading<'_, '_> {
    /// Reads on after an error, and returns the first one.
    fn everything(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        let mut seen = HashSet::from([self.image.root()]);
        let mut ahead = vec![self.image.root()];
        while let Some(nid) = ahead.pop() {
            outcome = outcome.and(self.inode(nid, &mut seen, &mut ahead));
        }
        for number in 0..self.image.blobs().len() {
            let blob = &self.image.blobs()[number];
            assert!(blob.id.len() == 64 && blob.id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let blob = BlobIndex(u16::try_from(number).expect("the table ends at 255 blobs"));
            outcome = outcome.and(self.chunks(blob));
        }
        for nid in self.image.prefetch() {
            let inode = self.image.inode(nid);
            outcome = outcome.and(inode.map(drop));
        }
        outcome
    }

    fn chunks(&self, blob: BlobIndex) -> Result<(), Error> {
        let size = self.image.blobs()[usize::from(blob.0)].uncompressed_size;
        for chunk in self.image.chunks(blob) {
            let chunk = chunk?;
            assert_eq!(chunk.blob, blob);
            assert!(chunk.uncompressed.len <= self.image.chunk_size());
            assert!(chunk.uncompressed.offset + u64::from(chunk.uncompressed.len) <= size);
            assert_eq!(self.image.chunk(blob, chunk.index)?, chunk);
        }
        Ok(())
    }

    fn inode(&mut self, nid: Nid, seen: &mut HashSet<Nid>, ahead: &mut Vec<Nid>) -> Result<(), Error> {
        let inode = self.image.inode(nid)?;
        assert_eq!(inode.nid, nid);
        let mut outcome = self.attributes(&inode);
        match inode.file_type {
            FileType::Directory => outcome = outcome.and(self.directory(&inode, seen, ahead)),
            FileType::Symlink => {
                let target = self.image.symlink(&inode);
                outcome = outcome.and(target.map(|target| assert_eq!(target.len() as u64, inode.size)));
            }
            FileType::Regular => outcome = outcome.and(self.extents(&inode)),
            _ => {}
        }
        outcome
    }

    fn attributes(&self, inode: &Inode) -> Result<(), Error> {
        let mut first = HashSet::new();
        for pair in self.image.xattrs(inode)? {
            let (name, value) = pair?;
            let found = self.image.xattr(inode, &name)?;
            // Of two values with one name, the first is found.
            if first.insert(name) {
                assert_eq!(found, Some(value));
            }
        }
        Ok(())
    }

    fn directory(&self, dir: &Inode, seen: &mut HashSet<Nid>, ahead: &mut Vec<Nid>) -> Result<(), Error> {
        let mut names: Vec<(&[u8], Nid, u64)> = Vec::new();
        let mut outcome = Ok(());
        for entry in self.image.entries_from(dir, 0)? {
            match entry {
                Ok(entry) => names.push((entry.name, entry.nid, entry.next)),
                Err(error) => outcome = Err(error),
            }
            if names.len() == INODE_COUNT_MAX {
                break;
            }
        }
        assert!(names.is_sorted_by(|one, other| one.0 < other.0));
        for (at, &(name, nid, next)) in names.iter().enumerate() {
            assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
            if outcome.is_ok() {
                let found = self.image.lookup(dir, name)?.map(|entry| entry.nid);
                assert_eq!(found, Some(nid), "a listed name is found");
            }
            if let Some(&(following, ..)) = names.get(at + 1) {
                let resumed = self.image.entries_from(dir, next)?.next().transpose()?;
                assert_eq!(resumed.map(|entry| entry.name), Some(following));
            }
            if seen.len() < INODE_COUNT_MAX && seen.insert(nid) {
                ahead.push(nid);
            }
        }
        let absent = self.image.lookup(dir, b"\x01 no such name");
        outcome.and(absent.map(drop))
    }

    fn extents(&mut self, inode: &Inode) -> Result<(), Error> {
        let chunk_size = u64::from(self.image.chunk_size());
        let wanted = inode.size.div_ceil(chunk_size).min(self.extents_left);
        self.extents_left -= wanted;
        let end = inode.size.min(wanted * chunk_size);
        let mut at = 0;
        for extent in self.image.extents(inode, 0..end)? {
            let extent = extent?;
            assert!(extent.len > 0 && extent.skip + extent.len <= extent.chunk.uncompressed.len);
            assert_eq!(u64::from(extent.skip), at % chunk_size);
            at += u64::from(extent.len);
        }
        assert_eq!(at, end, "extents tile the file");
        let past = self.image.extents(inode, u64::MAX - 1..u64::MAX)?.count();
        assert_eq!(past, usize::from(inode.size == u64::MAX));
        Ok(())
    }
}
