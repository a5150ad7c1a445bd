//! Single chunks: from stored bytes to content, and from content to stored bytes and back.

use rafs::chunk::{DecodeError, decode, encode};
use rafs::{BlobIndex, ChunkRef, Codec, Compressor, Digest, Digester, Span};

use super::take;

/// Longest content asked for: beyond it nothing new happens, only slower.
const CONTENT_LEN_MAX: u32 = 1 << 18;

/// Decodes an input as each codec would, and encodes it with each compressor.
///
/// Nothing is content unless its digest is the announced one; what was encoded comes back.
pub fn chunk(input: &[u8]) {
    let mut rest = input;
    let [choice] = take(&mut rest);
    let len = u32::from_le_bytes(take(&mut rest)) % (CONTENT_LEN_MAX + 1);
    let (compressor, codec) = match choice % 3 {
        0 => (Compressor::None, Codec::Raw),
        1 => (Compressor::Zstd, Codec::Zstd),
        _ => (Compressor::Lz4Block, Codec::Lz4Block),
    };
    let digester = match choice & 0x80 {
        0 => Digester::Sha256,
        _ => Digester::Blake3,
    };
    decoded(codec, digester, rest, len);
    let encoded = encode(rest.to_vec(), compressor, 1, digester);
    let codec = if encoded.is_compressed { codec } else { Codec::Raw };
    let mut out = vec![0; rest.len()];
    let reference = reference(codec, &encoded.data, encoded.len, encoded.digest);
    decode(&reference, digester, &encoded.data, &mut out).expect("what was encoded is decoded");
    assert_eq!(out, rest);
}

fn decoded(codec: Codec, digester: Digester, stored: &[u8], len: u32) {
    let mut out = vec![0; len as usize];
    let mut chunk = reference(codec, stored, len, Digest([0; 32]));
    match decode(&chunk, digester, stored, &mut out) {
        Ok(()) => panic!("nobody has content of this digest"),
        Err(DecodeError::DigestMismatch { actual, .. }) => {
            chunk.digest = actual;
            decode(&chunk, digester, stored, &mut out).expect("the digest is right now");
            assert_eq!(digester.digest(&out), actual);
        }
        Err(DecodeError::Corrupt { expected }) => assert_eq!(expected, len),
        Err(DecodeError::Shared) => panic!("the chunk is not shared"),
    }
}

fn reference(codec: Codec, stored: &[u8], len: u32, digest: Digest) -> ChunkRef {
    ChunkRef {
        blob: BlobIndex(0),
        index: 0,
        compressed: Span {
            offset: 0,
            len: u32::try_from(stored.len()).expect("inputs are small"),
        },
        uncompressed: Span { offset: 0, len },
        codec,
        digest,
    }
}
