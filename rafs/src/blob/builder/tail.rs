//! The sections behind the chunks: each is followed by its tar header, and listed in the table of contents.

use sha2::{Digest as _, Sha256};
use zerocopy::{FromZeros, IntoBytes};

use crate::blob::{TocPlace, tar_header};
use crate::chunk::{ChunkRef, Compressor, shrink};
use crate::layout::{TOC_LZ4, TOC_NONE, TOC_ZSTD, TocEntry};

/// Bootstraps are always packed with zstd, whatever the chunks are; the ecosystem's level is good enough.
const BOOTSTRAP_LEVEL: i32 = 3;

/// The bytes behind the chunks, and what the table of contents will say of them.
pub(super) struct Tail {
    data_len: u64,
    pub(super) bytes: Vec<u8>,
    toc: Vec<TocEntry>,
}

impl Tail {
    /// Behind nothing: for a file that holds no chunk.
    pub(super) fn empty() -> Self {
        Tail {
            data_len: 0,
            bytes: Vec::new(),
            toc: Vec::new(),
        }
    }

    /// Starts with the tar header of the chunks, which are `data_len` bytes with the given running hash.
    pub(super) fn new(data_len: u64, uncompressed_len: u64, data_hash: Sha256) -> Self {
        let bytes = tar_header::make("image.blob", data_len).to_vec();
        // Readers expect the digest of the chunks to cover their tar header, unlike all other digests.
        let digest = data_hash.chain_update(&bytes).finalize().into();
        let mut tail = Tail {
            data_len,
            bytes,
            toc: Vec::new(),
        };
        tail.list("image.blob", TOC_NONE, digest, 0..data_len, uncompressed_len);
        tail
    }

    /// Byte offset in the blob where the next section starts.
    pub(super) fn position(&self) -> u64 {
        self.data_len + self.bytes.len() as u64
    }

    /// Appends a section and lists it. `compressor` says how `stored` was made from `plain`.
    pub(super) fn append(&mut self, name: &str, compressor: Compressor, stored: &[u8], plain: &[u8]) {
        let flags = match compressor {
            Compressor::Zstd => TOC_ZSTD,
            Compressor::Lz4Block => TOC_LZ4,
            Compressor::None | Compressor::Gzip => TOC_NONE,
        };
        let start = self.position();
        self.bytes.extend_from_slice(stored);
        let digest = Sha256::digest(plain).into();
        self.list(name, flags, digest, start..self.position(), plain.len() as u64);
    }

    /// Appends the tar header of the last `len` bytes.
    pub(super) fn append_header(&mut self, name: &str, len: usize) {
        self.bytes.extend_from_slice(&tar_header::make(name, len as u64));
    }

    pub(super) fn append_digests(&mut self, chunks: &[ChunkRef]) {
        let digests: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.digest.0).collect();
        self.append("blob.digest", Compressor::None, &digests, &digests);
        self.append_header("blob.digest", digests.len());
    }

    pub(super) fn append_bootstrap(&mut self, bootstrap: &[u8]) {
        let shrunk = shrink(bootstrap, Compressor::Zstd, BOOTSTRAP_LEVEL);
        let (compressor, stored) = match &shrunk {
            Some(shrunk) => (Compressor::Zstd, shrunk.as_slice()),
            None => (Compressor::None, bootstrap),
        };
        self.append("image.boot", compressor, stored, bootstrap);
        self.append_header("image.boot", stored.len());
    }

    pub(super) fn append_toc(&mut self) -> TocPlace {
        let start = self.bytes.len();
        let entries = self.toc.as_slice().as_bytes();
        self.bytes.extend_from_slice(entries);
        self.append_header("rafs.blob.toc", size_of_val(self.toc.as_slice()));
        let toc = &self.bytes[start..];
        TocPlace {
            size: u32::try_from(toc.len()).expect("a handful of entries"),
            digest: Sha256::digest(toc).into(),
        }
    }

    fn list(&mut self, name: &str, flags: u32, digest: [u8; 32], stored: std::ops::Range<u64>, len: u64) {
        let mut entry = TocEntry::new_zeroed();
        entry.flags = flags.into();
        entry.name[..name.len()].copy_from_slice(name.as_bytes());
        entry.digest = digest;
        entry.compressed_offset = stored.start.into();
        entry.compressed_size = (stored.end - stored.start).into();
        entry.uncompressed_size = len.into();
        self.toc.push(entry);
    }
}
