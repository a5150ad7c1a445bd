//! All paths of an image, parents before children, names in byte order.

use std::collections::HashSet;

use rafs::tree::FileType;
use rafs::{Image, Inode, Nid};

use crate::name::PATH_LEN_MAX;

#[cfg(test)]
mod tests;

/// Bytes a name takes in its directory at least. More names than fit in the file means that directories share blocks.
const NAME_ROOM_MIN: usize = 12;
/// Bytes of all paths together, by the length of the file: every name costs some 80 bytes there, and paths are seldom
/// longer than a few of that. Deep directories of many names could fill any memory.
const PATH_BYTES_PER_BYTE: usize = 16;
/// Bytes of all paths together that are harmless whatever the file's length.
const PATH_BYTES_FREE: usize = 64 << 20;

/// One path.
#[derive(Clone, Debug)]
pub struct Step {
    /// From the root, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// Components before the name; 0 for the root and what lies in it.
    pub depth: usize,
    /// The inode.
    pub inode: Inode,
}

impl Step {
    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Lists the image from the root.
///
/// A directory has one name: with two, a small file could hold more paths than anybody can list, or endless ones. Nor
/// are there more names than have room in the file.
pub fn walk<B: AsRef<[u8]>>(image: &Image<B>) -> Result<Vec<Step>, rafs::Error> {
    let root = image.inode(image.root())?;
    let mut steps = Vec::new();
    let mut budget = Budget::new(image.bytes().len());
    let mut directories = HashSet::from([root.nid]);
    let mut ahead = vec![Step {
        path: Vec::new(),
        depth: 0,
        inode: root,
    }];
    while let Some(step) = ahead.pop() {
        if step.inode.file_type == FileType::Directory {
            let first = ahead.len();
            for (name, nid) in children(image, &step.inode)? {
                let path = match step.path.is_empty() {
                    true => name,
                    false => [&step.path[..], &name].join(&b'/'),
                };
                if path.len() > PATH_LEN_MAX {
                    return Err(corrupt("a path is longer than 4095 bytes"));
                }
                budget.take(&path)?;
                let inode = image.inode(nid)?;
                if inode.file_type == FileType::Directory && !directories.insert(nid) {
                    return Err(corrupt("a directory has several names, or is in a loop"));
                }
                let depth = step.depth + usize::from(!step.path.is_empty());
                ahead.push(Step { path, depth, inode });
            }
            ahead[first..].reverse();
        }
        steps.push(step);
    }
    Ok(steps)
}

/// How much a walk may still list.
struct Budget {
    names: usize,
    path_bytes: usize,
}

impl Budget {
    fn new(file_len: usize) -> Self {
        let path_bytes = file_len.saturating_mul(PATH_BYTES_PER_BYTE);
        Budget {
            names: file_len / NAME_ROOM_MIN,
            path_bytes: path_bytes.saturating_add(PATH_BYTES_FREE),
        }
    }

    fn take(&mut self, path: &[u8]) -> Result<(), rafs::Error> {
        let left = self.names.checked_sub(1);
        let left = left.zip(self.path_bytes.checked_sub(path.len()));
        (self.names, self.path_bytes) = left.ok_or(corrupt("directories share their blocks"))?;
        Ok(())
    }
}

/// Names of a directory without `.` and `..`, each fit to be one component of a path.
pub(crate) fn children<B: AsRef<[u8]>>(
    image: &Image<B>,
    dir: &Inode,
) -> Result<Vec<(Vec<u8>, Nid)>, rafs::Error> {
    let mut children = Vec::new();
    for entry in image.entries_from(dir, 0)? {
        let entry = entry?;
        match entry.name {
            b"." | b".." => {}
            b"" => return Err(corrupt("a name is empty")),
            name if name.contains(&b'/') || name.contains(&0) => {
                return Err(corrupt("a name contains a slash or NUL"));
            }
            name => children.push((name.to_vec(), entry.nid)),
        }
    }
    Ok(children)
}

fn corrupt(what: &'static str) -> rafs::Error {
    rafs::Error::Corrupt { what, offset: 0 }
}
