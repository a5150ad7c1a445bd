//! One path: its inode, and where its contents lie.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use bytes::Bytes;
use rafs::tree::FileType;
use rafs::{Codec, Image, Inode};
use serde::Serialize;

use crate::error::Error;
use crate::listing::find;
use crate::unpack::device;

/// A path of an image. Bytes that are no printable ASCII are escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathView {
    /// As it was asked for.
    pub path: String,
    /// Number of the inode.
    pub nid: u64,
    /// Kind and permissions as `stat` gives them, in octal.
    pub mode: String,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds of the time.
    pub mtime_nanos: u32,
    /// Major and minor number of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, String>,
    /// Chunks of a regular file, in order.
    pub extents: Vec<ExtentView>,
}

/// One chunk of a file. Offsets and lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtentView {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes of content.
    pub len: u32,
    /// Id of the blob.
    pub blob: String,
    /// Number of the chunk in the blob.
    pub chunk: u32,
    /// Offset in the blob's file.
    pub stored_offset: u64,
    /// Bytes in the blob's file; 0 if they are shared.
    pub stored_len: u32,
    /// Offset in the blob's uncompressed image.
    pub uncompressed_offset: u64,
    /// `raw`, `zstd`, `lz4`, or `shared` if the chunk is cut from what several have in common.
    pub codec: &'static str,
    /// Digest of the content.
    pub digest: String,
}

/// Looks up a path. Symbolic links are not followed.
pub fn look_up(image: &Image<Bytes>, path: &OsStr) -> Result<PathView, Error> {
    let inode = find(image, path)?;
    let shown = path.to_string_lossy();
    view(image, &shown, &inode).map_err(|source| Error::Bootstrap {
        place: shown.clone().into_owned(),
        source,
    })
}

fn view(image: &Image<Bytes>, path: &str, inode: &Inode) -> Result<PathView, rafs::Error> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let xattrs = image.xattrs(inode)?;
    let is_device = matches!(inode.file_type, FileType::CharDevice | FileType::BlockDevice);
    Ok(PathView {
        path: path.to_owned(),
        nid: inode.nid.0,
        mode: format!("{:06o}", inode.file_type.mode_bits() | inode.permissions),
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        mtime: inode.mtime.secs,
        mtime_nanos: inode.mtime.nanos,
        device: is_device.then(|| device(inode.rdev)),
        target: match inode.file_type {
            FileType::Symlink => Some(text(image.symlink(inode)?)),
            _ => None,
        },
        xattrs: xattrs
            .map(|pair| pair.map(|(name, value)| (text(&name), text(value))))
            .collect::<Result<_, _>>()?,
        extents: match inode.file_type {
            FileType::Regular => extents(image, inode)?,
            _ => Vec::new(),
        },
    })
}

fn extents(image: &Image<Bytes>, inode: &Inode) -> Result<Vec<ExtentView>, rafs::Error> {
    let mut offset = 0;
    let mut views = Vec::new();
    for extent in image.extents(inode, 0..inode.size)? {
        let extent = extent?;
        let chunk = extent.chunk;
        views.push(ExtentView {
            offset,
            len: extent.len,
            blob: image.blobs()[usize::from(chunk.blob.0)].id.clone(),
            chunk: chunk.index,
            stored_offset: chunk.compressed.offset,
            stored_len: chunk.compressed.len,
            uncompressed_offset: chunk.uncompressed.offset,
            codec: match chunk.codec {
                Codec::Raw => "raw",
                Codec::Zstd => "zstd",
                Codec::Lz4Block => "lz4",
                Codec::Shared => "shared",
            },
            digest: chunk.digest.to_string(),
        });
        offset += u64::from(extent.len);
    }
    Ok(views)
}
