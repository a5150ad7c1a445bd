//! The chunk table, and an index of it by blob and number.

use std::ops::Range;

use super::bytes::{Bytes, ensure};
use super::superblock::OnFault;
use super::{Blob, Error, View};
use crate::chunk::{BlobIndex, ChunkRef, Codec, Compressor, Digest, Span};
use crate::layout::{self, BLOCK, ChunkEntry};

/// Bytes of an entry.
const ENTRY_LEN: u64 = size_of::<ChunkEntry>() as u64;

/// Positions in the chunk table, by blob and number. The table itself is sorted by digest.
pub(super) struct ChunkTable {
    /// Positions of entries, ordered by blob, then by the chunk's number.
    positions: Vec<u32>,
    /// Where the positions of each blob start; one more at the end.
    starts: Vec<usize>,
}

impl ChunkTable {
    /// Reads the whole table once. Memory depends on the file's length only, whatever its numbers say.
    pub(super) fn read(
        bytes: Bytes<'_>,
        table: &Range<u64>,
        blobs: &[Blob],
        on_fault: &mut OnFault<'_>,
    ) -> Result<Self, Error> {
        let entries: &[ChunkEntry] =
            bytes.read_all(table.start, table.end - table.start, "the chunk table")?;
        ensure(
            u32::try_from(entries.len()).is_ok(),
            "the chunk table has more than 2^32 entries",
            table.start,
        )?;
        // One word per entry sorts fastest: blob (8 bits), number (24 bits), position (32 bits).
        let mut keys = Vec::with_capacity(entries.len());
        for (position, entry) in (0_u64..).zip(entries) {
            let (blob, number) = (entry.blob_index.get(), entry.index.get());
            let count = blobs.get(blob as usize).map_or(0, |blob| blob.chunk_count);
            if number >= count {
                let what = "a chunk's blob or number does not exist";
                let offset = table.start + position * ENTRY_LEN;
                on_fault(Error::Corrupt { what, offset })?;
                continue;
            }
            keys.push(u64::from(blob) << 56 | u64::from(number) << 32 | position);
        }
        keys.sort_unstable();
        for pair in keys.windows(2).filter(|pair| pair[0] >> 32 == pair[1] >> 32) {
            on_fault(Error::Corrupt {
                what: "a chunk is listed twice",
                offset: table.start + (pair[1] & 0xFFFF_FFFF) * ENTRY_LEN,
            })?;
        }
        keys.dedup_by_key(|key| *key >> 32);
        let starts = (0..=blobs.len() as u64)
            .map(|blob| keys.partition_point(|key| key >> 56 < blob))
            .collect();
        // The low word is the position.
        let positions = keys.iter().map(|&key| key as u32).collect();
        Ok(ChunkTable { positions, starts })
    }

    /// Positions of a blob's entries, by number; empty for an unknown blob.
    pub(super) fn of_blob(&self, blob: BlobIndex) -> &[u32] {
        let blob = usize::from(blob.0);
        match (self.starts.get(blob), self.starts.get(blob + 1)) {
            (Some(&start), Some(&end)) => &self.positions[start..end],
            _ => &[],
        }
    }
}

impl<'a> View<'a> {
    /// Chunk `number` of a blob.
    pub(super) fn chunk(self, blob: BlobIndex, number: u32) -> Result<ChunkRef, Error> {
        self.chunk_at_position(self.position(blob, number)?)
    }

    /// CRC-32C of a chunk's content, if there is one.
    pub(super) fn checksum(self, blob: BlobIndex, number: u32) -> Result<Option<u32>, Error> {
        let (entry, _) = self.chunk_entry(self.position(blob, number)?)?;
        let has_one = entry.flags.get() & layout::CHUNK_CRC32 != 0;
        Ok(has_one.then(|| entry.crc32.get()))
    }

