//! The file tree of a session: numbers, attributes and names, over the images that are served. Pure.
//!
//! | number | is |
//! |---|---|
//! | 1 | the root: of the node's tree, or of the one image |
//! | 2 | `images`, in the node's tree |
//! | image << 40 \| nid | an inode of an image |
//!
//! A number means the same for ever: image numbers are never reused and a bootstrap never changes.

mod answer;

use std::ops::ControlFlow;
use std::sync::Arc;

use rafs::image::Extent;
use rafs::{FileType, Inode, Nid, Timestamp};

use crate::image::{Images, Served};
use crate::server::ImageId;

pub(crate) use answer::{Attr, Error, Lifetime, Listed, Totals};

/// Number of the root.
pub(crate) const ROOT: u64 = 1;

/// Number of the folder `images`.
pub(crate) const IMAGES: u64 = 2;

/// Name of the folder of images.
pub(crate) const IMAGES_NAME: &str = "images";

/// Bits of an inode's number within its image.
const NID_BITS: u32 = 40;

/// Unit of `st_blocks`.
const BLOCK_LEN: u64 = 512;

/// What number 1 stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Top {
    /// A folder with `images` in it.
    Node,
    /// The root of one image.
    Image(ImageId),
}

/// The tree of a session.
pub(crate) struct Tree {
    top: Top,
    pub(crate) images: Images,
}

enum Place {
    Root,
    Images,
    Inode(Arc<Served>, Inode),
}

impl Tree {
    /// Makes a tree without images.
    pub(crate) fn new(top: Top) -> Self {
        Tree {
            top,
            images: Images::default(),
        }
    }

    /// Finds a name. `None`: it is not there and never will be.
    pub(crate) fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Attr>, Error> {
        match self.place(parent)? {
            Place::Root if name == IMAGES_NAME.as_bytes() => Ok(Some(self.images_attr())),
            Place::Root => Ok(None),
            Place::Images => {
                let served = parse_id(name)
                    .and_then(|id| self.images.listed(id))
                    .ok_or(Error::NotFound)?;
                let root = served.image.inode(served.image.root())?;
                Ok(Some(self.inode_attr(&served, &root)))
            }
            Place::Inode(served, dir) => {
                if dir.file_type != FileType::Directory {
                    return Err(Error::NotDirectory);
                }
                let Some(entry) = served.image.lookup(&dir, name)? else {
                    return Ok(None);
                };
                let inode = served.image.inode(entry.nid)?;
                Ok(Some(self.inode_attr(&served, &inode)))
            }
        }
    }

    /// Shows the attributes of a number.
    pub(crate) fn attr(&self, ino: u64) -> Result<Attr, Error> {
        Ok(match self.place(ino)? {
            Place::Root => folder_attr(ROOT, 3, Timestamp::default()),
            Place::Images => self.images_attr(),
            Place::Inode(served, inode) => self.inode_attr(&served, &inode),
        })
    }

    /// Lists a directory from `cookie` on (0: from the start), until `visit` breaks.
    pub(crate) fn list(
        &self,
        ino: u64,
        cookie: u64,
        visit: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        match self.place(ino)? {
            Place::Root => {
                let names = [(".", ROOT), ("..", ROOT), (IMAGES_NAME, IMAGES)];
                let rest = (1..)
                    .zip(names)
                    .skip(usize::try_from(cookie).unwrap_or(usize::MAX));
                // A visitor that has enough is an end like any other.
                let _ = list_folders(rest, visit);
                Ok(())
            }
            Place::Images => {
                self.list_images(cookie, visit);
                Ok(())
            }
            Place::Inode(served, dir) => self.list_inode(&served, &dir, cookie, visit),
        }
    }

