//! Checking a whole image: everything the root reaches and everything in the tables, fault by fault.

pub(super) mod claims;
mod format;
mod reserved;
mod tables;

use std::borrow::Cow;
use std::collections::HashMap;

use super::bytes::Bytes;
use super::directory::Entry;
use super::inode::Inode;
use super::superblock::Shape;
use super::{Error, Nid, View};
use crate::layout::BLOCK;
use crate::tree::FileType;
use claims::Claims;

/// Most faults that are reported: a file of noise has one in every block, and nobody reads them all.
pub const FAULTS_MAX: usize = 10_000;

/// Most bytes of a path in a fault: hostile directories nest without end.
const PATH_MAX: usize = 4096;

/// Something wrong in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte offset in the bootstrap.
    pub offset: u64,
    /// The file or directory it concerns, from the root; empty for the superblock and the tables.
    pub path: Vec<u8>,
    /// What is wrong, as a sentence without a full stop.
    pub what: Cow<'static, str>,
}

impl Fault {
    /// What a reader said.
    fn of(error: Error, path: Vec<u8>) -> Self {
        let (offset, what) = match error {
            Error::Foreign { what } => (0, what.into()),
            Error::Corrupt { what, offset } => (offset, what.into()),
            Error::Unsupported { feature, offset } => {
                (offset, format!("unsupported feature: {feature}").into())
            }
        };
        Fault { offset, path, what }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {}: ", self.offset)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path.escape_ascii())?;
        }
        f.write_str(&self.what)
    }
}

/// Reads every superblock and table and walks everything from the root; one fault does not hide the next, not
/// even one that keeps [`Image::open`](super::Image::open) from opening the file.
///
/// At most [`FAULTS_MAX`] faults are returned. The work is bounded by the file's length, whatever it says: bytes
/// that two inodes lay claim to are followed for the first of them only. An error is what says nothing about
/// damage: the file is no RAFS v6 bootstrap, or a sound one of features that this reader does not know.
pub fn check(bytes: &[u8]) -> Result<Vec<Fault>, Error> {
    let bytes = Bytes(bytes);
    let mut errors = Vec::new();
    let shape = Shape::read(bytes, &mut |error| {
        if errors.len() < FAULTS_MAX {
            errors.push(error);
        }
        Ok(())
    });
    let shape = match shape {
        Ok(shape) => shape,
        Err(error @ Error::Corrupt { .. }) => {
            errors.push(error);
            return Ok(errors
                .into_iter()
                .map(|error| Fault::of(error, Vec::new()))
                .collect());
        }
        Err(error) => return Err(error),
    };
    if let Some(&first @ Error::Unsupported { .. }) = errors.first()
        && errors
            .iter()
            .all(|error| matches!(error, Error::Unsupported { .. }))
    {
        return Err(first);
    }
    let mut checker = Checker::new(View { bytes, shape: &shape });
    for error in errors {
        checker.error(error, None);
    }
    checker.run();
    Ok(checker.faults)
}

struct Checker<'a> {
    view: View<'a>,
    faults: Vec<Fault>,
    claims: Claims,
    /// Directories found, breadth first.
    directories: Vec<Directory<'a>>,
    /// Every inode found, with its names.
    links: HashMap<Nid, Links<'a>>,
    /// Names of inodes, the root's among them.
    name_count: u64,
    /// Whether a table is lost that says what the chunks of files are. Every file would be at fault for it.
    is_chunk_lost: bool,
}

/// A directory that was found.
struct Directory<'a> {
    inode: Inode,
    place: Place<'a>,
    subdirectories: u32,
}

/// A name in a directory that was found before.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Position of the directory that holds the name; the root's own name is empty.
    parent: usize,
    name: &'a [u8],
}

/// Links of an inode.
struct Links<'a> {
    offset: u64,
    first: Place<'a>,
    declared: u32,
    seen: u32,
}

