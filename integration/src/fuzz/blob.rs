//! Blobs: chunk infos with their contexts, units, tables of contents, whole files.

use std::sync::LazyLock;

use rafs::blob::{BLOB_FAULTS_MAX, BlobCheck, MetaPlace, Subject, TOC_TAIL_MAX, Toc, TocPlace, Units};
use rafs::image::Blob;
use rafs::layout::{
    BLOB_ALIGNED, BLOB_BATCH, BLOB_CHUNK_INFO_V2, BLOB_ZRAN, BLOCK, CHUNK_INFO_V1_LEN, CHUNK_INFO_V2_LEN,
    MetaHeader,
};
use rafs::{BlobIndex, ChunkRef, Codec, Compressor, Digest, Digester, Image, Span};
use sha2::{Digest as _, Sha256};

use super::{seed, take};

/// Chunks that are asked for.
const CHUNK_COUNT_MAX: u32 = 64;
/// Longest section or unit that is expanded here: beyond it nothing new happens, only slower.
const EXPANDED_LEN_MAX: u64 = 1 << 20;
/// The reader's own bound on a unit, stored or expanded.
const UNIT_LEN_MAX: u32 = 32 << 20;
/// Bytes that a whole file is checked by: few, so that parts and pieces end at different places.
const PIECE_LEN: usize = 100;
/// An image whose blob an input is checked as; one of the seeds is that blob.
static SAMPLE: LazyLock<Image<Vec<u8>>> = LazyLock::new(|| {
    let bootstrap = seed::bootstrap().swap_remove(0);
    Image::open(bootstrap).expect("the sample is sound")
});
/// Length of what an input of [`blob_meta`] and [`zran`] starts with.
pub(super) const CONTROL_LEN: usize = 16;

/// Reads chunk infos of both versions, with and without batches.
///
/// A unit lies in its blob and is no longer than the bound; a chunk lies in its unit; expanding fills exactly that.
pub fn blob_meta(input: &[u8]) {
    let features = match input.first() {
        Some(byte) if byte & 1 != 0 => BLOB_CHUNK_INFO_V2 | BLOB_BATCH,
        Some(byte) if byte & 2 != 0 => BLOB_CHUNK_INFO_V2,
        _ => 0,
    };
    read(input, features);
}

/// Reads chunk infos that refer to places in a gzip stream, and inflates from there.
///
/// The promises are those of [`blob_meta`].
pub fn zran(input: &[u8]) {
    read(input, BLOB_CHUNK_INFO_V2 | BLOB_ZRAN);
}

/// Reads a table of contents, and expands its sections. Checks the whole as the file of a sample's blob.
///
/// Sections lie in the blob; one that expands has the announced length and digest. Faults are told in their order.
pub fn toc(input: &[u8]) {
    check(input);
    let Ok(toc) = Toc::read(input, input.len() as u64) else {
        return;
    };
    for section in toc.sections() {
        let (start, end) = (section.range.start, section.range.end);
        assert!(start <= end && end <= input.len() as u64);
        if section.len > EXPANDED_LEN_MAX {
            continue;
        }
        let range = usize::try_from(start).expect("inside")..usize::try_from(end).expect("inside");
        if let Ok(content) = section.expand(&input[range]) {
            assert_eq!(content.len() as u64, section.len);
            assert_eq!(<[u8; 32]>::from(Sha256::digest(&content)), section.digest);
        }
    }
}

fn check(input: &[u8]) {
    let image = &*SAMPLE;
    let blob = &image.blobs()[0];
    let range = blob.meta_range().1;
    let place =
        usize::try_from(range.start).expect("a sample")..usize::try_from(range.end).expect("a sample");
    let infos = input.get(place).and_then(|stored| Units::read(blob, stored).ok());
    let subject = Subject {
        image,
        blob: BlobIndex(0),
        infos: infos.as_ref(),
    };
    let tail_len = usize::try_from(TOC_TAIL_MAX).expect("some kilobytes");
    let tail = &input[input.len().saturating_sub(tail_len)..];
    let mut check = BlobCheck::new(subject, input.len() as u64, tail).expect("the sample has a blob");
    input.chunks(PIECE_LEN).for_each(|piece| check.update(piece));
    let faults = check.finish();
    assert!(faults.is_sorted_by_key(|fault| fault.offset) && faults.len() <= BLOB_FAULTS_MAX);
}

