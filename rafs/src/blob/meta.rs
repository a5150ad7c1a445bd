//! Reading a blob's chunk infos and their contexts.

use zerocopy::{FromBytes, Immutable, Unaligned};

use super::chunk_info::ChunkInfo;
use super::inflate::Window;
use crate::chunk::{Codec, Compressor, expand};
use crate::image::Blob;
use crate::layout::{
    self, BATCH_CONTEXT_LEN, BLOCK, BatchContext, CHUNK_INFO_V1_LEN, CHUNK_INFO_V2_LEN, ChunkInfoV1,
    ChunkInfoV2, MetaHeader, ZRAN_CONTEXT_LEN, ZranContext,
};

/// Most bytes of uncompressed chunk infos. Windows of gzip contexts make nearly all of them, 32 KiB for each
/// 512 KiB of a layer or more: room for layers of 4 GiB.
pub(super) const META_MAX: u64 = 256 << 20;

/// Why chunk infos, or the sections of a blob, cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Damaged: what, where in the uncompressed chunk infos or in the section.
    #[error("corrupt blob metadata: {what} at byte {offset}")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Byte offset.
        offset: u64,
    },
    /// More than this reader takes.
    #[error("blob metadata of {len} bytes is larger than {limit}")]
    TooLarge {
        /// Bytes of the chunk infos.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A feature this reader does not know.
    #[error("unsupported RAFS feature {feature}")]
    Unsupported {
        /// Name of the feature.
        feature: &'static str,
    },
}

/// A blob's chunk infos, uncompressed.
#[derive(Debug)]
pub(super) struct Meta {
    bytes: Vec<u8>,
    has_v2: bool,
    chunk_count: u64,
    context_offset: u64,
    context_count: u64,
}

impl Meta {
    /// Reads what is stored at [`Blob::meta_range`]: the chunk infos and their header.
    pub(super) fn read(blob: &Blob, stored: &[u8]) -> Result<Self, MetaError> {
        let corrupt = |what| MetaError::Corrupt { what, offset: 0 };
        let place = &blob.meta;
        let split = (stored.len() as u64).checked_sub(BLOCK);
        if split != Some(place.compressed_size) {
            return Err(corrupt("the length is not that of the blob table"));
        }
        let (infos, header) = stored.split_at(stored.len() - BLOCK as usize);
        let header = MetaHeader::ref_from_bytes(header).map_err(|_| corrupt("the header is cut off"))?;
        check_header(header, blob)?;
        let context_len = match blob.features {
            features if features & layout::BLOB_ZRAN != 0 => ZRAN_CONTEXT_LEN,
            _ => BATCH_CONTEXT_LEN,
        };
        let has_v2 = blob.features & layout::BLOB_CHUNK_INFO_V2 != 0;
        let info_len = if has_v2 {
            CHUNK_INFO_V2_LEN
        } else {
            CHUNK_INFO_V1_LEN
        };
        let (start, count) = (header.context_offset.get(), u64::from(header.context_count.get()));
        let end = start.checked_add(count * context_len);
        if count > 0
            && (start < u64::from(blob.chunk_count) * info_len
                || end.is_none_or(|end| end > place.uncompressed_size))
        {
            return Err(corrupt("the contexts lie outside the chunk infos"));
        }
        if place.uncompressed_size < u64::from(blob.chunk_count) * info_len {
            return Err(corrupt("there are fewer chunk infos than chunks"));
        }
        Ok(Meta {
            bytes: uncompress(infos, place.compressor, place.uncompressed_size)?,
            has_v2,
            chunk_count: u64::from(blob.chunk_count),
            context_offset: start,
            context_count: count,
        })
    }

    /// The info of a chunk.
    pub(super) fn chunk(&self, index: u32) -> Result<ChunkInfo, MetaError> {
        let index = u64::from(index);
        let what = "a chunk has no info";
        if index >= self.chunk_count {
            return Err(MetaError::Corrupt { what, offset: 0 });
        }
        if self.has_v2 {
            self.read_at::<ChunkInfoV2>(index * CHUNK_INFO_V2_LEN, what)
                .map(ChunkInfo::from)
        } else {
            self.read_at::<ChunkInfoV1>(index * CHUNK_INFO_V1_LEN, what)
                .map(ChunkInfo::from)
        }
    }

