//! From stored bytes to content whose digest was checked: the only maker of [`VerifiedChunk`].

use rafs::chunk::DecodeError;
use rafs::{ChunkRef, Digester};

/// Longest content of a chunk, in bytes. The format's own limit, checked again here because a buffer of that
/// length is allocated before anything is decoded.
pub(crate) const CONTENT_LEN_MAX: u32 = 16 << 20;

/// Content of a chunk. That one exists is the proof that its digest was compared.
#[derive(Debug)]
pub(crate) struct VerifiedChunk {
    chunk: ChunkRef,
    content: Vec<u8>,
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

/// Decodes the bytes a source gave for `chunk` and checks them.
///
/// # Errors
/// The bytes do not decode to the announced length, or the content has another digest.
pub(crate) fn decode(
    chunk: &ChunkRef,
    digester: Digester,
    stored: &[u8],
) -> Result<VerifiedChunk, DecodeError> {
    let expected = chunk.uncompressed.len;
    if expected > CONTENT_LEN_MAX {
        return Err(DecodeError::Corrupt { expected });
    }
    let mut content = vec![0; expected as usize];
    rafs::chunk::decode(chunk, digester, stored, &mut content)?;
    Ok(VerifiedChunk {
        chunk: *chunk,
        content,
    })
}

/// Checks content that came back from the cache. `None` if it is not what it was.
pub(crate) fn recheck(chunk: &ChunkRef, digester: Digester, content: Vec<u8>) -> Option<VerifiedChunk> {
    let is_whole = content.len() == chunk.uncompressed.len as usize;
    (is_whole && digester.digest(&content) == chunk.digest).then_some(VerifiedChunk {
        chunk: *chunk,
        content,
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
    fn right_bytes_become_a_chunk() {
        let (chunk, stored) = chunk_of(b"some content");
        let verified = decode(&chunk, Digester::Sha256, &stored).unwrap();
        assert_eq!(verified.content(), b"some content");
        assert!(recheck(&chunk, Digester::Sha256, stored).is_some());
    }

    #[test]
    fn a_flipped_bit_does_not() {
        let (chunk, mut stored) = chunk_of(b"some content");
        stored[3] ^= 1;
        assert!(matches!(
            decode(&chunk, Digester::Sha256, &stored),
            Err(DecodeError::DigestMismatch { .. })
        ));
        assert!(recheck(&chunk, Digester::Sha256, stored).is_none());
    }

    #[test]
    fn an_absurd_length_is_refused_before_it_is_allocated() {
        let (mut chunk, stored) = chunk_of(b"x");
        chunk.uncompressed.len = u32::MAX;
        assert!(matches!(
            decode(&chunk, Digester::Sha256, &stored),
            Err(DecodeError::Corrupt { expected: u32::MAX })
        ));
    }
}
