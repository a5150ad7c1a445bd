//! Units: what is fetched and decompressed as one.
//!
//! A chunk mostly is a unit of its own. In blobs with batches, small chunks share one; in blobs that refer to a gzip
//! layer, every chunk is cut from the output of a piece of the gzip stream. The caller need not know: it asks
//! [`Units`] for the [`Piece`] that a chunk is, fetches the unit's bytes, expands them, and cuts out and verifies
//! as many chunks of the unit as it likes.

use super::inflate::inflate;
use super::meta::{Meta, MetaError};
use crate::chunk::{ChunkRef, Codec, Compressor, DecodeError, Span, expand};
use crate::image::Blob;
use crate::layout::{CHUNK_BATCH, CHUNK_CRC32, CHUNK_ENCRYPTED, CHUNK_SIZE_MAX, CHUNK_ZRAN};

/// Most bytes of a unit, stored or expanded. Batches are at most a chunk long; pieces of gzip streams span as much
/// as the largest chunk, what leads up to it, and what does not shrink.
const UNIT_MAX: u32 = 2 * CHUNK_SIZE_MAX;

/// What is fetched and decompressed as one. Equal units have equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// Where its stored bytes lie in the blob.
    pub stored: Span,
    /// Bytes that it expands to.
    pub len: u32,
    method: Method,
}

/// How a unit is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Method {
    /// As a whole.
    Whole(Codec),
    /// As a piece of a gzip stream, from a context on.
    Inflate { context: u32 },
}

/// A chunk as a part of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The unit.
    pub unit: Unit,
    /// Bytes of the expanded unit before the chunk's content.
    pub skip: u32,
    /// Bytes of the chunk's content. `skip + len` does not exceed the unit's length.
    pub len: u32,
}

impl Piece {
    /// Cuts the chunk's content out of the expanded unit.
    pub fn cut<'a>(&self, expanded: &'a [u8]) -> Option<&'a [u8]> {
        expanded.get(self.skip as usize..)?.get(..self.len as usize)
    }
}

/// What a chunk info says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    /// The chunk's bytes in the blob, or those of its batch.
    pub(super) bytes: Span,
    /// Its place in the uncompressed image.
    pub(super) content: Span,
    /// Whether it is one of a batch.
    pub(super) is_shared: bool,
}

/// Finds and expands the units of one blob.
#[derive(Debug)]
pub struct Units {
    compressor: Compressor,
    compressed_size: u64,
    meta: Option<Meta>,
}

impl Units {
    /// For a blob in which every chunk is a unit of its own.
    pub fn single(blob: &Blob) -> Self {
        Units {
            compressor: blob.compressor,
            compressed_size: blob.compressed_size,
            meta: None,
        }
    }

    /// For any blob. `stored` are the bytes at [`Blob::meta_range`].
    ///
    /// Holds the uncompressed chunk infos in memory: 24 bytes a chunk, and 32 KiB for each context of a gzip layer.
    pub fn read(blob: &Blob, stored: &[u8]) -> Result<Self, MetaError> {
        let meta = Meta::read(blob, stored)?;
        Ok(Units {
            meta: Some(meta),
            ..Units::single(blob)
        })
    }

