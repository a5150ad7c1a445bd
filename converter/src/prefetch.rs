//! What is to be fetched ahead: patterns and lists, resolved in the merged image.

use std::collections::HashSet;

use rafs::Tree;
use rafs::build::BuildError;
use rafs::hints::{FILE_COUNT_MAX, FileHint, Hints, TEXT_LEN_MAX};
use rafs::tree::{Content, InodeId};

mod glob;

pub use glob::Glob;

/// What to fetch ahead, as it was asked for: first the list, then the patterns, each in order.
#[derive(Clone, Debug, Default)]
pub struct Prefetch {
    /// A list of files.
    pub hints: Hints,
    /// Patterns of paths. A directory stands for all that is in it.
    pub patterns: Vec<Glob>,
}

/// What of it is in the image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// For readers of this project. Paths that are not UTF-8 cannot be listed there.
    pub(crate) hints: Hints,
    /// For readers of RAFS, each once.
    pub(crate) inodes: Vec<InodeId>,
    /// Paths and patterns that meet nothing.
    pub(crate) missing: Vec<String>,
}

impl Prefetch {
    /// Looks everything up in an image.
    pub(crate) fn find(&self, tree: &Tree) -> Result<Found, BuildError> {
        let mut finder = Finder {
            tree,
            found: Found::default(),
            paths: HashSet::new(),
            inodes: HashSet::new(),
        };
        for hint in &self.hints.files {
            finder.hint(hint)?;
        }
        for pattern in &self.patterns {
            finder.pattern(pattern)?;
        }
        Ok(finder.found)
    }
}

impl Found {
    /// The hints as they lie in an image, if there are any.
    pub(crate) fn text(&self) -> Result<Option<Vec<u8>>, BuildError> {
        if self.hints.files.is_empty() {
            return Ok(None);
        }
        // Paths of an image are clean, and files and ranges were counted; only the length is left to be wrong.
        self.hints.to_json().map(Some).map_err(|_| BuildError::TooLarge {
            what: "the text of all paths to prefetch",
            limit: TEXT_LEN_MAX as u64,
        })
    }
}

struct Finder<'a> {
    tree: &'a Tree,
    found: Found,
    /// Paths that patterns have met.
    paths: HashSet<Vec<u8>>,
    inodes: HashSet<InodeId>,
}

impl<'a> Finder<'a> {
    fn hint(&mut self, hint: &FileHint) -> Result<(), BuildError> {
        let mut parts = crate::name::components(hint.path.as_bytes());
        let inode = parts.try_fold(Tree::ROOT, |at, part| {
            self.tree.names(at).and_then(|names| names.get(part)).copied()
        });
        let Some(inode) = inode else {
            self.found.missing.push(hint.path.clone());
            return Ok(());
        };
        let mut hint = hint.clone();
        if let Content::Regular { size, .. } = self.tree.node(inode).content {
            hint.ranges.retain_mut(|range| {
                range.end = range.end.min(size);
                !range.is_empty()
            });
        }
        self.found.hints.files.push(hint);
        self.add(inode)
    }

