//! The folders of a node's tree that belong to no image: the root, `images` and `blobs`.

use std::ops::ControlFlow;

use rafs::{FileType, Timestamp};

use super::number::Within;
use super::{Attr, BLOBS, BLOBS_NAME, Error, IMAGES, IMAGES_NAME, Listed, ROOT, Tree};
use crate::image::Served;

/// A folder that belongs to no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// Holds the other two.
    Root,
    /// The tree of each image.
    Images,
    /// The blobs of each image.
    Blobs,
}

impl Folder {
    fn number(self) -> u64 {
        match self {
            Folder::Root => ROOT,
            Folder::Images => IMAGES,
            Folder::Blobs => BLOBS,
        }
    }
}

impl Tree {
    pub(super) fn folder_attr(&self, folder: Folder) -> Attr {
        if folder == Folder::Root {
            return folder_attr(ROOT, 4, Timestamp::default());
        }
        let images = u32::try_from(self.images.all().len()).unwrap_or(u32::MAX);
        folder_attr(folder.number(), images.saturating_add(2), self.images.changed())
    }

    /// The number of what a folder shows of an image.
    pub(super) fn number_in(&self, folder: Folder, served: &Served) -> Result<u64, Error> {
        let within = match folder {
            Folder::Blobs => Within::Devices,
            Folder::Root | Folder::Images => Within::Inode(served.image.root()),
        };
        self.number(served, within)
    }

    /// Lists a folder. The cookie after an image is its number + 2, so a listing goes on rightly when images come
    /// and go meanwhile.
    pub(super) fn list_folder(
        &self,
        folder: Folder,
        cookie: u64,
        visit: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let fixed: &[(&str, u64)] = match folder {
            Folder::Root => &[
                (".", ROOT),
                ("..", ROOT),
                (IMAGES_NAME, IMAGES),
                (BLOBS_NAME, BLOBS),
            ],
            Folder::Images | Folder::Blobs => &[(".", folder.number()), ("..", ROOT)],
        };
        let rest = (1..).zip(fixed);
        for (next, (name, ino)) in rest.skip(usize::try_from(cookie).unwrap_or(usize::MAX)) {
            if visit(listed(name, *ino, next)).is_break() {
                return Ok(());
            }
        }
        if folder == Folder::Root {
            return Ok(());
        }
        let mut from = u32::try_from(cookie.saturating_sub(1)).unwrap_or(u32::MAX);
        while let Some(served) = self.images.listed_from(from) {
            let name = served.id.0.to_string();
            let ino = self.number_in(folder, &served)?;
            if visit(listed(&name, ino, u64::from(served.id.0) + 2)).is_break() {
                return Ok(());
            }
            from = served.id.0.saturating_add(1);
        }
        Ok(())
    }
}

fn listed(name: &str, ino: u64, next: u64) -> Listed<'_> {
    Listed {
        name: name.as_bytes(),
        ino,
        file_type: FileType::Directory,
        next,
    }
}

/// Image numbers in the names of folders: decimal, without sign or leading zero, so that each has one name.
pub(super) fn parse_id(name: &[u8]) -> Option<u32> {
    let id: u32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    (id.to_string().as_bytes() == name).then_some(id)
}

/// Only root passes: images may be private, and containers see them through overlayfs, which was mounted by root.
pub(super) fn folder_attr(ino: u64, nlink: u32, mtime: Timestamp) -> Attr {
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
