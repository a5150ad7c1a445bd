//! Building a blob: chunks as they come, then the trailing sections.

use sha2::{Digest as _, Sha256};
use zerocopy::{FromZeros, IntoBytes};

use super::{BlobInfo, BlobOptions, MetaPlace, TocPlace, chunk_info, tar_header};
use crate::chunk::{BlobIndex, ChunkRef, Codec, Compressor, EncodedChunk, Span, shrink};
use crate::layout::{
    self, BLOB_ALIGNED, BLOB_CAP_TAR_TOC, BLOB_INLINED_CHUNK_DIGEST, BLOB_TAR_HEADER, BLOB_TOC, BLOCK,
    MetaHeader, TOC_LZ4, TOC_NONE, TOC_ZSTD, TocEntry,
};

/// Features of the blobs made here.
const FEATURES: u32 =
    BLOB_ALIGNED | BLOB_INLINED_CHUNK_DIGEST | BLOB_TAR_HEADER | BLOB_TOC | BLOB_CAP_TAR_TOC;

/// Chunk infos are small; the ecosystem's level is good enough for them.
const META_LEVEL: i32 = 3;

/// Collects the chunks of a blob while the caller writes their bytes, then makes the trailing sections.
///
/// Limits (2^24 - 1 chunks, 1 TiB stored, 16 TiB of content) are not checked here: the writer of the bootstrap
/// refuses a blob beyond them.
#[derive(Debug)]
pub struct BlobBuilder {
    options: BlobOptions,
    chunks: Vec<ChunkRef>,
    compressed_len: u64,
    uncompressed_len: u64,
}

/// A blob whose bytes are all known.
#[derive(Clone, Debug)]
pub struct FinishedBlob {
    /// What goes into the bootstrap.
    pub info: BlobInfo,
    /// Bytes to append after the chunk data.
    pub tail: Vec<u8>,
}

impl BlobBuilder {
    /// Starts a blob.
    pub fn new(options: BlobOptions) -> Self {
        BlobBuilder {
            options,
            chunks: Vec::new(),
            compressed_len: 0,
            uncompressed_len: 0,
        }
    }

    /// Records that `chunk.data` was appended to the file and returns the chunk's number.
    pub fn push(&mut self, chunk: &EncodedChunk) -> u32 {
        let index = self.chunk_count();
        let stored = u32::try_from(chunk.data.len()).expect("stored bytes are no longer than the content");
        let codec = match self.options.compressor {
            Compressor::Zstd if chunk.is_compressed => Codec::Zstd,
            Compressor::Lz4Block if chunk.is_compressed => Codec::Lz4Block,
            _ => Codec::Raw,
        };
        self.chunks.push(ChunkRef {
            blob: BlobIndex(0),
            index,
            compressed: Span {
                offset: self.compressed_len,
                len: stored,
            },
            uncompressed: Span {
                offset: self.uncompressed_len,
                len: chunk.len,
            },
            codec,
            digest: chunk.digest,
        });
        self.compressed_len += u64::from(stored);
        self.uncompressed_len += u64::from(chunk.len).next_multiple_of(BLOCK);
        index
    }

    /// How many chunks there are.
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("memory ends before 2^32 chunks")
    }

    /// Makes the bytes that follow the chunk data (chunk table, digests, ToC, with their tar headers).
    /// `data_hash` is the running hash over the chunk data; the blob's id is the hash over data and tail.
    /// `None` if the blob has no chunk: such a blob is not written and not listed.
    pub fn finish(self, data_hash: Sha256) -> Option<FinishedBlob> {
        if self.chunks.is_empty() {
            return None;
        }
        let mut tail = Tail::new(self.compressed_len, data_hash.clone());
        let meta = self.append_meta(&mut tail);
        tail.append_digests(&self.chunks);
        let toc = tail.append_toc();
        let id = data_hash.chain_update(&tail.bytes).finalize().into();
        let info = BlobInfo {
            id,
            chunks: self.chunks,
            options: self.options,
            features: FEATURES,
            compressed_size: tail.position(),
            uncompressed_size: self.uncompressed_len,
            meta,
            toc,
        };
        Some(FinishedBlob {
            info,
            tail: tail.bytes,
        })
    }

    /// Appends chunk infos and their header.
    fn append_meta(&self, tail: &mut Tail) -> MetaPlace {
        let infos: Vec<_> = self.chunks.iter().map(chunk_info::pack_v1).collect();
        let plain = infos.as_slice().as_bytes();
        let (compressor, shrunk) = match shrink(plain, self.options.compressor, META_LEVEL) {
            Some(shrunk) => (self.options.compressor, Some(shrunk)),
            None => (Compressor::None, None),
        };
        let stored = shrunk.as_deref().unwrap_or(plain);
        let place = MetaPlace {
            compressor,
            offset: tail.position(),
            compressed_size: stored.len() as u64,
            uncompressed_size: plain.len() as u64,
        };
        let mut header = MetaHeader::new_zeroed();
        header.magic = MetaHeader::MAGIC.into();
        header.features = FEATURES.into();
        header.compressor = compressor.to_disk().into();
        header.chunk_count = self.chunk_count().into();
        header.offset = place.offset.into();
        header.compressed_size = place.compressed_size.into();
        header.uncompressed_size = place.uncompressed_size.into();
        header.magic_tail = MetaHeader::MAGIC.into();

        let flags = match compressor {
            Compressor::Zstd => TOC_ZSTD,
            Compressor::Lz4Block => TOC_LZ4,
            Compressor::None | Compressor::Gzip => TOC_NONE,
        };
        tail.append("blob.meta", flags, stored, plain);
        tail.append("blob.meta.header", TOC_NONE, header.as_bytes(), header.as_bytes());
        tail.append_header("blob.meta", stored.len() + layout::BLOCK as usize);
        place
    }
}

/// The bytes behind the chunks, and what the table of contents will say of them.
struct Tail {
    data_len: u64,
    bytes: Vec<u8>,
    toc: Vec<TocEntry>,
}

impl Tail {
    /// Starts with the tar header of the chunks, which are `data_len` bytes with the given running hash.
    fn new(data_len: u64, data_hash: Sha256) -> Self {
        let bytes = tar_header::make("image.blob", data_len).to_vec();
        // Readers expect the digest of the chunks to cover their tar header, unlike all other digests.
        let digest = data_hash.chain_update(&bytes).finalize().into();
        let mut tail = Tail {
            data_len,
            bytes,
            toc: Vec::new(),
        };
        tail.list("image.blob", TOC_NONE, digest, 0..data_len, data_len);
        tail
    }

    /// Byte offset in the blob where the next section starts.
    fn position(&self) -> u64 {
        self.data_len + self.bytes.len() as u64
    }

    fn append(&mut self, name: &str, flags: u32, stored: &[u8], plain: &[u8]) {
        let start = self.position();
        self.bytes.extend_from_slice(stored);
        let digest = Sha256::digest(plain).into();
        self.list(name, flags, digest, start..self.position(), plain.len() as u64);
    }

    fn append_header(&mut self, name: &str, len: usize) {
        self.bytes.extend_from_slice(&tar_header::make(name, len as u64));
    }

    fn append_digests(&mut self, chunks: &[ChunkRef]) {
        let digests: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.digest.0).collect();
        self.append("blob.digest", TOC_NONE, &digests, &digests);
        self.append_header("blob.digest", digests.len());
    }

    fn append_toc(&mut self) -> TocPlace {
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

#[cfg(test)]
mod tests;
