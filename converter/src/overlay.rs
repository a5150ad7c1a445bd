//! Laying layers over each other: whiteouts, replaced files, hard links across layers. Pure.
//!
//! The rules where unpackers disagree: whiteouts hold for lower layers only, wherever in the layer they stand; the
//! last of several members of one name wins; a parent that no layer lists is made 0755 root:root at time 0. On the way
//! to a member, links of its own layer are followed inside the root; links of lower layers give way to directories
//! with the attributes of those they lead to, as they do in containerd's overlayfs, where a layer is unpacked on its
//! own. The last component is never followed.

use std::collections::{BTreeMap, VecDeque};

use rafs::tree::{Attr, ChunkId, InodeId, Node};
use rafs::{Tree, tree};

use crate::error::{LayerError, Problem};
use crate::layer::{Action, Change, Content, refuse};
use crate::name::{CleanPath, components, push};

mod single;

pub use single::single;

#[cfg(test)]
mod tests;

/// Linux gives up after as many links.
const LINK_COUNT_MAX: u32 = 40;

/// File system under construction, lowest layer first.
#[derive(Debug)]
pub struct Overlay {
    tree: Tree,
    /// Inodes so far; the tree numbers them in the order they are added.
    inode_count: u32,
    /// Inodes from here on belong to the layer being applied.
    layer_start: u32,
}

impl Default for Overlay {
    fn default() -> Self {
        Overlay {
            tree: Tree::new(implicit()),
            inode_count: 1,
            layer_start: 1,
        }
    }
}

impl Overlay {
    /// Lays a layer over what is there. `chunks` tells, by slot, which chunk of which blob it is.
    pub fn apply(&mut self, changes: &[Change], chunks: &[ChunkId]) -> Result<(), LayerError> {
        self.layer_start = self.inode_count;
        self.hide(changes)?;
        for change in changes {
            self.apply_one(change, chunks)
                .map_err(|problem| refuse_change(change, problem))?;
        }
        Ok(())
    }

    /// Ends the merge.
    pub fn finish(self) -> Tree {
        self.tree
    }