    /// Position in the chunk table of chunk `number` of a blob.
    fn position(self, blob: BlobIndex, number: u32) -> Result<u32, Error> {
        let missing = Error::Corrupt {
            what: "a chunk is not in the chunk table",
            offset: self.shape.tables.chunks.start,
        };
        let positions = self.shape.chunks.of_blob(blob);
        // Numbers ascend without repetition, so chunk n cannot stand behind place n; where none is left out, it
        // stands exactly there.
        let last = (number as usize).min(positions.len().wrapping_sub(1));
        let number_at = |at: usize| {
            self.chunk_entry(positions[at])
                .map(|(entry, _)| entry.index.get())
        };
        if positions.is_empty() {
            return Err(missing);
        }
        if number_at(last)? == number {
            return Ok(positions[last]);
        }
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = low + (high - low) / 2;
            if number_at(middle)? < number {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if number_at(low)? != number {
            return Err(missing);
        }
        Ok(positions[low])
    }

    /// The chunk at a position of the chunk table.
    pub(super) fn chunk_at_position(self, position: u32) -> Result<ChunkRef, Error> {
        let (entry, offset) = self.chunk_entry(position)?;
        let corrupt = |what| Error::Corrupt { what, offset };
        let index = u16::try_from(entry.blob_index.get()).ok();
        let index = index.ok_or_else(|| corrupt("a chunk's blob does not exist"))?;
        let blob = (self.shape.blobs.get(usize::from(index)))
            .ok_or_else(|| corrupt("a chunk's blob does not exist"))?;
        let chunk = ChunkRef {
            blob: BlobIndex(index),
            index: entry.index.get(),
            compressed: Span {
                offset: entry.compressed_offset.get(),
                len: entry.compressed_size.get(),
            },
            uncompressed: Span {
                offset: entry.uncompressed_offset.get(),
                len: entry.uncompressed_size.get(),
            },
            codec: codec(entry, blob, offset)?,
            digest: Digest(entry.digest),
        };
        self.check_place(&chunk, blob, offset)?;
        Ok(chunk)
    }

    fn check_place(self, chunk: &ChunkRef, blob: &Blob, offset: u64) -> Result<(), Error> {
        let inside = |span: Span, size: u64| {
            let end = span.offset.checked_add(u64::from(span.len));
            end.is_some_and(|end| end <= size)
        };
        ensure(
            (1..=self.shape.chunk_size).contains(&chunk.uncompressed.len),
            "a chunk is empty, or larger than the chunk size",
            offset,
        )?;
        ensure(
            chunk.uncompressed.offset.is_multiple_of(BLOCK)
                && inside(chunk.uncompressed, blob.uncompressed_size),
            "a chunk lies outside its blob's uncompressed image",
            offset,
        )?;
        if chunk.codec == Codec::Shared {
            return Ok(());
        }
        ensure(
            inside(chunk.compressed, blob.compressed_size),
            "a chunk lies outside its blob",
            offset,
        )?;
        // Compression that does not shrink is not kept, so nothing stored is longer than its content.
        ensure(
            chunk.compressed.len > 0 && chunk.compressed.len <= chunk.uncompressed.len,
            "a chunk's stored bytes are none, or more than its content",
            offset,
        )
    }

    fn chunk_entry(self, position: u32) -> Result<(&'a ChunkEntry, u64), Error> {
        let offset = self.shape.tables.chunks.start + u64::from(position) * ENTRY_LEN;
        let entry = self.bytes.read(offset, "a chunk lies outside the file")?;
        Ok((entry, offset))
    }
}

fn codec(entry: &ChunkEntry, blob: &Blob, offset: u64) -> Result<Codec, Error> {
    if entry.flags.get() & layout::CHUNK_TABLE_ENCRYPTED != 0 {
        return Err(Error::Unsupported {
            feature: "encryption",
            offset,
        });
    }
    let is_zran = blob.features & layout::BLOB_ZRAN != 0;
    let is_batch = blob.features & layout::BLOB_BATCH != 0 && entry.compressed_size.get() == 0;
    if is_zran || is_batch {
        return Ok(Codec::Shared);
    }
    if entry.flags.get() & layout::CHUNK_COMPRESSED == 0 {
        ensure(
            entry.compressed_size.get() == entry.uncompressed_size.get(),
            "an uncompressed chunk has two lengths",
            offset,
        )?;
        return Ok(Codec::Raw);
    }
    match blob.compressor {
        Compressor::Zstd => Ok(Codec::Zstd),
        Compressor::Lz4Block => Ok(Codec::Lz4Block),
        Compressor::None | Compressor::Gzip => Err(Error::Corrupt {
            what: "a chunk is compressed in a blob of uncompressed chunks",
            offset,
        }),
    }
}
