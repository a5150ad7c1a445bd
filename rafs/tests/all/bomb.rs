//! Decompression bombs: a few stored bytes that would expand to gigabytes give an error and no more memory.

use rafs::blob::{MetaError, Toc, Units};
use rafs::chunk::{Compressor, DecodeError, Digester, decode, encode};
use rafs::{BlobIndex, ChunkRef, Codec, Image, Span};

use crate::model;

/// What any input may cost, other tests beside these included.
const MEMORY_MAX: u64 = 256 << 20;

/// A zstd frame of zeros in runs of 128 KiB, without a word on its length.
fn zstd_zeros(runs: u32) -> Vec<u8> {
    // Magic, no content size, a window of 128 KiB.
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, (17 - 10) << 3];
    for run in 1..=runs {
        let is_last = u32::from(run == runs);
        let header = (128 << 10) << 3 | 1 << 1 | is_last;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// An lz4 block of one byte and a match of it that never seems to end.
fn lz4_zeros(len: usize) -> Vec<u8> {
    let mut block = vec![0x1F, 0, 1, 0];
    block.extend(std::iter::repeat_n(0xFF, len / 255));
    // The block ends with literals.
    block.extend_from_slice(&[0, 0x50, 0, 0, 0, 0, 0]);
    block
}

/// Most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

fn chunk(codec: Codec, stored: &[u8], len: u32) -> ChunkRef {
    let stored_len = u32::try_from(stored.len()).unwrap();
    ChunkRef {
        blob: BlobIndex(0),
        index: 0,
        compressed: Span {
            offset: 0,
            len: stored_len,
        },
        uncompressed: Span { offset: 0, len },
        codec,
        digest: Digester::Sha256.digest(&vec![0; len as usize]),
    }
}

#[test]
fn a_chunk_expands_to_its_length_and_no_further() {
    let before = peak();
    // 4 GiB from 128 KiB, and 1 GiB from 4 MiB.
    for (codec, bomb) in [
        (Codec::Zstd, zstd_zeros(32 << 10)),
        (Codec::Lz4Block, lz4_zeros(1 << 30)),
    ] {
        let mut out = vec![0; 1 << 20];
        let chunk = chunk(codec, &bomb, 1 << 20);
        let outcome = decode(&chunk, Digester::Sha256, &bomb, &mut out);
        assert!(matches!(outcome, Err(DecodeError::Corrupt { .. })), "{outcome:?}");
    }
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
    // The same frames of the right length are no bombs.
    for (codec, stored) in [
        (Codec::Zstd, zstd_zeros(8)),
        (
            Codec::Lz4Block,
            encode(vec![0; 1 << 20], Compressor::Lz4Block, 1, Digester::Sha256).data,
        ),
    ] {
        let mut out = vec![1; 1 << 20];
        decode(
            &chunk(codec, &stored, 1 << 20),
            Digester::Sha256,
            &stored,
            &mut out,
        )
        .unwrap();
    }
}

#[test]
fn a_window_of_gigabytes_is_not_allocated() {
    let mut frame = zstd_zeros(8);
    frame[5] = (31 - 10) << 3;
    let before = peak();
    let mut out = vec![0; 1 << 20];
    let chunk = chunk(Codec::Zstd, &frame, 1 << 20);
    // Right or wrong: the answer costs nothing.
    let _ = decode(&chunk, Digester::Sha256, &frame, &mut out);
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
}

#[test]
fn chunk_infos_expand_to_their_length_and_no_further() {
    let fixture = crate::fixture::Fixture::open("zstd-batch");
    let mut blob = fixture.image.blobs()[0].clone();
    let (_, stored) = fixture.plain_meta(&blob);
    let header = stored[stored.len() - 4096..].to_vec();
    let forge = |blob: &mut rafs::image::Blob, bomb: &[u8], len: u64| {
        blob.meta.compressor = Compressor::Zstd;
        blob.meta.compressed_size = bomb.len() as u64;
        blob.meta.uncompressed_size = len;
        let mut header = header.clone();
        header[8..12].copy_from_slice(&3_u32.to_le_bytes());
        header[16..24].copy_from_slice(&blob.meta.offset.to_le_bytes());
        header[24..32].copy_from_slice(&blob.meta.compressed_size.to_le_bytes());
        header[32..40].copy_from_slice(&len.to_le_bytes());
        [bomb, &header].concat()
    };
    let before = peak();
    let bomb = zstd_zeros(32 << 10);
    let stored = forge(&mut blob, &bomb, 1 << 20);
    let error = Units::read(&blob, &stored).unwrap_err();
    assert!(error.to_string().contains("announced length"), "{error}");
    let stored = forge(&mut blob, &bomb, 1 << 40);
    let error = Units::read(&blob, &stored).unwrap_err();
    assert!(matches!(error, MetaError::TooLarge { .. }), "{error}");
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
}

#[test]
fn sections_expand_to_their_length_and_no_further() {
    let (_, blobs) = model::sample();
    assert!(!blobs.is_empty());
    let (_, file) = model::blob(&[b"content".repeat(100)]);
    let toc = Toc::read(&file[file.len().saturating_sub(4096)..], file.len() as u64).unwrap();
    let mut section = toc.section("blob.meta").unwrap().clone();
    section.compressor = Compressor::Zstd;
    let before = peak();
    let bomb = zstd_zeros(32 << 10);
    section.len = 1 << 20;
    assert!(matches!(section.expand(&bomb), Err(MetaError::Corrupt { .. })));
    section.len = 1 << 40;
    assert!(matches!(section.expand(&bomb), Err(MetaError::TooLarge { .. })));
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
}

#[test]
fn a_bootstrap_that_announces_much_takes_little() {
    let (tree, blobs) = model::sample();
    let bytes = model::write(&tree, &blobs);
    let before = peak();
    for (at, len) in [(1152 + 16, 4), (1152 + 32, 8), (1152 + 48, 4), (1024 + 86, 2)] {
        let mut bytes = bytes.clone();
        bytes[at..at + len].fill(0x7F);
        Image::open(bytes).unwrap_err();
    }
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
}
