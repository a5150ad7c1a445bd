//! The file tree of a session: numbers, attributes and names, over the images that are served. Pure.
//!
//! | number | is |
//! |---|---|
//! | 1 | the root: of the node's tree, or of the one image |
//! | 2 | `images`, in the node's tree: a folder for each image |
//! | 3 | `blobs`, in the node's tree: a folder for each image, with its blobs as devices for the kernel's EROFS |
//! | image << 40 \| nid | an inode of an image |
//! | image << 40 \| 1 << 39 | the folder of its blobs |
//! | image << 40 \| (1 << 39) + 1 + blob | one of its blobs, by its place in the blob table |
//!
//! A blob is one per image and not one per node, because what its chunks are is said by the image's bootstrap: an
//! image must not speak for the blobs of others.
//!
//! A number means the same for ever: image numbers are never reused and a bootstrap never changes.

mod answer;
mod blobs;
mod folder;
mod number;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use rafs::{BlobIndex, FileType, Inode, Timestamp};

use crate::fetch::Run;
use crate::image::{Images, Served};
use crate::server::ImageId;

pub(crate) use answer::{Attr, Error, Lifetime, Listed, Totals};
use blobs::{device, device_attr, list_devices};
use folder::{Folder, folder_attr, parse_id};
pub(crate) use number::{BLOBS, IMAGES, ROOT};
use number::{Within, image_of};

/// Name of the folder of images.
pub(crate) const IMAGES_NAME: &str = "images";

/// Name of the folder of blobs.
pub(crate) const BLOBS_NAME: &str = "blobs";

/// Unit of `st_blocks`.
const BLOCK_LEN: u64 = 512;

/// What number 1 stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Top {
    /// A folder with `images` and `blobs` in it.
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
    /// A folder that no image has.
    Folder(Folder),
    /// The folder of an image's blobs.
    Devices(Arc<Served>),
    /// One of an image's blobs.
    Device(Arc<Served>, BlobIndex),
    /// An inode of an image.
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
            Place::Folder(Folder::Root) => match name {
                _ if name == IMAGES_NAME.as_bytes() => Ok(Some(self.folder_attr(Folder::Images))),
                _ if name == BLOBS_NAME.as_bytes() => Ok(Some(self.folder_attr(Folder::Blobs))),
                _ => Ok(None),
            },
            Place::Folder(folder) => {
                let served = parse_id(name)
                    .and_then(|id| self.images.listed(id))
                    .ok_or(Error::NotFound)?;
                self.attr(self.number_in(folder, &served)?).map(Some)
            }
            Place::Devices(served) => {
                let blobs = served.devices()?.iter().zip(0..).map(|(_, blob)| BlobIndex(blob));
                let found = blobs
                    .into_iter()
                    .find(|&blob| served.blob_name(blob).as_bytes() == name);
                found.map(|blob| device_attr(&served, blob)).transpose()
            }
            Place::Device(..) => Err(Error::NotDirectory),
            Place::Inode(served, dir) => {
                if dir.file_type != FileType::Directory {
                    return Err(Error::NotDirectory);
                }
                let Some(entry) = served.image.lookup(&dir, name)? else {
                    return Ok(None);
                };
                let inode = served.image.inode(entry.nid)?;
                self.inode_attr(&served, &inode).map(Some)
            }
        }
    }

    /// Shows the attributes of a number.
    pub(crate) fn attr(&self, ino: u64) -> Result<Attr, Error> {
        match self.place(ino)? {
            Place::Folder(folder) => Ok(self.folder_attr(folder)),
            Place::Devices(_) => Ok(folder_attr(ino, 2, Timestamp::default())),
            Place::Device(served, blob) => device_attr(&served, blob),
            Place::Inode(served, inode) => self.inode_attr(&served, &inode),
        }
    }

    /// Lists a directory from `cookie` on (0: from the start), until `visit` breaks.
    pub(crate) fn list(
        &self,
        ino: u64,
        cookie: u64,
        visit: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        match self.place(ino)? {
            Place::Folder(folder) => self.list_folder(folder, cookie, visit),
            Place::Devices(served) => list_devices(&served, ino, cookie, visit),
            Place::Device(..) => Err(Error::NotDirectory),
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
                _ => self.number(served, Within::Inode(entry.nid))?,
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
            Place::Folder(_) | Place::Devices(_) | Place::Device(..) => Err(Error::NoAttribute),
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

    /// What the bytes of a regular file or a blob are, cut to its size.
    pub(crate) fn runs(&self, ino: u64, offset: u64, len: u32) -> Result<(Arc<Served>, Vec<Run>), Error> {
        let end = offset.saturating_add(u64::from(len));
        match self.place(ino)? {
            Place::Folder(_) | Place::Devices(_) => Err(Error::IsDirectory),
            Place::Device(served, blob) => {
                let runs = device(&served, blob)?.runs(&served.image, offset..end)?;
                Ok((served, runs))
            }
            Place::Inode(served, inode) => match inode.file_type {
                FileType::Regular => {
                    let end = end.min(inode.size);
                    let runs = file_runs(&served, &inode, offset.min(end)..end)?;
                    Ok((served, runs))
                }
                FileType::Directory => Err(Error::IsDirectory),
                _ => Err(Error::WrongKind),
            },
        }
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
        let (id, within) = match (ino, self.top) {
            (ROOT, Top::Node) => return Ok(Place::Folder(Folder::Root)),
            (IMAGES, Top::Node) => return Ok(Place::Folder(Folder::Images)),
            (BLOBS, Top::Node) => return Ok(Place::Folder(Folder::Blobs)),
            (ROOT, Top::Image(id)) => (id.0, None),
            _ => {
                let within = Within::of(ino).ok_or(Error::Stale)?;
                (image_of(ino).ok_or(Error::Stale)?, Some(within))
            }
        };
        let served = self.images.get(id).ok_or(Error::Stale)?;
        let nid = match within {
            Some(Within::Devices) => return Ok(Place::Devices(served)),
            Some(Within::Device(blob)) => return Ok(Place::Device(served, blob)),
            Some(Within::Inode(nid)) => nid,
            None => served.image.root(),
        };
        let inode = served.image.inode(nid)?;
        Ok(Place::Inode(served, inode))
    }

    fn number(&self, served: &Served, within: Within) -> Result<u64, Error> {
        match (self.top, within) {
            (Top::Image(_), Within::Inode(nid)) if nid == served.image.root() => Ok(ROOT),
            _ => within.number(served.id.0).ok_or(Error::Stale),
        }
    }

    fn inode_attr(&self, served: &Served, inode: &Inode) -> Result<Attr, Error> {
        Ok(Attr {
            ino: self.number(served, Within::Inode(inode.nid))?,
            file_type: inode.file_type,
            permissions: inode.permissions,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            size: inode.size,
            blocks: inode.size.div_ceil(BLOCK_LEN),
            nlink: inode.nlink,
            rdev: inode.rdev,
        })
    }
}

fn file_runs(served: &Served, inode: &Inode, range: Range<u64>) -> Result<Vec<Run>, Error> {
    let runs = served
        .image
        .extents(inode, range.clone())?
        .map(|extent| extent.map(Run::Chunk))
        .collect::<Result<Vec<_>, _>>()?;
    let covered: u64 = runs.iter().map(|run| u64::from(run.len())).sum();
    if covered != range.end - range.start {
        return Err(rafs::Error::Corrupt {
            what: "extents do not cover the file",
            offset: 0,
        }
        .into());
    }
    Ok(runs)
}

#[cfg(test)]
mod tests;
