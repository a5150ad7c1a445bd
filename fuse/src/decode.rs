//! From stored bytes to content whose digest was checked: the only maker of [`VerifiedChunk`].

use bytes::Bytes;
use rafs::blob::{Piece, Unit, Units};
use rafs::chunk::{DecodeError, verify};
use rafs::{ChunkRef, Digester};

/// Longest content of a chunk, in bytes. The format's own limit, checked again here because a buffer of that
/// length is allocated before anything is decoded.
pub(crate) const CONTENT_LEN_MAX: u32 = 16 << 20;

/// Longest content of a unit, in bytes: the format's reader takes units of two chunks.
const UNIT_LEN_MAX: u32 = 2 * CONTENT_LEN_MAX;

/// Content of a chunk. That one exists is the proof that its digest was compared.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedChunk {
    chunk: ChunkRef,
    content: Bytes,
}

impl VerifiedChunk {
    /// Returns the chunk this is the content of.
    pub(crate) fn chunk(&self) -> &ChunkRef {
        &self.chunk
    }

    /// Returns the content, exactly `chunk().uncompressed.len` bytes.
    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }
}

/// Content of a unit, of which nothing was checked yet.
pub(crate) struct Expanded {
    unit: Unit,
    content: Bytes,
}

/// Expands the bytes a source gave for `unit`.
///
/// # Errors
/// The bytes do not expand to the announced length.
pub(crate) fn expand(units: &Units, unit: &Unit, stored: &[u8]) -> Result<Expanded, DecodeError> {
    if unit.len > UNIT_LEN_MAX {
        return Err(DecodeError::Corrupt { expected: unit.len });
    }
    let mut content = vec![0; unit.len as usize];
    units.expand(unit, stored, &mut content)?;
    Ok(Expanded {
        unit: *unit,
        content: content.into(),
    })
}

impl Expanded {
    /// Cuts a chunk out and checks it. What is cut shares the unit's memory.
    ///
    /// # Errors
    /// The chunk is no part of the unit, or the content has another digest.
    pub(crate) fn cut(
        &self,
        piece: &Piece,
        chunk: &ChunkRef,
        digester: Digester,
    ) -> Result<VerifiedChunk, DecodeError> {
        let expected = chunk.uncompressed.len;
        let content = piece.cut(&self.content).filter(|_| piece.unit == self.unit);
        let content = content.ok_or(DecodeError::Corrupt { expected })?;
        verify(chunk, digester, content)?;
        Ok(VerifiedChunk {
            chunk: *chunk,
            content: self.content.slice_ref(content),
        })
    }
}

/// Checks content that came back from the cache. `None` if it is not what it was.
pub(crate) fn recheck(chunk: &ChunkRef, digester: Digester, content: Vec<u8>) -> Option<VerifiedChunk> {
    let is_whole = content.len() == chunk.uncompressed.len as usize;
    (is_whole && digester.digest(&content) == chunk.digest).then_some(VerifiedChunk {
        chunk: *chunk,
        content: content.into(),
    })
}

#[cfg(test)]
mod tests {
    use rafs::chunk::encode;
    use rafs::{BlobIndex, Codec, Compressor, Span};

    use super::*;

    fn chunk_of(content: &[u8]) -> (ChunkRef, Vec<u8>) {
        let encoded = encode(content.to_vec(), Compressor::None, 0, Digester::Sha256);
        let len = encoded.len;
        let chunk = ChunkRef {
            blob: BlobIndex(0),
            index: 0,
            compressed: Span { offset: 0, len },
            uncompressed: Span { offset: 0, len },
            codec: Codec::Raw,
            digest: encoded.digest,
        };
        (chunk, encoded.data)
    }

    #[test]
    fn right_content_is_believed() {
        let (chunk, content) = chunk_of(b"some content");
        let verified = recheck(&chunk, Digester::Sha256, content).unwrap();
        assert_eq!(verified.content(), b"some content");
    }

    #[test]
    fn a_flipped_bit_or_a_missing_byte_is_not() {
        let (chunk, content) = chunk_of(b"some content");
        let mut flipped = content.clone();
        flipped[3] ^= 1;
        assert!(recheck(&chunk, Digester::Sha256, flipped).is_none());
        assert!(recheck(&chunk, Digester::Sha256, content[1..].to_vec()).is_none());
    }
}
