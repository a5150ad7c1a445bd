//! From content to stored bytes and back.

use std::cell::RefCell;

use sha2::{Digest as _, Sha256};

use super::{ChunkRef, Codec, Compressor, DecodeError, Digest, Digester, EncodedChunk};

/// A zstd compressor, the level it is set to, and room for what it makes.
struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    level: i32,
    room: Vec<u8>,
}

thread_local! {
    // A context costs more to make than a small chunk to compress.
    static ENCODER: RefCell<Option<Encoder>> = const { RefCell::new(None) };
    static DECODER: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::default();
}

impl Digester {
    /// Hashes `content`.
    pub fn digest(self, content: &[u8]) -> Digest {
        Digest(match self {
            Digester::Blake3 => *blake3::hash(content).as_bytes(),
            Digester::Sha256 => Sha256::digest(content).into(),
        })
    }
}

/// Decodes the stored bytes of `chunk` into `out` (exactly `chunk.uncompressed.len` bytes) and checks the digest.
///
/// Nothing is allocated by what the stored bytes announce. After an error the content of `out` is unspecified.
pub fn decode(
    chunk: &ChunkRef,
    digester: Digester,
    stored: &[u8],
    out: &mut [u8],
) -> Result<(), DecodeError> {
    if chunk.codec == Codec::Shared {
        return Err(DecodeError::Shared);
    }
    let expected = chunk.uncompressed.len;
    if expand(chunk.codec, stored, out) != Some(out.len()) {
        return Err(DecodeError::Corrupt { expected });
    }
    verify(chunk, digester, out)
}

/// Checks that `content` is the content of `chunk`.
pub fn verify(chunk: &ChunkRef, digester: Digester, content: &[u8]) -> Result<(), DecodeError> {
    let expected = chunk.uncompressed.len;
    if content.len() as u64 != u64::from(expected) {
        return Err(DecodeError::Corrupt { expected });
    }
    let actual = digester.digest(content);
    if actual != chunk.digest {
        return Err(DecodeError::DigestMismatch {
            expected: chunk.digest,
            actual,
        });
    }
    Ok(())
}

/// Decompresses into `out` and returns how many bytes came, or `None` if they do not fit or are damaged.
pub(crate) fn expand(codec: Codec, stored: &[u8], out: &mut [u8]) -> Option<usize> {
    match codec {
        Codec::Raw => {
            out.get_mut(..stored.len())?.copy_from_slice(stored);
            Some(stored.len())
        }
        Codec::Zstd => DECODER.with_borrow_mut(|zstd| zstd.decompress_to_buffer(stored, out).ok()),
        Codec::Lz4Block => lz4_flex::block::decompress_into(stored, out).ok(),
        Codec::Shared => None,
    }
}

/// Hashes and compresses `content`; stored raw where compression does not shrink it.
///
/// `content` is at most a chunk: 16 MiB. `level` is zstd's; other compressors have none. Gzip is only ever referenced, so it stores raw.
pub fn encode(content: Vec<u8>, compressor: Compressor, level: i32, digester: Digester) -> EncodedChunk {
    let digest = digester.digest(&content);
    compress(digest, content, compressor, level)
}

/// As [`encode`], for content whose digest is known.
pub fn compress(digest: Digest, content: Vec<u8>, compressor: Compressor, level: i32) -> EncodedChunk {
    let len = u32::try_from(content.len()).expect("a chunk is at most 16 MiB");
    let (data, is_compressed) = match shrink(&content, compressor, level) {
        Some(smaller) => (smaller, true),
        None => (content, false),
    };
    EncodedChunk {
        digest,
        len,
        data,
        is_compressed,
    }
}

/// Compresses `content`, or returns `None` if that does not make it smaller.
pub(crate) fn shrink(content: &[u8], compressor: Compressor, level: i32) -> Option<Vec<u8>> {
    let smaller = match compressor {
        Compressor::None | Compressor::Gzip => None,
        Compressor::Lz4Block => Some(lz4_flex::block::compress(content)),
        Compressor::Zstd => ENCODER.with_borrow_mut(|slot| {
            slot.get_or_insert_with(|| Encoder::new(level))
                .compress(content, level)
        }),
    };
    smaller.filter(|smaller| smaller.len() < content.len())
}

