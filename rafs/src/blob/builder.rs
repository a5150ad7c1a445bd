//! Building a blob: chunks as they come, then the trailing sections.

use std::convert::Infallible;
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use zerocopy::{FromZeros, IntoBytes};

use super::{BlobInfo, BlobOptions, MetaPlace, TocPlace, chunk_info};
use crate::chunk::{BlobIndex, ChunkRef, Codec, Compressor, EncodedBatch, EncodedChunk, Span, shrink};
use crate::layout::{
    BATCH_CONTEXT_LEN, BLOB_ALIGNED, BLOB_BATCH, BLOB_CAP_TAR_TOC, BLOB_CHUNK_INFO_V2,
    BLOB_INLINED_CHUNK_DIGEST, BLOB_INLINED_META, BLOB_TAR_HEADER, BLOB_TOC, BLOCK, BatchContext, CHUNKS_MAX,
    COMPRESSED_MAX, MetaHeader, UNCOMPRESSED_MAX,
};

mod tail;

use tail::Tail;

/// Features of all blobs made here.
const FEATURES: u32 =
    BLOB_ALIGNED | BLOB_INLINED_CHUNK_DIGEST | BLOB_TAR_HEADER | BLOB_TOC | BLOB_CAP_TAR_TOC;

/// Chunk infos are small; the ecosystem's level is good enough for them.
const META_LEVEL: i32 = 3;

/// What the trailing sections take for each chunk at most: digest, chunk info, batch context.
const TAIL_LEN_PER_CHUNK: u64 = 32 + 24 + BATCH_CONTEXT_LEN;
/// What they take besides: the header of the chunk infos, tar headers, table of contents.
const TAIL_LEN: u64 = 16 << 10;

/// Why a chunk cannot be added to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The format has no room for more. Nothing was added; the blob can still be finished.
    #[error("the blob is full: {what} (limit {limit})")]
    Full {
        /// What there would be too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The chunk is not of the kind that the blob is made of.
    #[error("{what}")]
    Misfit {
        /// What does not fit.
        what: &'static str,
    },
}

/// Collects the chunks of a blob while the caller writes their bytes, then makes the trailing sections.
#[derive(Debug)]
pub struct BlobBuilder {
    options: BlobOptions,
    is_flat: bool,
    chunks: Vec<ChunkRef>,
    batches: Vec<PlacedBatch>,
    compressed_len: u64,
    uncompressed_len: u64,
}

/// What makes the bootstrap inside a blob that has none.
type NoBootstrap = fn(&BlobInfo) -> Result<Vec<u8>, Infallible>;

/// A batch in the blob.
#[derive(Debug)]
struct PlacedBatch {
    /// Numbers of its chunks.
    chunks: Range<u32>,
    /// Where its stored bytes lie.
    stored: Span,
    /// Bytes that it expands to.
    len: u32,
}

/// A blob whose bytes are all known.
#[derive(Clone, Debug)]
pub struct FinishedBlob {
    /// What goes into the bootstrap of an image.
    pub info: BlobInfo,
    /// Bytes to append after the chunk data.
    pub tail: Vec<u8>,
}

impl BlobBuilder {
    /// Starts a blob whose chunks lie back to back.
    pub fn new(options: BlobOptions) -> Self {
        BlobBuilder {
            options,
            is_flat: false,
            chunks: Vec::new(),
            batches: Vec::new(),
            compressed_len: 0,
            uncompressed_len: 0,
        }
    }

    /// Starts a flat blob: its chunk data is its uncompressed image, byte for byte, so that the file can be the
    /// device of a mount. Chunks have to be raw and [padded](EncodedChunk::pad).
    pub fn flat(options: BlobOptions) -> Self {
        BlobBuilder {
            is_flat: true,
            ..BlobBuilder::new(options)
        }
    }

    /// Records that `chunk.data` was appended to the file and returns the chunk's number.
    pub fn push(&mut self, chunk: &EncodedChunk) -> Result<u32, BlobError> {
        let padded = u64::from(chunk.len).next_multiple_of(BLOCK);
        if self.is_flat && (chunk.is_compressed || chunk.data.len() as u64 != padded) {
            return Err(BlobError::Misfit {
                what: "chunks of a flat blob are raw and padded to 4096 bytes",
            });
        }
        self.check_room(1, chunk.data.len() as u64, padded)?;
        let codec = match self.options.compressor {
            Compressor::Zstd if chunk.is_compressed => Codec::Zstd,
            Compressor::Lz4Block if chunk.is_compressed => Codec::Lz4Block,
            _ => Codec::Raw,
        };
        let len = match codec {
            Codec::Raw => chunk.len,
            _ => u32::try_from(chunk.data.len()).expect("compressed bytes are fewer than the content's"),
        };
        let offset = self.compressed_len;
        let number = self.add(Span { offset, len }, chunk.len, codec, chunk.digest);
        self.compressed_len += chunk.data.len() as u64;
        Ok(number)
    }

