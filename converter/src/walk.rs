//! All paths of an image, parents before children, names in byte order.

use std::collections::HashSet;

use rafs::tree::FileType;
use rafs::{Image, Inode, Nid};

use crate::name::PATH_LEN_MAX;

#[cfg(test)]
mod tests;

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
/// A directory has one name: with two, a small file could hold more paths than anybody can list, or endless ones.
pub fn walk<B: AsRef<[u8]>>(image: &Image<B>) -> Result<Vec<Step>, rafs::Error> {
    let root = image.inode(image.root())?;
    let mut steps = Vec::new();
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