    /// Count of chunk infos.
    pub(super) fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunk_count).expect("made of 32 bits")
    }

    /// A batch.
    pub(super) fn batch(&self, number: u32) -> Result<&BatchContext, MetaError> {
        self.read_at(
            self.context(number, BATCH_CONTEXT_LEN)?,
            "a batch lies outside the chunk infos",
        )
    }

    /// A place to start inflating.
    pub(super) fn zran(&self, number: u32) -> Result<&ZranContext, MetaError> {
        self.read_at(
            self.context(number, ZRAN_CONTEXT_LEN)?,
            "a gzip context lies outside the chunk infos",
        )
    }

    /// What inflation needs to start at a context.
    pub(super) fn window(&self, number: u32) -> Result<Window<'_>, MetaError> {
        let context = self.zran(number)?;
        let windows = self.context_offset + self.context_count * ZRAN_CONTEXT_LEN;
        let corrupt = MetaError::Corrupt {
            what: "the window of a gzip context lies outside the chunk infos",
            offset: windows,
        };
        let start = windows.checked_add(context.dict_offset.get()).ok_or(corrupt)?;
        let content = self
            .get(start, u64::from(context.dict_size.get()))
            .ok_or(corrupt)?;
        Window::new(content, context.byte, context.bits).ok_or(MetaError::Corrupt {
            what: "the window of a gzip context is larger than 32 KiB, or more than 7 bits are left over",
            offset: start,
        })
    }

    fn context(&self, number: u32, len: u64) -> Result<u64, MetaError> {
        if u64::from(number) >= self.context_count {
            return Err(MetaError::Corrupt {
                what: "a chunk's context does not exist",
                offset: self.context_offset,
            });
        }
        Ok(self.context_offset + u64::from(number) * len)
    }

    fn read_at<T>(&self, offset: u64, what: &'static str) -> Result<&T, MetaError>
    where
        T: FromBytes + zerocopy::KnownLayout + Immutable + Unaligned,
    {
        let bytes = self.get(offset, size_of::<T>() as u64);
        let value = bytes.and_then(|bytes| T::ref_from_bytes(bytes).ok());
        value.ok_or(MetaError::Corrupt { what, offset })
    }

    fn get(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.bytes.get(start..end)
    }
}

fn check_header(header: &MetaHeader, blob: &Blob) -> Result<(), MetaError> {
    let place = &blob.meta;
    let agrees = [
        (
            header.magic.get() == MetaHeader::MAGIC && header.magic_tail.get() == MetaHeader::MAGIC,
            "the header has no magic number",
        ),
        (
            header.chunk_count.get() == blob.chunk_count,
            "header and blob table disagree on the number of chunks",
        ),
        (
            header.compressor.get() == place.compressor.to_disk(),
            "header and blob table disagree on the compressor",
        ),
        (
            header.offset.get() == place.offset
                && header.compressed_size.get() == place.compressed_size
                && header.uncompressed_size.get() == place.uncompressed_size,
            "header and blob table disagree on the chunk infos' place",
        ),
    ];
    match agrees.iter().find(|(agrees, _)| !agrees) {
        None => Ok(()),
        Some(&(_, what)) => Err(MetaError::Corrupt {
            what,
            offset: place.compressed_size,
        }),
    }
}

/// Expands a section whose uncompressed length is announced, but only up to a limit.
pub(super) fn uncompress(stored: &[u8], compressor: Compressor, len: u64) -> Result<Vec<u8>, MetaError> {
    let codec = match compressor {
        Compressor::None => Codec::Raw,
        Compressor::Lz4Block => Codec::Lz4Block,
        Compressor::Zstd => Codec::Zstd,
        Compressor::Gzip => {
            return Err(MetaError::Unsupported {
                feature: "gzip-compressed metadata",
            });
        }
    };
    let too_large = MetaError::TooLarge { len, limit: META_MAX };
    let room = usize::try_from(len).ok().filter(|_| len <= META_MAX);
    let mut bytes = vec![0; room.ok_or(too_large)?];
    if expand(codec, stored, &mut bytes) != Some(bytes.len()) {
        return Err(MetaError::Corrupt {
            what: "it does not decompress to the announced length",
            offset: 0,
        });
    }
    Ok(bytes)
}