    /// Records that `batch.data` was appended to the file and returns the numbers of its chunks.
    pub fn push_batch(&mut self, batch: &EncodedBatch) -> Result<Range<u32>, BlobError> {
        if self.is_flat || self.options.compressor == Compressor::None {
            return Err(BlobError::Misfit {
                what: "batches need compression",
            });
        }
        let stored = batch.data.len() as u64;
        let padded = (batch.members.iter())
            .map(|member| u64::from(member.len).next_multiple_of(BLOCK))
            .sum();
        self.check_room(batch.members.len() as u64, stored, padded)?;
        let first = self.chunk_count();
        for member in &batch.members {
            // The place of its stored bytes is that of the batch; readers expect none at the chunk.
            let nowhere = Span { offset: 0, len: 0 };
            self.add(nowhere, member.len, Codec::Shared, member.digest);
        }
        let chunks = first..self.chunk_count();
        self.batches.push(PlacedBatch {
            chunks: chunks.clone(),
            stored: Span {
                offset: self.compressed_len,
                len: u32::try_from(stored).expect("a batch is at most a chunk"),
            },
            len: batch.len,
        });
        self.compressed_len += stored;
        Ok(chunks)
    }

    /// How many chunks there are.
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("a blob has fewer than 2^24 chunks")
    }

    /// Makes the bytes that follow the chunk data (chunk infos, digests, ToC, with their tar headers).
    /// `data_hash` is the running hash over the chunk data; the blob's id is the hash over data and tail.
    /// `None` if the blob has no chunk: such a blob is not written and not listed.
    pub fn finish(self, data_hash: Sha256) -> Option<FinishedBlob> {
        self.complete(data_hash, None::<NoBootstrap>)
            .unwrap_or_else(|never| match never {})
    }

    /// As [`finish`](Self::finish), with a bootstrap among the sections, for tools that merge or unpack single
    /// layers. `bootstrap` makes it from what it has to say of the blob, with
    /// [`build::layer_bootstrap`](crate::build::layer_bootstrap).
    pub fn finish_layer<E>(
        self,
        data_hash: Sha256,
        bootstrap: impl FnOnce(&BlobInfo) -> Result<Vec<u8>, E>,
    ) -> Result<Option<FinishedBlob>, E> {
        self.complete(data_hash, Some(bootstrap))
    }

    fn complete<E>(
        self,
        data_hash: Sha256,
        bootstrap: Option<impl FnOnce(&BlobInfo) -> Result<Vec<u8>, E>>,
    ) -> Result<Option<FinishedBlob>, E> {
        if self.chunks.is_empty() {
            return Ok(None);
        }
        let mut features = FEATURES;
        if !self.batches.is_empty() {
            features |= BLOB_CHUNK_INFO_V2 | BLOB_BATCH;
        }
        if bootstrap.is_some() {
            features |= BLOB_INLINED_META;
        }
        let mut tail = Tail::new(self.compressed_len, self.uncompressed_len, data_hash.clone());
        let meta = self.append_meta(&mut tail, features);
        tail.append_digests(&self.chunks);
        let mut info = BlobInfo {
            id: [0; 32],
            chunks: self.chunks,
            options: self.options,
            features,
            compressed_size: tail.position(),
            uncompressed_size: self.uncompressed_len,
            meta,
            toc: TocPlace::default(),
        };
        match bootstrap {
            Some(bootstrap) => {
                // Everything that says where the bootstrap ends would change it, so tables leave it out.
                tail.append_bootstrap(&bootstrap(&info)?);
                tail.append_toc();
                info.features &= !BLOB_INLINED_META;
            }
            None => {
                info.toc = tail.append_toc();
                info.compressed_size = tail.position();
            }
        }
        info.id = data_hash.chain_update(&tail.bytes).finalize().into();
        Ok(Some(FinishedBlob {
            info,
            tail: tail.bytes,
        }))
    }

    /// Refuses what does not fit any more.
    fn check_room(&self, count: u64, stored: u64, padded: u64) -> Result<(), BlobError> {
        let chunk_count = self.chunks.len() as u64 + count;
        let tail_len = TAIL_LEN + TAIL_LEN_PER_CHUNK * chunk_count;
        let room = [
            (chunk_count, u64::from(CHUNKS_MAX), "number of chunks"),
            (
                self.compressed_len + stored + tail_len,
                COMPRESSED_MAX,
                "bytes of the file",
            ),
            (
                self.uncompressed_len + padded,
                UNCOMPRESSED_MAX,
                "bytes of content",
            ),
        ];
        match room.into_iter().find(|(needed, limit, _)| needed > limit) {
            None => Ok(()),
            Some((_, limit, what)) => Err(BlobError::Full { what, limit }),
        }
    }

    fn add(&mut self, compressed: Span, len: u32, codec: Codec, digest: crate::Digest) -> u32 {
        let index = self.chunk_count();
        self.chunks.push(ChunkRef {
            blob: BlobIndex(0),
            index,
            compressed,
            uncompressed: Span {
                offset: self.uncompressed_len,
                len,
            },
            codec,
            digest,
        });
        self.uncompressed_len += u64::from(len).next_multiple_of(BLOCK);
        index
    }

    /// Appends chunk infos and their header.
    fn append_meta(&self, tail: &mut Tail, features: u32) -> MetaPlace {
        let plain = match self.batches.is_empty() {
            true => {
                let infos: Vec<_> = self.chunks.iter().map(chunk_info::pack_v1).collect();
                infos.as_slice().as_bytes().to_vec()
            }
            false => self.infos_with_batches(),
        };
        let contexts_len = self.batches.len() as u64 * BATCH_CONTEXT_LEN;
        let (compressor, shrunk) = match shrink(&plain, self.options.compressor, META_LEVEL) {
            Some(shrunk) => (self.options.compressor, Some(shrunk)),
            None => (Compressor::None, None),
        };
        let stored = shrunk.as_deref().unwrap_or(&plain);
        let place = MetaPlace {
            compressor,
            offset: tail.position(),
            compressed_size: stored.len() as u64,
            uncompressed_size: plain.len() as u64,
        };
        let mut header = MetaHeader::new_zeroed();
        header.magic = MetaHeader::MAGIC.into();
        header.features = features.into();
        header.compressor = compressor.to_disk().into();
        header.chunk_count = self.chunk_count().into();
        header.offset = place.offset.into();
        header.compressed_size = place.compressed_size.into();
        header.uncompressed_size = place.uncompressed_size.into();
        if contexts_len > 0 {
            header.context_offset = (place.uncompressed_size - contexts_len).into();
            header.context_size = contexts_len.into();
            header.context_count = u32::try_from(self.batches.len())
                .expect("no more batches than chunks")
                .into();
        }
        header.magic_tail = MetaHeader::MAGIC.into();
        tail.append("blob.meta", compressor, stored, &plain);
        tail.append(
            "blob.meta.header",
            Compressor::None,
            header.as_bytes(),
            header.as_bytes(),
        );
        tail.append_header("blob.meta", stored.len() + BLOCK as usize);
        place
    }

    /// Chunk infos that can name a batch, followed by the batches.
    fn infos_with_batches(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut next = 0;
        for (number, batch) in (0_u32..).zip(&self.batches) {
            let chunks = batch.chunks.start as usize..batch.chunks.end as usize;
            for chunk in &self.chunks[next..chunks.start] {
                bytes.extend_from_slice(chunk_info::pack_v2(chunk).as_bytes());
            }
            let mut skip = 0;
            for chunk in &self.chunks[chunks.clone()] {
                let info = chunk_info::pack_member(chunk, batch.stored.offset, number, skip);
                bytes.extend_from_slice(info.as_bytes());
                skip += chunk.uncompressed.len;
            }
            next = chunks.end;
        }
        for chunk in &self.chunks[next..] {
            bytes.extend_from_slice(chunk_info::pack_v2(chunk).as_bytes());
        }
        for batch in &self.batches {
            let mut context = BatchContext::new_zeroed();
            context.compressed_size = batch.stored.len.into();
            context.uncompressed_size = batch.len.into();
            bytes.extend_from_slice(context.as_bytes());
        }
        bytes
    }
}

/// The file of a layer that has no data, only a bootstrap: its id and its bytes. It is not listed in blob tables.
pub fn layer_without_data(bootstrap: &[u8]) -> ([u8; 32], Vec<u8>) {
    let mut tail = Tail::empty();
    tail.append_bootstrap(bootstrap);
    tail.append_toc();
    (Sha256::digest(&tail.bytes).into(), tail.bytes)
}

#[cfg(test)]
mod tests;