/// An input is the control bytes, the chunk infos as stored, and the blob's own bytes:
/// `_, compressor, chunk_count: u16, stored_len: u16, _, context_offset: u32, context_count: u16, _`.
fn read(input: &[u8], features: u32) {
    let mut rest = input;
    let control: [u8; CONTROL_LEN] = take(&mut rest);
    let word = |at: usize| u16::from_le_bytes([control[at], control[at + 1]]);
    let stored_len = usize::from(word(4)).min(rest.len());
    let (infos, data) = rest.split_at(stored_len);
    let compressor = match control[1] % 2 {
        0 => Compressor::None,
        _ => Compressor::Zstd,
    };
    let plain_len = match compressor {
        Compressor::None => infos.len() as u64,
        _ => u64::from(u32::from_le_bytes([control[12], control[13], control[14], 0])) % EXPANDED_LEN_MAX,
    };
    let blob = Blob {
        id: "0".repeat(64),
        chunk_count: u32::from(word(2)),
        compressed_size: data.len() as u64,
        uncompressed_size: 1 << 44,
        compressor: match control[7] % 2 {
            0 => Compressor::Zstd,
            _ => Compressor::Lz4Block,
        },
        digester: Digester::Sha256,
        features: features | BLOB_ALIGNED,
        meta: MetaPlace {
            compressor,
            offset: 0,
            compressed_size: infos.len() as u64,
            uncompressed_size: plain_len,
        },
        meta_blob: None,
        toc: TocPlace::default(),
    };
    let context_offset = u32::from_le_bytes([control[8], control[9], control[10], control[11]]);
    let contexts = (u64::from(context_offset), u32::from(control[6]));
    let stored = [infos, &header(&blob, contexts)].concat();
    let Ok(units) = Units::read(&blob, &stored) else {
        return;
    };
    let plain = match compressor {
        Compressor::None => infos.to_vec(),
        _ => zstd::bulk::decompress(infos, EXPANDED_LEN_MAX as usize).expect("the reader expanded it"),
    };
    assert_eq!(plain.len() as u64, plain_len);
    for index in 0..blob.chunk_count.min(CHUNK_COUNT_MAX) {
        let Some(chunk) = reference(&plain, index, features) else {
            break;
        };
        piece(&units, &chunk, &blob, data);
    }
}

/// The header that agrees with the blob table, so that inputs reach what lies behind it.
fn header(blob: &Blob, (context_offset, context_count): (u64, u32)) -> Vec<u8> {
    let magic = MetaHeader::MAGIC.to_le_bytes();
    // The compressors' numbers in tables.
    let compressor: u32 = match blob.meta.compressor {
        Compressor::None => 0,
        _ => 3,
    };
    let mut header = Vec::with_capacity(BLOCK as usize);
    header.extend_from_slice(&magic);
    for word in [blob.features, compressor, blob.chunk_count] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    for word in [
        blob.meta.offset,
        blob.meta.compressed_size,
        blob.meta.uncompressed_size,
        context_offset,
        0,
    ] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header.extend_from_slice(&context_count.to_le_bytes());
    header.resize(BLOCK as usize - magic.len(), 0);
    header.extend_from_slice(&magic);
    header
}

/// A chunk whose place agrees with the chunk info, unpacked here a second time after the format's description.
fn reference(plain: &[u8], index: u32, features: u32) -> Option<ChunkRef> {
    let number = |at: u64| {
        let at = usize::try_from(at).ok()?;
        Some(u64::from_le_bytes(plain.get(at..at + 8)?.try_into().ok()?))
    };
    let narrow = |value: u64| u32::try_from(value).expect("at most 24 bits and one");
    let (uncompressed, compressed, codec);
    if features & BLOB_CHUNK_INFO_V2 != 0 {
        let at = u64::from(index) * CHUNK_INFO_V2_LEN;
        let (content, stored) = (number(at)?, number(at + 8)?);
        uncompressed = Span {
            offset: (content & 0xFFFF_FFFF) * BLOCK,
            len: narrow(content >> 32 & 0xFF_FFFF) + 1,
        };
        compressed = Span {
            offset: stored & 0xFF_FFFF_FFFF,
            len: narrow(stored >> 40),
        };
        codec = match features & (BLOB_BATCH | BLOB_ZRAN) {
            0 => Codec::Zstd,
            _ => Codec::Shared,
        };
    } else {
        let at = u64::from(index) * CHUNK_INFO_V1_LEN;
        let (content, stored) = (number(at)?, number(at + 8)?);
        uncompressed = Span {
            offset: content & 0xFFF_FFFF_F000,
            len: narrow(content >> 44 | (content >> 8 & 0xF) << 20) + 1,
        };
        compressed = Span {
            offset: stored & 0xFF_FFFF_FFFF,
            len: narrow(stored >> 44 | (stored >> 40 & 0xF) << 20) + 1,
        };
        codec = Codec::Zstd;
    }
    Some(ChunkRef {
        blob: BlobIndex(0),
        index,
        compressed,
        uncompressed,
        codec,
        digest: Digest([0; 32]),
    })
}

fn piece(units: &Units, chunk: &ChunkRef, blob: &Blob, data: &[u8]) {
    let Ok(piece) = units.piece(chunk) else {
        assert_eq!(
            chunk.codec,
            Codec::Shared,
            "both unpack a chunk info the same way"
        );
        return;
    };
    let (stored, len) = (piece.unit.stored, piece.unit.len);
    assert_eq!(piece.len, chunk.uncompressed.len);
    assert!(u64::from(piece.skip) + u64::from(piece.len) <= u64::from(len));
    if chunk.codec == Codec::Shared {
        assert!(len <= UNIT_LEN_MAX && stored.len <= UNIT_LEN_MAX);
        assert!(stored.offset + u64::from(stored.len) <= blob.compressed_size);
    }
    let start = usize::try_from(stored.offset).unwrap_or(usize::MAX);
    let bytes = data.get(start..).and_then(|rest| rest.get(..stored.len as usize));
    let (Some(bytes), true) = (bytes, u64::from(len) <= EXPANDED_LEN_MAX) else {
        return;
    };
    let mut out = vec![0; len as usize];
    if units.expand(&piece.unit, bytes, &mut out).is_ok() {
        let content = piece.cut(&out).expect("a chunk lies in its unit");
        assert_eq!(content.len(), piece.len as usize);
    }
}
