//! Which chunks and blobs the files of an image use, and their new numbers.

use super::{BuildError, walk::Walk};
use crate::blob::BlobInfo;
use crate::chunk::{BlobIndex, ChunkRef};
use crate::layout::{BLOBS_MAX, BLOCK, CHUNKS_MAX, COMPRESSED_MAX, UNCOMPRESSED_MAX};
use crate::tree::{ChunkId, Content, InodeId, Tree};

/// A chunk that some file has.
#[derive(Debug)]
pub(super) struct UsedChunk<'a> {
    /// Its number, with the blob's position in the image.
    pub(super) id: ChunkId,
    /// The chunk itself.
    pub(super) chunk: &'a ChunkRef,
    /// Byte offset of the chunk in the first file that has it.
    pub(super) file_offset: u64,
}

/// The blobs and chunks of an image.
#[derive(Debug)]
pub(super) struct Used<'a> {
    /// Blobs in the order of the image.
    pub(super) blobs: Vec<&'a BlobInfo>,
    /// Chunks by digest, then blob, then number.
    pub(super) chunks: Vec<UsedChunk<'a>>,
    /// The caller's position of a blob to that in the image.
    renumbered: Vec<Option<u16>>,
}

impl<'a> Used<'a> {
    /// Collects what the files of `walk` use, and checks that chunks and sizes agree.
    pub(super) fn new(
        tree: &Tree,
        walk: &Walk,
        blobs: &'a [BlobInfo],
        chunk_size: u32,
    ) -> Result<Self, BuildError> {
        let mut first_use: Vec<Vec<Option<u64>>> = vec![Vec::new(); blobs.len()];
        for visit in &walk.visits {
            if let Content::Regular { size, chunks } = &tree.node(visit.id).content {
                let file = File {
                    id: visit.id,
                    size: *size,
                    chunk_size,
                };
                file.mark(chunks, blobs, &mut first_use)?;
            }
        }
        let mut used = Used {
            blobs: Vec::new(),
            chunks: Vec::new(),
            renumbered: Vec::new(),
        };
        for (index, (blob, uses)) in blobs.iter().zip(&first_use).enumerate() {
            if uses.is_empty() {
                used.renumbered.push(None);
                continue;
            }
            check_blob(index, blob, chunk_size)?;
            used.add(blob, uses)?;
        }
        used.chunks
            .sort_unstable_by_key(|used| (used.chunk.digest, used.id.blob, used.id.index));
        Ok(used)
    }

    /// The blob's position in the image.
    pub(super) fn blob(&self, index: BlobIndex) -> u16 {
        self.renumbered[usize::from(index.0)].expect("every blob that a file uses was collected")
    }

    fn add(&mut self, blob: &'a BlobInfo, uses: &[Option<u64>]) -> Result<(), BuildError> {
        if self.blobs.len() == BLOBS_MAX {
            return Err(BuildError::TooLarge {
                what: "the number of blobs",
                limit: BLOBS_MAX as u64,
            });
        }
        let index = u16::try_from(self.blobs.len()).expect("fewer than 255 blobs");
        self.blobs.push(blob);
        self.renumbered.push(Some(index));
        for ((number, chunk), offset) in (0..).zip(&blob.chunks).zip(uses) {
            if let Some(file_offset) = *offset {
                let blob = BlobIndex(index);
                self.chunks.push(UsedChunk {
                    id: ChunkId { blob, index: number },
                    chunk,
                    file_offset,
                });
            }
        }
        Ok(())
    }
}

/// A regular file whose chunks are looked at.
struct File {
    id: InodeId,
    size: u64,
    chunk_size: u32,
}

impl File {
    /// Marks the file's chunks as used.
    fn mark(
        &self,
        chunks: &[ChunkId],
        blobs: &[BlobInfo],
        first_use: &mut [Vec<Option<u64>>],
    ) -> Result<(), BuildError> {
        let refuse = |what| BuildError::Inode { inode: self.id, what };
        let chunk_size = u64::from(self.chunk_size);
        if chunks.len() as u64 != self.size.div_ceil(chunk_size) {
            return Err(refuse("the number of chunks does not fit the size"));
        }
        for (number, id) in (0_u64..).zip(chunks) {
            let (blob, index) = (usize::from(id.blob.0), id.index as usize);
            let chunk = blobs.get(blob).and_then(|blob| blob.chunks.get(index));
            let chunk = chunk.ok_or_else(|| refuse("a chunk is not in the blobs"))?;
            let offset = number * chunk_size;
            if u64::from(chunk.uncompressed.len) != chunk_size.min(self.size - offset) {
                return Err(refuse("a chunk has not the length that its place asks for"));
            }
            let uses = &mut first_use[blob];
            if uses.is_empty() {
                uses.resize(blobs[blob].chunks.len(), None);
            }
            uses[index].get_or_insert(offset);
        }
        Ok(())
    }
}

/// Refuses a blob whose numbers do not fit the tables.
fn check_blob(index: usize, blob: &BlobInfo, chunk_size: u32) -> Result<(), BuildError> {
    let what = if blob.options.chunk_size != chunk_size {
        "the blob has another chunk size than the image"
    } else if blob.chunks.len() as u64 > u64::from(CHUNKS_MAX) {
        "the blob has more than 2^24 - 1 chunks"
    } else if blob.compressed_size > COMPRESSED_MAX {
        "the blob is larger than 1 TiB"
    } else if blob.uncompressed_size > UNCOMPRESSED_MAX {
        "the blob holds more than 16 TiB"
    } else if blob.chunks.iter().any(|chunk| !fits(chunk, blob)) {
        "a chunk lies outside the blob, or not at a multiple of 4096"
    } else {
        return Ok(());
    };
    Err(BuildError::Blob { index, what })
}

/// Whether a chunk lies inside its blob.
fn fits(chunk: &ChunkRef, blob: &BlobInfo) -> bool {
    let inside = |span: crate::Span, size| {
        (span.offset.checked_add(u64::from(span.len))).is_some_and(|end| end <= size)
    };
    chunk.uncompressed.offset.is_multiple_of(BLOCK)
        && inside(chunk.uncompressed, blob.uncompressed_size)
        && inside(chunk.compressed, blob.compressed_size)
}