    /// Says which part of which unit a chunk is. Where chunk infos were read, they have to agree with the chunk.
    pub fn piece(&self, chunk: &ChunkRef) -> Result<Piece, MetaError> {
        let info = match &self.meta {
            Some(meta) => Some((meta, meta.chunk(chunk.index)?)),
            None => None,
        };
        let corrupt = |what| MetaError::Corrupt { what, offset: 0 };
        let is_shared = chunk.codec == Codec::Shared;
        let agrees = info.is_none_or(|(_, info)| {
            info.uncompressed == chunk.uncompressed && (is_shared || info.compressed == chunk.compressed)
        });
        if !agrees {
            return Err(corrupt("chunk info and chunk table disagree on a chunk's place"));
        }
        if !is_shared {
            return Ok(Piece {
                unit: Unit {
                    stored: chunk.compressed,
                    len: chunk.uncompressed.len,
                    method: Method::Whole(chunk.codec),
                },
                skip: 0,
                len: chunk.uncompressed.len,
            });
        }
        let (meta, info) = info.ok_or_else(|| corrupt("a chunk that shares a unit has no info"))?;
        let unit = match info.flags & (CHUNK_BATCH | CHUNK_ZRAN | CHUNK_ENCRYPTED) {
            CHUNK_BATCH => self.batch(meta, info.context, info.compressed.offset)?,
            CHUNK_ZRAN => Self::gzip(meta, info.context)?,
            _ => {
                return Err(corrupt(
                    "a chunk that shares a unit is in no batch and no gzip context",
                ));
            }
        };
        let piece = Piece {
            unit,
            skip: info.skip,
            len: chunk.uncompressed.len,
        };
        let end = unit.stored.offset.checked_add(u64::from(unit.stored.len));
        let fits = end.is_some_and(|end| end <= self.compressed_size)
            && u64::from(piece.skip) + u64::from(piece.len) <= u64::from(unit.len)
            && unit.len <= UNIT_MAX
            && unit.stored.len <= UNIT_MAX;
        if !fits {
            return Err(corrupt(
                "a unit is too large, outside the blob, or ends before its chunk",
            ));
        }
        Ok(piece)
    }

    /// CRC-32C of the content of chunk `number`, if its info has one. Where chunks share units, other numbers stand there.
    pub(super) fn checksum(&self, number: u32) -> Option<u32> {
        let info = self.meta.as_ref()?.chunk(number).ok()?;
        let is_shared = info.flags & (CHUNK_BATCH | CHUNK_ZRAN) != 0;
        (info.flags & CHUNK_CRC32 != 0 && !is_shared).then_some(info.skip)
    }

    /// Where the bytes of chunk `number` are, according to its info alone; `None` behind the last. Only chunk infos that
    /// were read say so, and only of chunks in the blob itself.
    pub(super) fn stored(&self, number: u32) -> Option<Result<Stored, MetaError>> {
        let meta = self.meta.as_ref()?;
        (number < meta.chunk_count()).then(|| {
            let info = meta.chunk(number)?;
            let is_shared = info.flags & CHUNK_BATCH != 0;
            let len = match is_shared {
                true => meta.batch(info.context)?.compressed_size.get(),
                false => info.compressed.len,
            };
            Ok(Stored {
                bytes: Span {
                    len,
                    ..info.compressed
                },
                content: info.uncompressed,
                is_shared,
            })
        })
    }

    /// Expands the stored bytes of `unit` into `out` (exactly `unit.len` bytes). The content is not verified yet.
    pub fn expand(&self, unit: &Unit, stored: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
        let corrupt = DecodeError::Corrupt { expected: unit.len };
        if out.len() as u64 != u64::from(unit.len) {
            return Err(corrupt);
        }
        let done = match unit.method {
            Method::Whole(codec) => (expand(codec, stored, out) == Some(out.len())).then_some(()),
            Method::Inflate { context } => {
                let window = self.meta.as_ref().and_then(|meta| meta.window(context).ok());
                window.and_then(|window| inflate(window, stored, out))
            }
        };
        done.ok_or(corrupt)
    }

    fn batch(&self, meta: &Meta, context: u32, offset: u64) -> Result<Unit, MetaError> {
        let batch = meta.batch(context)?;
        let (stored, len) = (batch.compressed_size.get(), batch.uncompressed_size.get());
        let codec = match self.compressor {
            // As with single chunks, what compression does not shrink is stored as it is.
            _ if stored == len => Codec::Raw,
            Compressor::Zstd => Codec::Zstd,
            Compressor::Lz4Block => Codec::Lz4Block,
            Compressor::None | Compressor::Gzip => {
                return Err(MetaError::Corrupt {
                    what: "a batch is compressed in a blob of uncompressed chunks",
                    offset: 0,
                });
            }
        };
        Ok(Unit {
            stored: Span { offset, len: stored },
            len,
            method: Method::Whole(codec),
        })
    }

    fn gzip(meta: &Meta, number: u32) -> Result<Unit, MetaError> {
        let context = meta.zran(number)?;
        Ok(Unit {
            stored: Span {
                offset: context.in_offset.get(),
                len: context.in_len.get(),
            },
            len: context.out_len.get(),
            method: Method::Inflate { context: number },
        })
    }
}
