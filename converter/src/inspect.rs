//! Looking at a RAFS image: what is in it, and how it is stored.

use std::collections::HashSet;

use bytes::Bytes;
use rafs::tree::FileType;
use rafs::{Compressor, Digester, Image};
use serde::Serialize;

use crate::error::Error;
use crate::walk::walk;

/// A bootstrap in numbers. All lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bytes per chunk.
    pub chunk_size: u32,
    /// Contents of all files, hard links once.
    pub content_len: u64,
    /// Files by kind.
    pub files: FileCounts,
    /// Entries of the prefetch table.
    pub prefetch_count: u64,
    /// The blob table.
    pub blobs: Vec<BlobSummary>,
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
    /// Chunks in it.
    pub chunk_count: u32,
    /// Bytes of the file.
    pub compressed_len: u64,
    /// Bytes of its uncompressed image.
    pub uncompressed_len: u64,
}

/// Counts everything in `image`. `place` is for messages.
pub fn summarize(image: &Image<Bytes>, place: &str) -> Result<Summary, Error> {
    let steps = walk(image).map_err(|source| Error::Bootstrap {
        place: place.to_owned(),
        source,
    })?;
    let mut files = FileCounts::default();
    let mut content_len = 0u64;
    let mut seen = HashSet::new();
    for step in &steps {
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
    Ok(Summary {
        chunk_size: image.chunk_size(),
        content_len,
        files,
        prefetch_count: image.prefetch().len() as u64,
        blobs: image.blobs().iter().map(blob).collect(),
    })
}

fn blob(blob: &rafs::image::Blob) -> BlobSummary {
    BlobSummary {
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
        chunk_count: blob.chunk_count,
        compressed_len: blob.compressed_size,
        uncompressed_len: blob.uncompressed_size,
    }
}