impl Encoder {
    fn new(level: i32) -> Self {
        Encoder {
            zstd: zstd::bulk::Compressor::new(level).expect("a context without dictionary is always made"),
            level,
            room: Vec::new(),
        }
    }

    fn compress(&mut self, content: &[u8], level: i32) -> Option<Vec<u8>> {
        if self.level != level {
            self.zstd.set_compression_level(level).ok()?;
            self.level = level;
        }
        // The full bound, not the content's length: with less room zstd takes other paths, slower ones.
        let bound = zstd::zstd_safe::compress_bound(content.len());
        if self.room.len() < bound {
            self.room.resize(bound, 0);
        }
        let len = self
            .zstd
            .compress_to_buffer(content, self.room.as_mut_slice())
            .ok()?;
        Some(self.room[..len].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{BlobIndex, Span};

    fn reference(chunk: &EncodedChunk, codec: Codec) -> ChunkRef {
        ChunkRef {
            blob: BlobIndex(0),
            index: 0,
            compressed: Span {
                offset: 0,
                len: chunk.data.len() as u32,
            },
            uncompressed: Span {
                offset: 0,
                len: chunk.len,
            },
            codec: if chunk.is_compressed { codec } else { Codec::Raw },
            digest: chunk.digest,
        }
    }

    const PAIRS: [(Compressor, Codec); 3] = [
        (Compressor::None, Codec::Raw),
        (Compressor::Zstd, Codec::Zstd),
        (Compressor::Lz4Block, Codec::Lz4Block),
    ];

    #[test]
    fn content_comes_back() {
        for content in [b"x".to_vec(), vec![7; 100_000], (0..=255).collect()] {
            for (compressor, codec) in PAIRS {
                for digester in [Digester::Blake3, Digester::Sha256] {
                    let chunk = encode(content.clone(), compressor, 3, digester);
                    let mut out = vec![0; content.len()];
                    decode(&reference(&chunk, codec), digester, &chunk.data, &mut out).unwrap();
                    assert_eq!(out, content);
                }
            }
        }
    }

    #[test]
    fn incompressible_content_is_stored_raw() {
        let chunk = encode((0..=255).collect(), Compressor::Zstd, 3, Digester::Sha256);
        assert!(!chunk.is_compressed);
        assert_eq!(chunk.data.len(), 256);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for (compressor, codec) in PAIRS {
            let chunk = encode(b"abc".repeat(30), compressor, 3, Digester::Sha256);
            let reference = reference(&chunk, codec);
            let mut out = vec![0; 90];
            for bit in 0..chunk.data.len() * 8 {
                let mut stored = chunk.data.clone();
                stored[bit / 8] ^= 1 << (bit % 8);
                // A bit that codecs ignore may flip, as long as the content is the same.
                if decode(&reference, Digester::Sha256, &stored, &mut out).is_ok() {
                    assert_eq!(out, b"abc".repeat(30));
                }
            }
        }
    }

    #[test]
    fn more_or_less_than_announced_is_corrupt() {
        for (compressor, codec) in PAIRS {
            let chunk = encode(vec![1; 5000], compressor, 3, Digester::Sha256);
            for len in [4999_u32, 5001] {
                let mut reference = reference(&chunk, codec);
                reference.uncompressed.len = len;
                let error = decode(
                    &reference,
                    Digester::Sha256,
                    &chunk.data,
                    &mut vec![0; len as usize],
                );
                assert!(matches!(error, Err(DecodeError::Corrupt { expected }) if expected == len));
            }
        }
    }

    #[test]
    fn levels_out_of_range_are_the_nearest() {
        let content = b"slipway ".repeat(500);
        for (level, nearest) in [(i32::MAX, 22), (99, 22)] {
            let [one, other] = [level, nearest]
                .map(|level| encode(content.clone(), Compressor::Zstd, level, Digester::Sha256));
            assert_eq!(one.data, other.data);
        }
    }

    #[test]
    fn levels_alternate_on_one_thread() {
        let content = b"slipway ".repeat(5000);
        let first = encode(content.clone(), Compressor::Zstd, 1, Digester::Sha256);
        encode(content.clone(), Compressor::Zstd, 19, Digester::Sha256);
        let again = encode(content, Compressor::Zstd, 1, Digester::Sha256);
        assert_eq!(first.data, again.data);
    }
}
