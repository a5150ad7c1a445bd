//! All paths of an image, parents before children, names in byte order.

use rafs::tree::FileType;
use rafs::{Image, Inode, Nid};

/// Directories nested deeper than Linux can name are a loop, or as bad as one.
const DEPTH_MAX: usize = 2048;

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
pub fn walk<B: AsRef<[u8]>>(image: &Image<B>) -> Result<Vec<Step>, rafs::Error> {
    let root = image.inode(image.root())?;
    let mut steps = Vec::new();
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
                let depth = step.depth + usize::from(!step.path.is_empty());
                if depth > DEPTH_MAX {
                    return Err(corrupt("directories are nested too deep"));
                }
                ahead.push(Step {
                    path,
                    depth,
                    inode: image.inode(nid)?,
                });
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
