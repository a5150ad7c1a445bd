//! The inodes that names reach, breadth first, each checked and measured.

use super::place::Need;
use super::{BuildError, directory};
use crate::layout::{self, ChunkIndex, ExtendedInode, SYMLINK_MAX, XATTR_VALUE_MAX, XattrEntry, XattrHeader};
use crate::tree::{Attr, Content, FileType, InodeId, Node, Tree};
use crate::xattr;

/// Largest room for attributes: their size is counted in 16 bits, in units of 4 bytes behind the header.
const XATTR_AREA_MAX: u64 = 4 * (u16::MAX as u64 - 1) + 12;

/// One inode of the image.
#[derive(Debug)]
pub(super) struct Visit {
    /// Its number in the tree.
    pub(super) id: InodeId,
    /// The directory it was first found in (the root: itself).
    pub(super) parent: InodeId,
    /// Its links.
    pub(super) nlink: u32,
    /// Bytes of its attributes.
    pub(super) xattr_len: u64,
    /// Bytes of its content, as `stat` gives them.
    pub(super) size: u64,
    /// Room it needs.
    pub(super) need: Need,
}

/// The inodes of the image in order, and where each number of the tree stands among them.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) visits: Vec<Visit>,
    position: Vec<Option<u32>>,
}

impl Walk {
    /// Visits everything that a name reaches.
    pub(super) fn new(tree: &Tree) -> Result<Self, BuildError> {
        if tree.names(Tree::ROOT).is_none() {
            return Err(refuse(Tree::ROOT, "the root is no directory"));
        }
        let mut walk = Walk {
            visits: Vec::new(),
            position: vec![None; tree.node_count()],
        };
        walk.visit(tree, Tree::ROOT, Tree::ROOT)?;
        let mut next = 0;
        while let Some(visit) = walk.visits.get(next) {
            let id = visit.id;
            for (name, &child) in tree.names(id).into_iter().flatten() {
                directory::check(id, name)?;
                let is_directory = tree.node(child).file_type() == FileType::Directory;
                match walk.position(child) {
                    Some(_) if is_directory => {
                        return Err(refuse(child, "the directory has several names"));
                    }
                    Some(at) => walk.visits[at].nlink += 1,
                    None => walk.visit(tree, child, id)?,
                }
                if is_directory {
                    walk.visits[next].nlink += 1;
                }
            }
            next += 1;
        }
        Ok(walk)
    }

    /// Position of an inode in `visits`; `None` if no name reaches it.
    pub(super) fn position(&self, id: InodeId) -> Option<usize> {
        self.position
            .get(id.0 as usize)
            .copied()
            .flatten()
            .map(|at| at as usize)
    }

    fn visit(&mut self, tree: &Tree, id: InodeId, parent: InodeId) -> Result<(), BuildError> {
        let node = tree.node(id);
        check_attr(id, &node.attr)?;
        let xattr_len = xattr_len(id, &node.attr)?;
        let head = size_of::<ExtendedInode>() as u64 + xattr_len;
        let size = match &node.content {
            Content::Directory(_) => directory::len(&directory::names(tree, id, parent)),
            Content::Regular { size, .. } => *size,
            Content::Symlink(target) => symlink_len(id, target)?,
            Content::Special { file_type, .. } => special_len(id, *file_type)?,
        };
        let at = u32::try_from(self.visits.len()).expect("a tree holds fewer than 2^32 inodes");
        self.position[id.0 as usize] = Some(at);
        self.visits.push(Visit {
            id,
            parent,
            nlink: if node.file_type() == FileType::Directory {
                2
            } else {
                1
            },
            xattr_len,
            size,
            need: need(node, head, size),
        });
        Ok(())
    }
}

/// Room for an inode whose header and attributes are `head` bytes.
fn need(node: &Node, head: u64, size: u64) -> Need {
    match &node.content {
        Content::Regular { chunks, .. } if !chunks.is_empty() => {
            let indexes = chunks.len() as u64 * size_of::<ChunkIndex>() as u64;
            Need {
                head: head.next_multiple_of(8) + indexes,
                data: 0,
            }
        }
        Content::Regular { .. } | Content::Special { .. } => Need { head, data: 0 },
        Content::Directory(_) | Content::Symlink(_) => Need { head, data: size },
    }
}

fn refuse(inode: InodeId, what: &'static str) -> BuildError {
    BuildError::Inode { inode, what }
}

fn check_attr(id: InodeId, attr: &Attr) -> Result<(), BuildError> {
    if attr.permissions > 0o7777 {
        return Err(refuse(id, "permissions have more than 12 bits"));
    }
    if attr.mtime.nanos >= 1_000_000_000 {
        return Err(refuse(
            id,
            "the modification time has a second's worth of nanoseconds",
        ));
    }
    Ok(())
}

fn symlink_len(id: InodeId, target: &[u8]) -> Result<u64, BuildError> {
    match target.len() as u64 {
        0 => Err(refuse(id, "the symbolic link has no target")),
        len if len > SYMLINK_MAX => Err(refuse(id, "the symbolic link's target is longer than 4096 bytes")),
        _ if target.contains(&0) => Err(refuse(id, "the symbolic link's target holds a NUL")),
        len => Ok(len),
    }
}

fn special_len(id: InodeId, file_type: FileType) -> Result<u64, BuildError> {
    match file_type {
        FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket => Ok(0),
        FileType::Regular | FileType::Directory | FileType::Symlink => {
            Err(refuse(id, "the kind is not that of a special file"))
        }
    }
}

/// Bytes of an inode's attributes, their header included.
fn xattr_len(inode: InodeId, attr: &Attr) -> Result<u64, BuildError> {
    if attr.xattrs.is_empty() {
        return Ok(0);
    }
    let mut total = size_of::<XattrHeader>() as u64;
    for (name, value) in &attr.xattrs {
        let refuse = |what| BuildError::Xattr {
            inode,
            name: name.clone(),
            what,
        };
        let Some((_, suffix)) = xattr::split(name) else {
            return Err(refuse(
                "names must start with user., trusted. or security., or be a POSIX ACL",
            ));
        };
        if suffix.len() > layout::NAME_MAX || suffix.contains(&0) {
            return Err(refuse(
                "the name is longer than 255 bytes behind its prefix, or holds a NUL",
            ));
        }
        if value.len() > XATTR_VALUE_MAX {
            return Err(refuse("the value is longer than 65535 bytes"));
        }
        let entry = size_of::<XattrEntry>() + suffix.len() + value.len();
        total += entry.next_multiple_of(4) as u64;
        if total > XATTR_AREA_MAX {
            return Err(refuse(
                "the attributes of the inode are larger than 256 KiB together",
            ));
        }
    }
    Ok(total)
}
