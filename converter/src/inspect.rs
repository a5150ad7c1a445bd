//! Looking at a RAFS image: what is in it, and how it is stored.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rafs::hints::Hints;
use rafs::tree::FileType;
use rafs::{BlobIndex, Codec, Compressor, Digester, Image, Nid};
use serde::Serialize;

use crate::error::Error;
use crate::walk::{Step, walk};

mod name;
mod path;

pub use path::{ExtentView, PathView, look_up};

/// A bootstrap in numbers. All lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bytes of the bootstrap.
    pub bootstrap_len: u64,
    /// Flags of the superblock by name; those without one in hex.
    pub flags: Vec<String>,
    /// Number of the root's inode.
    pub root_nid: u64,
    /// Inodes, as the superblock counts them.
    pub inode_count: u64,
    /// The tables that are there.
    pub tables: Vec<TableSummary>,
    /// Bytes per chunk.
    pub chunk_size: u32,
    /// Contents of all files, hard links once.
    pub content_len: u64,
    /// Files by kind.
    pub files: FileCounts,
    /// The prefetch table: the first path of each entry, or the number of an inode that has none.
    pub prefetch: Vec<String>,
    /// The hints beside the bootstrap; none in a file or an image without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<HintsSummary>,
    /// The blob table.
    pub blobs: Vec<BlobSummary>,
}

/// Hints in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HintsSummary {
    /// Files and directories.
    pub file_count: usize,
    /// Ranges of files.
    pub range_count: usize,
    /// Bytes of all ranges.
    pub range_len: u64,
}

impl From<&Hints> for HintsSummary {
    fn from(hints: &Hints) -> Self {
        let ranges = || hints.files.iter().flat_map(|file| &file.ranges);
        HintsSummary {
            file_count: hints.files.len(),
            range_count: ranges().count(),
            range_len: ranges().fold(0, |sum, range| sum.saturating_add(range.end - range.start)),
        }
    }
}

/// Where a table lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// `devices`, `blobs`, `prefetch` or `chunks`.
    pub name: &'static str,
    /// Byte offset in the bootstrap.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Files by kind, hard links once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileCounts {
    /// Regular files.
    pub regular: u64,
    /// Directories.
    pub directory: u64,
    /// Symbolic links.
    pub symlink: u64,
    /// Devices, FIFOs and sockets.
    pub special: u64,
    /// Names beyond the first of hard-linked files.
    pub extra_names: u64,
}

/// One blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlobSummary {
    /// 64 hex digits: the digest of the file.
    pub id: String,
    /// `none`, `lz4`, `gzip` or `zstd`.
    pub compressor: &'static str,
    /// `sha256` or `blake3`.
    pub digester: &'static str,
    /// Features by name; those without one in hex.
    pub features: Vec<String>,
    /// Chunks in it.
    pub chunk_count: u32,
    /// Chunks of it that the image's files use.
    pub used_chunk_count: u64,
    /// Stored bytes of the used chunks. Chunks that share their stored bytes with others do not count.
    pub used_stored_len: u64,
    /// Contents of the used chunks.
    pub used_content_len: u64,
    /// Stored bytes of 1000 bytes of content, over the used chunks that do not share theirs.
    pub stored_per_mille: Option<u64>,
    /// Bytes of the file.
    pub compressed_len: u64,
    /// Bytes of its uncompressed image.
    pub uncompressed_len: u64,
}

/// Counts everything in `image`. `place` is for messages.
pub fn summarize(image: &Image<Bytes>, place: &str) -> Result<Summary, Error> {
    read(image).map_err(|source| Error::Bootstrap {
        place: place.to_owned(),
        source,
    })
}

fn read(image: &Image<Bytes>) -> Result<Summary, rafs::Error> {
    let steps = walk(image)?;
    let (files, content_len) = count(&steps);
    let tables = image.tables().into_iter().filter(|(_, range)| !range.is_empty());
    Ok(Summary {
        bootstrap_len: image.bytes().len() as u64,
        flags: name::flags(image.extended_superblock()?.flags.get()),
        root_nid: image.root().0,
        inode_count: image.inode_count(),
        tables: tables
            .map(|(name, range)| TableSummary {
                name,
                offset: range.start,
                len: range.end - range.start,
            })
            .collect(),
        chunk_size: image.chunk_size(),
        content_len,
        files,
        prefetch: prefetch(image, &steps),
        hints: None,
        blobs: (0u16..)
            .zip(image.blobs())
            .map(|(number, blob)| summarize_blob(image, BlobIndex(number), blob))
            .collect::<Result<_, _>>()?,
    })
}

fn count(steps: &[Step]) -> (FileCounts, u64) {
    let mut files = FileCounts::default();
    let mut content_len = 0u64;
    let mut seen = HashSet::new();
    for step in steps {
        if !seen.insert(step.inode.nid) {
            files.extra_names += 1;
            continue;
        }
        match step.inode.file_type {
            FileType::Regular => {
                files.regular += 1;
                content_len = content_len.saturating_add(step.inode.size);
            }
            FileType::Directory => files.directory += 1,
            FileType::Symlink => files.symlink += 1,
            _ => files.special += 1,
        }
    }
    (files, content_len)
}

fn prefetch(image: &Image<Bytes>, steps: &[Step]) -> Vec<String> {
    let wanted = image.prefetch();
    let known: HashSet<Nid> = wanted.iter().copied().collect();
    let mut paths: HashMap<Nid, &[u8]> = HashMap::new();
    for step in steps.iter().filter(|step| known.contains(&step.inode.nid)) {
        paths.entry(step.inode.nid).or_insert(&step.path);
    }
    let shown = |nid: &Nid| match paths.get(nid) {
        Some(path) => format!("/{}", path.escape_ascii()),
        None => format!("inode {}", nid.0),
    };
    wanted.iter().map(shown).collect()
}

fn summarize_blob(
    image: &Image<Bytes>,
    number: BlobIndex,
    blob: &rafs::image::Blob,
) -> Result<BlobSummary, rafs::Error> {
    let (mut stored_len, mut content_len, mut alone_len) = (0u64, 0u64, 0u64);
    for chunk in image.chunks(number) {
        let chunk = chunk?;
        let len = u64::from(chunk.uncompressed.len);
        content_len += len;
        if chunk.codec != Codec::Shared {
            stored_len += u64::from(chunk.compressed.len);
            alone_len += len;
        }
    }
    Ok(BlobSummary {
        id: blob.id.clone(),
        compressor: match blob.compressor {
            Compressor::None => "none",
            Compressor::Lz4Block => "lz4",
            Compressor::Gzip => "gzip",
            Compressor::Zstd => "zstd",
        },
        digester: match blob.digester {
            Digester::Blake3 => "blake3",
            Digester::Sha256 => "sha256",
        },
        features: name::features(blob.features),
        chunk_count: blob.chunk_count,
        used_chunk_count: image.chunks(number).len() as u64,
        used_stored_len: stored_len,
        used_content_len: content_len,
        stored_per_mille: (stored_len * 1000).checked_div(alone_len),
        compressed_len: blob.compressed_size,
        uncompressed_len: blob.uncompressed_size,
    })
}