impl<'a> Checker<'a> {
    fn new(view: View<'a>) -> Self {
        Checker {
            view,
            faults: Vec::new(),
            claims: Claims::new(view.bytes.len()),
            directories: Vec::new(),
            links: HashMap::new(),
            name_count: 1,
            is_chunk_lost: tables::is_chunk_lost(view),
        }
    }

    fn run(&mut self) {
        self.reserved();
        self.tables();
        let before = self.faults.len();
        self.root();
        let mut next = 0;
        while next < self.directories.len() {
            self.directory(next);
            next += 1;
        }
        // What lies behind a directory that cannot be read is not known to be unreachable.
        let is_whole = self.faults.len() == before;
        if is_whole {
            self.inode_count();
        }
        self.link_counts();
        self.prefetch(is_whole);
    }

    fn fault(&mut self, offset: u64, place: Option<Place<'a>>, what: impl Into<Cow<'static, str>>) {
        if self.faults.len() < FAULTS_MAX {
            let path = place.map(|place| self.path(place)).unwrap_or_default();
            let what = what.into();
            self.faults.push(Fault { offset, path, what });
        }
    }

    /// Notes what a reader said.
    fn error(&mut self, error: Error, place: Option<Place<'a>>) {
        if self.faults.len() < FAULTS_MAX {
            let path = place.map(|place| self.path(place)).unwrap_or_default();
            self.faults.push(Fault::of(error, path));
        }
    }

    fn path(&self, place: Place<'_>) -> Vec<u8> {
        let mut names = vec![place.name];
        let mut len = place.name.len();
        let mut at = place.parent;
        while at != 0 && len < PATH_MAX {
            let place = self.directories[at].place;
            names.push(place.name);
            len += place.name.len() + 1;
            at = place.parent;
        }
        let mut path = if at == 0 { b"/".to_vec() } else { b".../".to_vec() };
        names.reverse();
        path.extend(names.join(&b'/'));
        path
    }

    fn root(&mut self) {
        let place = Place { parent: 0, name: b"" };
        let inode = match self.view.inode(self.view.shape.root) {
            Ok(inode) => inode,
            Err(error) => return self.error(error, Some(place)),
        };
        if inode.file_type != FileType::Directory {
            return self.fault(inode.offset, Some(place), "the root is no directory");
        }
        self.inode(inode, place);
    }

    /// Looks at an inode that was not seen before.
    fn inode(&mut self, inode: Inode, place: Place<'a>) {
        self.links.insert(
            inode.nid,
            Links {
                offset: inode.offset,
                first: place,
                declared: inode.nlink,
                // A directory's links are counted when it is walked.
                seen: match inode.file_type {
                    FileType::Directory => inode.nlink,
                    _ => 1,
                },
            },
        );
        self.reserved_of(&inode, place);
        let claimed = inode.ranges().map(|range| self.claims.claim(range));
        if claimed.contains(&false) {
            return self.fault(inode.offset, Some(place), "the inode overlaps something else");
        }
        match self.view.xattrs(&inode) {
            Ok(xattrs) => {
                if let Some(error) = xattrs.filter_map(Result::err).next() {
                    self.error(error, Some(place));
                }
            }
            Err(error) => self.error(error, Some(place)),
        }
        match inode.file_type {
            FileType::Directory => self.directories.push(Directory {
                inode,
                place,
                subdirectories: 0,
            }),
            FileType::Regular => {
                self.extents(&inode, place);
                self.chunk_format(&inode, place);
            }
            FileType::Symlink => {
                if let Err(error) = self.view.symlink(&inode) {
                    self.error(error, Some(place));
                }
            }
            _ => {}
        }
    }

    /// Looks at every chunk of a file.
    fn extents(&mut self, inode: &Inode, place: Place<'a>) {
        if self.is_chunk_lost {
            return;
        }
        let chunk_size = u64::from(self.view.shape.chunk_size);
        for number in 0..inode.size.div_ceil(chunk_size) {
            let start = number * chunk_size;
            let extents = self.view.extents(inode, start..start.saturating_add(chunk_size));
            let error = match extents {
                Ok(extents) => extents.filter_map(Result::err).next(),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                self.error(error, Some(place));
            }
        }
    }