    /// Adds what a pattern meets, in order of paths. What is in a directory that it meets comes with it.
    fn pattern(&mut self, pattern: &Glob) -> Result<(), BuildError> {
        let mut is_met = false;
        let mut ahead: Vec<(Vec<&'a [u8]>, InodeId)> = vec![(Vec::new(), Tree::ROOT)];
        while let Some((path, inode)) = ahead.pop() {
            if pattern.matches(&path) {
                is_met = true;
                self.met(&path, inode)?;
                continue;
            }
            let names = self.tree.names(inode).into_iter().flatten();
            ahead.extend(names.rev().map(|(name, &child)| {
                let mut path = path.clone();
                path.push(name);
                (path, child)
            }));
        }
        if !is_met {
            self.found.missing.push(pattern.to_string());
        }
        Ok(())
    }

    fn met(&mut self, path: &[&[u8]], inode: InodeId) -> Result<(), BuildError> {
        let text = [b"/", path.join(&b'/').as_slice()].concat();
        if !self.paths.insert(text.clone()) {
            return Ok(());
        }
        if let Ok(path) = String::from_utf8(text) {
            self.found.hints.files.push(FileHint {
                path,
                class: None,
                ranges: Vec::new(),
            });
        }
        self.add(inode)
    }

    fn add(&mut self, inode: InodeId) -> Result<(), BuildError> {
        if self.inodes.insert(inode) {
            self.found.inodes.push(inode);
        }
        match self.found.hints.files.len().max(self.found.inodes.len()) > FILE_COUNT_MAX {
            true => Err(BuildError::TooLarge {
                what: "the list of files to prefetch",
                limit: FILE_COUNT_MAX as u64,
            }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rafs::tree::{Attr, Node};

    use super::*;

    fn add(tree: &mut Tree, parent: InodeId, name: &[u8], content: Content) -> InodeId {
        let id = tree.add(Node {
            attr: Attr::default(),
            content,
        });
        tree.names_mut(parent).unwrap().insert(name.to_vec(), id);
        id
    }

    fn tree() -> (Tree, [InodeId; 4]) {
        let mut tree = Tree::new(Attr::default());
        let dir = || Content::Directory(BTreeMap::new());
        let file = |size| Content::Regular {
            size,
            chunks: Vec::new(),
        };
        let lib = add(&mut tree, Tree::ROOT, b"lib", dir());
        let one = add(&mut tree, lib, b"a.so", file(100));
        let other = add(&mut tree, lib, b"b.so", file(0));
        tree.names_mut(Tree::ROOT)
            .unwrap()
            .insert(b"link.so".to_vec(), one);
        let odd = add(&mut tree, Tree::ROOT, b"\xff.so", file(0));
        (tree, [lib, one, other, odd])
    }

    fn find(tree: &Tree, list: &str, patterns: &[&str]) -> Found {
        let prefetch = Prefetch {
            hints: Hints::parse(format!(r#"{{"version":"v1","files":[{list}]}}"#).as_bytes()).unwrap(),
            patterns: patterns.iter().map(|text| text.parse().unwrap()).collect(),
        };
        prefetch.find(tree).unwrap()
    }

    fn paths(found: &Found) -> Vec<&str> {
        found.hints.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn lists_come_before_patterns_and_inodes_once() {
        let (tree, [_, one, other, odd]) = tree();
        let found = find(&tree, r#"{"path":"/lib/b.so"}"#, &["**/*.so", "lib/a*"]);
        assert_eq!(paths(&found), ["/lib/b.so", "/lib/a.so", "/lib/b.so", "/link.so"]);
        assert_eq!(found.inodes, [other, one, odd]);
        assert_eq!(found.missing, Vec::<String>::new());
    }

    #[test]
    fn a_directory_stands_for_what_is_in_it() {
        let (tree, [lib, ..]) = tree();
        let found = find(&tree, "", &["/l*b**"]);
        assert_eq!(
            (paths(&found), found.inodes.as_slice()),
            (vec!["/lib"], &[lib][..])
        );
        let all = find(&tree, "", &["/"]);
        assert_eq!(
            (paths(&all), all.inodes.as_slice()),
            (vec!["/"], &[Tree::ROOT][..])
        );
    }

    #[test]
    fn ranges_end_with_the_file_and_what_is_missing_is_told() {
        let (tree, [_, one, ..]) = tree();
        let list = r#"{"path":"/lib/a.so","ranges":[[0,10],[90,20],[100,1]]},{"path":"/lib/none"},{"path":"/lib/a.so/x"}"#;
        let found = find(&tree, list, &["/no*"]);
        assert_eq!(found.hints.files[0].ranges, [0..10, 90..100]);
        assert_eq!(found.inodes, [one]);
        assert_eq!(found.missing, ["/lib/none", "/lib/a.so/x", "/no*"]);
    }
}