    /// Takes away what the layer hides. All paths are resolved before any name goes, so that the order of the
    /// whiteouts does not matter.
    fn hide(&mut self, changes: &[Change]) -> Result<(), LayerError> {
        let links = own_links(changes);
        let mut hidden = Vec::new();
        for change in changes {
            let (dir, name) = match (&change.action, change.path.split()) {
                (Action::Whiteout, Some((parent, name))) => (parent, Some(name)),
                (Action::Opaque, _) => (change.path.as_bytes(), None),
                _ => continue,
            };
            let dir = self
                .find_lower_dir(dir, &links)
                .map_err(|problem| refuse_change(change, problem))?;
            hidden.extend(dir.map(|dir| (dir, name)));
        }
        for (dir, name) in hidden {
            let names = self.names_mut(dir);
            match name {
                Some(name) => drop(names.remove(name)),
                None => names.clear(),
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, change: &Change, chunks: &[ChunkId]) -> Result<(), Problem> {
        match (&change.action, change.path.split()) {
            // Unpackers make the folder a whiteout stands in.
            (Action::Whiteout, Some((parent, _))) => self.make_dir(parent).map(drop),
            (Action::Whiteout, None) => Ok(()),
            (Action::Opaque, _) => self.make_dir(change.path.as_bytes()).map(drop),
            (Action::Link { target }, Some((parent, name))) => self.link(parent, name, target),
            (Action::Link { .. }, None) => Err(Problem::RootNotDirectory),
            (
                Action::Put {
                    attr,
                    content: Content::Directory,
                },
                None,
            ) => {
                self.tree.node_mut(Tree::ROOT).attr = attr.clone();
                Ok(())
            }
            (Action::Put { .. }, None) => Err(Problem::RootNotDirectory),
            (Action::Put { attr, content }, Some((parent, name))) => {
                let dir = self.make_dir(parent)?;
                self.put(dir, name, attr, tree_content(content, chunks));
                Ok(())
            }
        }
    }

    fn put(&mut self, dir: InodeId, name: &[u8], attr: &Attr, content: tree::Content) {
        let existing = self.child(dir, name);
        if let Some(id) = existing
            && matches!(content, tree::Content::Directory(_))
            && self.tree.names(id).is_some()
        {
            self.tree.node_mut(id).attr = attr.clone();
            return;
        }
        let id = self.add(Node {
            attr: attr.clone(),
            content,
        });
        self.names_mut(dir).insert(name.to_vec(), id);
    }

    fn link(&mut self, parent: &[u8], name: &[u8], target: &CleanPath) -> Result<(), Problem> {
        let text = || String::from_utf8_lossy(target.as_bytes()).into_owned();
        let Some((target_parent, target_name)) = target.split() else {
            return Err(Problem::LinkToDirectory { target: text() });
        };
        let found = self
            .find_dir(target_parent)?
            .and_then(|dir| self.child(dir, target_name));
        let id = found.ok_or_else(|| Problem::LinkTargetMissing { target: text() })?;
        if self.tree.names(id).is_some() {
            return Err(Problem::LinkToDirectory { target: text() });
        }
        let dir = self.make_dir(parent)?;
        self.names_mut(dir).insert(name.to_vec(), id);
        Ok(())
    }

    /// The directory of the lower layers that a layer with these links means by `path`, or `None` where there is none.
    fn find_lower_dir(&self, path: &[u8], links: &OwnLinks<'_>) -> Result<Option<InodeId>, Problem> {
        let mut walk = Walk::new(path);
        while let Some(name) = walk.next_name() {
            if let Some(target) = links.get(&walk.path_of(&name)[..]) {
                walk.follow(target)?;
                continue;
            }
            match self.child(walk.dir(), &name) {
                Some(id) if self.tree.names(id).is_some() => walk.enter(name, id),
                _ => return Ok(None),
            }
        }
        Ok(Some(walk.dir()))
    }

    /// The directory at `path`, or `None` where there is none.
    fn find_dir(&self, path: &[u8]) -> Result<Option<InodeId>, Problem> {
        let mut walk = Walk::new(path);
        while let Some(name) = walk.next_name() {
            let Some(id) = self.child(walk.dir(), &name) else {
                return Ok(None);
            };
            match &self.tree.node(id).content {
                tree::Content::Directory(_) => walk.enter(name, id),
                tree::Content::Symlink(target) => walk.follow(target)?,
                _ => return Ok(None),
            }
        }
        Ok(Some(walk.dir()))
    }

    /// The directory at `path`, made where there is none. A lower layer's file or link gives way, this layer's file does
    /// not.
    fn make_dir(&mut self, path: &[u8]) -> Result<InodeId, Problem> {
        let mut walk = Walk::new(path);
        while let Some(name) = walk.next_name() {
            let dir = walk.dir();
            let existing = self.child(dir, &name);
            match existing.map(|id| (id, &self.tree.node(id).content)) {
                Some((id, tree::Content::Directory(_))) => walk.enter(name, id),
                Some((id, tree::Content::Symlink(target))) if id.0 >= self.layer_start => {
                    walk.follow(target)?;
                }
                Some((id, _)) if id.0 >= self.layer_start => return Err(Problem::ParentNotDirectory),
                Some(_) | None => {
                    let attr = self.attr_behind_link(&walk.path_of(&name), existing);
                    let content = tree::Content::Directory(BTreeMap::new());
                    let id = self.add(Node { attr, content });
                    self.names_mut(dir).insert(name.clone(), id);
                    walk.enter(name, id);
                }
            }
        }
        Ok(walk.dir())
    }

    /// Attributes of the directory made in place of what is at `path`: those of where it leads, if it is a link.
    fn attr_behind_link(&self, path: &[u8], existing: Option<InodeId>) -> Attr {
        let is_link = |id: &InodeId| matches!(self.tree.node(*id).content, tree::Content::Symlink(_));
        let behind = existing.filter(is_link).and_then(|_| {
            // A link that leads nowhere, or round and round, has no attributes to give.
            self.find_dir(path).ok().flatten()
        });
        behind.map_or_else(implicit, |dir| self.tree.node(dir).attr.clone())
    }

    fn child(&self, dir: InodeId, name: &[u8]) -> Option<InodeId> {
        self.tree.names(dir)?.get(name).copied()
    }

    fn names_mut(&mut self, dir: InodeId) -> &mut BTreeMap<Vec<u8>, InodeId> {
        self.tree.names_mut(dir).expect("walks end in directories")
    }

    fn add(&mut self, node: Node) -> InodeId {
        let id = self.tree.add(node);
        self.inode_count = id.0 + 1;
        id
    }
}

/// Links that a layer lists, by path without links, with their targets.
type OwnLinks<'a> = BTreeMap<&'a [u8], &'a [u8]>;

fn own_links(changes: &[Change]) -> OwnLinks<'_> {
    let mut links = OwnLinks::new();
    for change in changes {
        match &change.action {
            Action::Put {
                content: Content::Symlink(target),
                ..
            } => drop(links.insert(change.path.as_bytes(), target)),
            // The last member of a name wins.
            Action::Put { .. } => drop(links.remove(change.path.as_bytes())),
            _ => {}
        }
    }
    links
}

/// A way through directories that cannot leave the root.
struct Walk {
    /// From the root to where we are.
    dirs: Vec<InodeId>,
    /// Their names, without the root's.
    names: Vec<Vec<u8>>,
    ahead: VecDeque<Vec<u8>>,
    link_count: u32,
}

impl Walk {
    fn new(path: &[u8]) -> Self {
        Walk {
            dirs: vec![Tree::ROOT],
            names: Vec::new(),
            ahead: components(path).map(<[u8]>::to_vec).collect(),
            link_count: 0,
        }
    }