    /// Looks at every name of a directory.
    fn directory(&mut self, at: usize) {
        let (dir, place) = (self.directories[at].inode, self.directories[at].place);
        let mut previous: &[u8] = b"";
        let mut is_dot_seen = [false; 2];
        for number in 0..dir.size.div_ceil(BLOCK) {
            let block = match self.view.block(&dir, number) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => {
                    self.error(error, Some(place));
                    continue;
                }
            };
            for position in 0..block.count {
                let offset = block.entry_offset(position);
                let entry = match block.entry(position) {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.error(error, Some(place));
                        continue;
                    }
                };
                if previous >= entry.name {
                    self.fault(offset, Some(place), "names are not in order");
                }
                previous = entry.name;
                match entry.name {
                    b"." => is_dot_seen[0] = self.dot(at, at, &entry, offset),
                    b".." => is_dot_seen[1] = self.dot(at, place.parent, &entry, offset),
                    _ => self.child(at, &entry, offset),
                }
            }
        }
        if is_dot_seen.contains(&false) {
            self.fault(dir.offset, Some(place), "the directory lacks \".\" or \"..\"");
        }
    }

    /// Looks at `.` or `..` of a directory, which should lead to the directory `target`.
    fn dot(&mut self, at: usize, target: usize, entry: &Entry<'a>, offset: u64) -> bool {
        if entry.nid != self.directories[target].inode.nid || entry.file_type != FileType::Directory {
            let place = self.directories[at].place;
            self.fault(offset, Some(place), "\".\" or \"..\" leads elsewhere");
        }
        true
    }

    fn child(&mut self, at: usize, entry: &Entry<'a>, offset: u64) {
        let place = Place {
            parent: at,
            name: entry.name,
        };
        let inode = match self.view.inode(entry.nid) {
            Ok(inode) => inode,
            Err(error) => return self.error(error, Some(place)),
        };
        if inode.file_type != entry.file_type {
            self.fault(
                offset,
                Some(place),
                "the inode is of another kind than the entry says",
            );
        }
        self.name_count += 1;
        let is_directory = inode.file_type == FileType::Directory;
        self.directories[at].subdirectories += u32::from(is_directory);
        match self.links.get_mut(&entry.nid) {
            Some(_) if is_directory => {
                self.fault(
                    offset,
                    Some(place),
                    "the directory has several names, or is in a loop",
                );
            }
            Some(links) => links.seen += 1,
            None => self.inode(inode, place),
        }
    }

    fn link_counts(&mut self) {
        for dir in &self.directories {
            if let Some(links) = self.links.get_mut(&dir.inode.nid) {
                links.seen = dir.subdirectories.saturating_add(2);
            }
        }
        let mut wrong: Vec<_> = (self.links.values())
            .filter(|links| links.declared != links.seen)
            .map(|links| (links.offset, links.first, links.declared, links.seen))
            .collect();
        wrong.sort_unstable_by_key(|&(offset, ..)| offset);
        for (offset, place, declared, seen) in wrong {
            let what = format!("the link count is {declared}, but should be {seen}");
            self.fault(offset, Some(place), what);
        }
    }

    fn prefetch(&mut self, is_whole: bool) {
        let start = self.view.shape.tables.prefetch.start;
        for (number, nid) in (0_u64..).zip(self.view.prefetch()) {
            if self.links.contains_key(&nid) {
                continue;
            }
            let offset = start + number * 4;
            if self.view.inode(nid).is_err() {
                self.fault(offset, None, "the prefetch table lists what is no inode");
            } else if is_whole {
                let what = "the prefetch table lists an inode that no name reaches";
                self.fault(offset, None, what);
            }
        }
    }
}
