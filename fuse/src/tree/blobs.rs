//! The blobs of an image as files: devices of the kernel's EROFS.

use std::ops::ControlFlow;

use rafs::{BlobIndex, FileType, Timestamp};

use super::number::Within;
use super::{Attr, BLOBS, BLOCK_LEN, Error, Listed};
use crate::device::Device;
use crate::image::Served;

/// The layout of a blob.
pub(super) fn device(served: &Served, blob: BlobIndex) -> Result<&Device, Error> {
    let device = served.devices()?.get(usize::from(blob.0));
    device.ok_or(Error::Stale)
}

/// Shows the attributes of a blob.
pub(super) fn device_attr(served: &Served, blob: BlobIndex) -> Result<Attr, Error> {
    let size = device(served, blob)?.len();
    let ino = Within::Device(blob).number(served.id.0).ok_or(Error::Stale)?;
    Ok(Attr {
        ino,
        file_type: FileType::Regular,
        permissions: 0o400,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        size,
        blocks: size.div_ceil(BLOCK_LEN),
        nlink: 1,
        rdev: 0,
    })
}

/// Lists the blobs of an image, whose folder has the number `ino`.
pub(super) fn list_devices(
    served: &Served,
    ino: u64,
    cookie: u64,
    visit: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let dots = [
        (".".to_owned(), ino, FileType::Directory),
        ("..".to_owned(), BLOBS, FileType::Directory),
    ];
    let blobs = (0..).take(served.devices()?.len()).map(|blob| {
        let ino = Within::Device(BlobIndex(blob))
            .number(served.id.0)
            .ok_or(Error::Stale)?;
        Ok::<_, Error>((served.blob_name(BlobIndex(blob)), ino, FileType::Regular))
    });
    let all = dots.into_iter().map(Ok).chain(blobs).zip(1..);
    for (entry, next) in all.skip(usize::try_from(cookie).unwrap_or(usize::MAX)) {
        let (name, ino, file_type) = entry?;
        let listed = Listed {
            name: name.as_bytes(),
            ino,
            file_type,
            next,
        };
        if visit(listed).is_break() {
            break;
        }
    }
    Ok(())
}