    fn dir(&self) -> InodeId {
        *self.dirs.last().expect("the root is never left")
    }

    /// The next name to look up; `..` is done here.
    fn next_name(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.ahead.pop_front()? {
                name if name == b".." => {
                    self.dirs.truncate(1.max(self.dirs.len() - 1));
                    self.names.pop();
                }
                name => return Some(name),
            }
        }
    }

    fn enter(&mut self, name: Vec<u8>, dir: InodeId) {
        self.dirs.push(dir);
        self.names.push(name);
    }

    /// The path of a name where we are, without links.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.names.join(&b'/');
        push(&mut path, name);
        path
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), Problem> {
        self.link_count += 1;
        if self.link_count > LINK_COUNT_MAX {
            return Err(Problem::TooManyLinks {
                limit: LINK_COUNT_MAX,
            });
        }
        if target.starts_with(b"/") {
            self.dirs.truncate(1);
            self.names.clear();
        }
        let parts: Vec<&[u8]> = components(target).collect();
        parts
            .into_iter()
            .rev()
            .for_each(|part| self.ahead.push_front(part.to_vec()));
        Ok(())
    }
}

fn tree_content(content: &Content, chunks: &[ChunkId]) -> tree::Content {
    match content {
        Content::Directory => tree::Content::Directory(BTreeMap::new()),
        Content::Regular { size, slots } => tree::Content::Regular {
            size: *size,
            chunks: chunks[slots.start as usize..slots.end as usize].to_vec(),
        },
        Content::Symlink(target) => tree::Content::Symlink(target.clone()),
        Content::Special { file_type, rdev } => tree::Content::Special {
            file_type: *file_type,
            rdev: *rdev,
        },
    }
}

/// What a directory is that no layer lists.
fn implicit() -> Attr {
    Attr {
        permissions: 0o755,
        ..Attr::default()
    }
}

fn refuse_change(change: &Change, problem: Problem) -> LayerError {
    refuse(change.path.as_bytes(), change.offset, problem)
}