    fn list_inode(
        &self,
        served: &Served,
        dir: &Inode,
        cookie: u64,
        visit: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if dir.file_type != FileType::Directory {
            return Err(Error::NotDirectory);
        }
        let is_root = dir.nid == served.image.root();
        for entry in served.image.entries_from(dir, cookie)? {
            let entry = entry?;
            let ino = match (entry.name, self.top) {
                (b"..", Top::Node) if is_root => IMAGES,
                (b"..", Top::Image(_)) if is_root => ROOT,
                _ => self.number(served, entry.nid),
            };
            let listed = Listed {
                name: entry.name,
                ino,
                file_type: entry.file_type,
                next: entry.next,
            };
            if visit(listed).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Lists `images`. The cookie after an image is its number + 2, so a listing goes on rightly when images come
    /// and go meanwhile.
    fn list_images(&self, cookie: u64, visit: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>) {
        let dots = (1..).zip([(".", IMAGES), ("..", ROOT)]);
        if list_folders(dots.skip(usize::try_from(cookie).unwrap_or(usize::MAX)), visit).is_break() {
            return;
        }
        let mut from = u32::try_from(cookie.saturating_sub(1)).unwrap_or(u32::MAX);
        while let Some(served) = self.images.listed_from(from) {
            let name = served.id.0.to_string();
            let ino = self.number(&served, served.image.root());
            if list_folders(
                [(u64::from(served.id.0) + 2, (name.as_str(), ino))].into_iter(),
                visit,
            )
            .is_break()
            {
                return;
            }
            from = served.id.0.saturating_add(1);
        }
    }

    /// Shows the target of a symbolic link to `show`.
    pub(crate) fn readlink<R>(&self, ino: u64, show: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        match self.place(ino)? {
            Place::Inode(served, inode) if inode.file_type == FileType::Symlink => {
                Ok(show(served.image.symlink(&inode)?))
            }
            _ => Err(Error::WrongKind),
        }
    }

    /// Shows the value of an extended attribute to `show`.
    pub(crate) fn xattr<R>(&self, ino: u64, name: &[u8], show: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        match self.place(ino)? {
            Place::Inode(served, inode) => served
                .image
                .xattr(&inode, name)?
                .map(show)
                .ok_or(Error::NoAttribute),
            Place::Root | Place::Images => Err(Error::NoAttribute),
        }
    }

    /// Lists the names of the extended attributes, each with a NUL after it.
    pub(crate) fn xattr_names(&self, ino: u64) -> Result<Vec<u8>, Error> {
        let mut names = Vec::new();
        if let Place::Inode(served, inode) = self.place(ino)? {
            for attribute in served.image.xattrs(&inode)? {
                names.extend(attribute?.0);
                names.push(0);
            }
        }
        Ok(names)
    }

    /// Where the bytes of a regular file lie, cut to its size.
    pub(crate) fn extents(
        &self,
        ino: u64,
        offset: u64,
        len: u32,
    ) -> Result<(Arc<Served>, Vec<Extent>), Error> {
        let Place::Inode(served, inode) = self.place(ino)? else {
            return Err(Error::IsDirectory);
        };
        match inode.file_type {
            FileType::Regular => {}
            FileType::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::WrongKind),
        }
        let end = offset.saturating_add(u64::from(len)).min(inode.size);
        let range = offset.min(end)..end;
        let extents = served
            .image
            .extents(&inode, range.clone())?
            .collect::<Result<Vec<_>, _>>()?;
        let covered: u64 = extents.iter().map(|extent| u64::from(extent.len)).sum();
        if covered != range.end - range.start {
            return Err(rafs::Error::Corrupt {
                what: "extents do not cover the file",
                offset: 0,
            }
            .into());
        }
        Ok((served, extents))
    }

    /// Sums up what is served.
    pub(crate) fn totals(&self) -> Totals {
        self.images
            .all()
            .iter()
            .fold(Totals { bytes: 0, inodes: 0 }, |sum, served| Totals {
                bytes: sum.bytes.saturating_add(served.bytes_total()),
                inodes: sum.inodes.saturating_add(served.image.inode_count()),
            })
    }

    /// Notes that the kernel was given a number.
    pub(crate) fn remember(&self, ino: u64) {
        if let Some(id) = image_of(ino) {
            self.images.remember(id);
        }
    }

    /// Notes that the kernel gave a number back, `count` times.
    pub(crate) fn forget(&self, ino: u64, count: u64) {
        if let Some(id) = image_of(ino) {
            self.images.forget(id, count);
        }
    }

    fn place(&self, ino: u64) -> Result<Place, Error> {
        let (id, nid) = match (ino, self.top) {
            (ROOT, Top::Node) => return Ok(Place::Root),
            (IMAGES, Top::Node) => return Ok(Place::Images),
            (ROOT, Top::Image(id)) => (id.0, None),
            _ => (
                image_of(ino).ok_or(Error::Stale)?,
                Some(Nid(ino & ((1 << NID_BITS) - 1))),
            ),
        };
        let served = self.images.get(id).ok_or(Error::Stale)?;
        let inode = served.image.inode(nid.unwrap_or_else(|| served.image.root()))?;
        Ok(Place::Inode(served, inode))
    }

    fn number(&self, served: &Served, nid: Nid) -> u64 {
        match self.top {
            Top::Image(_) if nid == served.image.root() => ROOT,
            _ => u64::from(served.id.0) << NID_BITS | nid.0,
        }
    }

    fn images_attr(&self) -> Attr {
        let images = u32::try_from(self.images.all().len()).unwrap_or(u32::MAX);
        folder_attr(IMAGES, images.saturating_add(2), self.images.changed())
    }

    fn inode_attr(&self, served: &Served, inode: &Inode) -> Attr {
        Attr {
            ino: self.number(served, inode.nid),
            file_type: inode.file_type,
            permissions: inode.permissions,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            size: inode.size,
            blocks: inode.size.div_ceil(BLOCK_LEN),
            nlink: inode.nlink,
            rdev: inode.rdev,
        }
    }
}

/// Image numbers in the names of folders: decimal, without sign or leading zero, so that each has one name.
fn parse_id(name: &[u8]) -> Option<u32> {
    let id: u32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    (id.to_string().as_bytes() == name).then_some(id)
}

fn image_of(ino: u64) -> Option<u32> {
    u32::try_from(ino >> NID_BITS).ok().filter(|&id| id > 0)
}

/// Only root passes: images may be private, and containers see them through overlayfs, which was mounted by root.
fn folder_attr(ino: u64, nlink: u32, mtime: Timestamp) -> Attr {
    Attr {
        ino,
        file_type: FileType::Directory,
        permissions: 0o700,
        uid: 0,
        gid: 0,
        mtime,
        size: 0,
        blocks: 0,
        nlink,
        rdev: 0,
    }
}

fn list_folders<'a>(
    folders: impl Iterator<Item = (u64, (&'a str, u64))>,
    visit: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for (next, (name, ino)) in folders {
        visit(Listed {
            name: name.as_bytes(),
            ino,
            file_type: FileType::Directory,
            next,
        })?;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests;
