//! Path by path: both file systems are listed in the same order and walked side by side.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use bytes::Bytes;
use rafs::tree::{Content, InodeId, Node};
use rafs::{FileType, Image, Nid, Tree};

use super::{DIFFERENCES_MAX, Difference, Differences, Original};
use crate::unpack::device;
use crate::walk::{Step, walk};

/// A path of the original.
struct Name {
    path: Vec<u8>,
    id: InodeId,
}

/// Which paths are one file: by file, its first path and how many there are.
type Links<Id> = HashMap<Id, (usize, u32)>;

pub(super) fn compare(original: &Original, image: &Image<Bytes>) -> Result<Differences, rafs::Error> {
    let names = list(&original.tree);
    let steps = walk(image)?;
    let comparison = Comparison {
        original,
        image,
        original_links: links(names.iter().map(|name| name.id)),
        image_links: links(steps.iter().map(|step| step.inode.nid)),
        names: &names,
        steps: &steps,
        found: Differences::default(),
    };
    comparison.run()
}

/// All paths, parents before children, names in byte order.
fn list(tree: &Tree) -> Vec<Name> {
    let mut names = Vec::new();
    let mut ahead = vec![Name {
        path: Vec::new(),
        id: Tree::ROOT,
    }];
    while let Some(name) = ahead.pop() {
        let children = tree.names(name.id).into_iter().flatten();
        let first = ahead.len();
        ahead.extend(children.map(|(child, id)| Name {
            path: match name.path.is_empty() {
                true => child.clone(),
                false => [&name.path[..], child].join(&b'/'),
            },
            id: *id,
        }));
        ahead[first..].reverse();
        names.push(name);
    }
    names
}

fn links<Id: Eq + std::hash::Hash>(ids: impl Iterator<Item = Id>) -> Links<Id> {
    let mut links = Links::new();
    for (number, id) in ids.enumerate() {
        links.entry(id).or_insert((number, 0)).1 += 1;
    }
    links
}

struct Comparison<'a> {
    original: &'a Original,
    image: &'a Image<Bytes>,
    names: &'a [Name],
    steps: &'a [Step],
    original_links: Links<InodeId>,
    image_links: Links<Nid>,
    found: Differences,
}

impl Comparison<'_> {
    fn run(mut self) -> Result<Differences, rafs::Error> {
        let (mut left, mut right) = (0, 0);
        loop {
            let order = match (self.names.get(left), self.steps.get(right)) {
                (None, None) => return Ok(self.found),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(name), Some(step)) => components(&name.path).cmp(components(&step.path)),
            };
            self.found.path_count += 1;
            match order {
                Ordering::Less => self.differ(&self.names[left].path, "missing", "there", "missing"),
                Ordering::Greater => self.differ(&self.steps[right].path, "added", "missing", "there"),
                Ordering::Equal => self.both(&self.names[left], &self.steps[right])?,
            }
            left += usize::from(order != Ordering::Greater);
            right += usize::from(order != Ordering::Less);
        }
    }

    fn differ(&mut self, path: &[u8], what: &'static str, original: impl Display, rafs: impl Display) {
        self.found.count += 1;
        if self.found.first.len() < DIFFERENCES_MAX {
            self.found.first.push(Difference {
                path: format!("/{}", path.escape_ascii()),
                what,
                original: original.to_string(),
                rafs: rafs.to_string(),
            });
        }
    }

    fn equal<T: PartialEq + Display>(&mut self, path: &[u8], what: &'static str, original: T, rafs: T) {
        if original != rafs {
            self.differ(path, what, original, rafs);
        }
    }

    fn both(&mut self, name: &Name, step: &Step) -> Result<(), rafs::Error> {
        let (original, inode, path) = (self.original, &step.inode, &name.path[..]);
        let node = original.tree.node(name.id);
        if node.file_type() != inode.file_type {
            self.differ(path, "type", kind(node.file_type()), kind(inode.file_type));
            return Ok(());
        }
        let octal = |mode: u16| format!("{mode:04o}");
        self.equal(
            path,
            "mode",
            octal(node.attr.permissions),
            octal(inode.permissions),
        );
        self.equal(path, "uid", node.attr.uid, inode.uid);
        self.equal(path, "gid", node.attr.gid, inode.gid);
        let time = |time: rafs::Timestamp| format!("{}s+{}ns", time.secs, time.nanos);
        self.equal(path, "mtime", time(node.attr.mtime), time(inode.mtime));
        let pairs = self.image.xattrs(inode)?;
        let xattrs = pairs.map(|pair| pair.map(|(name, value)| (name, value.to_vec())));
        let xattrs: BTreeMap<_, _> = xattrs.collect::<Result<_, _>>()?;
        self.equal(path, "xattrs", text(&node.attr.xattrs), text(&xattrs));
        if inode.file_type != FileType::Directory {
            self.links(name, step);
        }
        self.content(node, step)
    }

    /// The names of one file are the names of one file on the other side.
    fn links(&mut self, name: &Name, step: &Step) {
        let (first, count) = self.original_links[&name.id];
        let (image_first, image_count) = self.image_links[&step.inode.nid];
        let describe = |count: u32, path: &[u8]| format!("{count} with the first /{}", path.escape_ascii());
        let original = describe(count, &self.names[first].path);
        let rafs = describe(image_count, &self.steps[image_first].path);
        self.equal(&name.path, "links", original, rafs);
        if count == image_count {
            self.equal(&name.path, "links", count, step.inode.nlink);
        }
    }

    fn content(&mut self, node: &Node, step: &Step) -> Result<(), rafs::Error> {
        let (inode, path) = (&step.inode, &step.path[..]);
        match &node.content {
            Content::Directory(_) => {}
            Content::Symlink(target) => {
                let found = self.image.symlink(inode)?.escape_ascii().to_string();
                self.equal(path, "target", target.escape_ascii().to_string(), found);
            }
            Content::Special { rdev, .. } => {
                let text = |rdev| format!("{:?}", device(rdev));
                self.equal(path, "rdev", text(*rdev), text(inode.rdev));
            }
            Content::Regular { size, .. } if *size != inode.size => {
                self.differ(path, "size", *size, inode.size);
            }
            Content::Regular { chunks, .. } => {
                let original = self.original;
                let extents = self.image.extents(inode, 0..inode.size)?;
                let mut offset = 0u64;
                for (id, extent) in chunks.iter().zip(extents) {
                    let (digest, len) = original.digests[usize::from(id.blob.0)][id.index as usize];
                    let found = extent?.chunk.digest;
                    if digest != found {
                        let what = |digest| format!("{digest} at byte {offset}");
                        self.differ(path, "content", what(digest), what(found));
                        break;
                    }
                    offset += u64::from(len);
                }
            }
        }
        Ok(())
    }
}

/// Order of paths by components, as both sides are listed: `a/b` comes before `a-b`.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::CharDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
    }
}

fn text(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let pairs: Vec<String> = (xattrs.iter())
        .map(|(name, value)| format!("{}=\"{}\"", name.escape_ascii(), value.escape_ascii()))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
