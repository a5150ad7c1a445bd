//! Order, repetition, batches, and that the pool decides nothing.

use proptest::prelude::*;
use rafs::blob::BlobOptions;
use rafs::{Compressor, Digester};

use super::*;

const OPTIONS: ChunkOptions = ChunkOptions {
    blob: BlobOptions {
        chunk_size: 4096,
        compressor: Compressor::None,
        digester: Digester::Sha256,
    },
    level: 0,
    layout: Layout::Single,
};

/// The content of a file.
fn whole(content: &[u8]) -> Cut {
    Cut {
        content: content.to_vec(),
        is_whole: true,
    }
}

/// Packs `contents` as whole files; gives chunks by slot, the blob's bytes and the blob.
fn pack(options: ChunkOptions, contents: &[Vec<u8>]) -> (Packed, Vec<u8>, Option<BlobInfo>) {
    pack_cuts(options, 3, contents.iter().map(|content| whole(content)))
}

fn pack_cuts(
    options: ChunkOptions,
    thread_count: usize,
    cuts: impl Iterator<Item = Cut>,
) -> (Packed, Vec<u8>, Option<BlobInfo>) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(thread_count)
        .build()
        .unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let collector = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        while let Some(part) = receiver.blocking_recv() {
            bytes.extend_from_slice(&part);
        }
        bytes
    });
    let mut packer = Packer::new(options, Arc::new(pool), sender);
    cuts.for_each(|cut| packer.push(cut).unwrap());
    let (packed, file) = packer.finish(None).unwrap();
    let blob = file.map(|file| file.blob.unwrap());
    (packed, collector.join().unwrap(), blob)
}

#[test]
fn chunks_keep_their_order_whatever_the_pool_does() {
    let contents: Vec<Vec<u8>> = (0..500u32)
        .map(|number| number.to_le_bytes().repeat(1 + number as usize))
        .collect();
    let (packed, bytes, blob) = pack(OPTIONS, &contents);
    assert_eq!(packed.chunk_of_slot, (0..500).collect::<Vec<_>>());
    assert!(bytes.starts_with(&contents.concat()));
    assert_eq!(packed.blob_len, bytes.len() as u64);
    assert_eq!(blob.unwrap().id, <[u8; 32]>::from(Sha256::digest(&bytes)));
}

#[test]
fn equal_contents_are_one_chunk() {
    let (packed, bytes, blob) = pack(OPTIONS, &[b"one".to_vec(), b"two".to_vec(), b"one".to_vec()]);
    assert_eq!(packed.chunk_of_slot, [0, 1, 0]);
    assert_eq!((packed.content_len, packed.repeated_len), (9, 3));
    assert!(bytes.starts_with(b"onetwo"));
    assert_eq!(blob.unwrap().chunks.len(), 2);
}

#[test]
fn no_content_is_no_blob() {
    let (packed, bytes, blob) = pack(OPTIONS, &[]);
    assert!(packed.chunk_of_slot.is_empty() && bytes.is_empty() && blob.is_none());
}

#[test]
fn a_target_that_is_gone_stops_the_packer() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    drop(receiver);
    let mut packer = Packer::new(OPTIONS, Arc::new(pool), sender);
    packer.push(whole(&[1])).unwrap();
    assert!(matches!(packer.finish(None), Err(LayerError::Interrupted)));
}

#[test]
fn small_files_share_frames_until_one_is_full_or_a_large_file_comes() {
    let options = ChunkOptions {
        blob: BlobOptions {
            chunk_size: 1 << 20,
            compressor: Compressor::Zstd,
            digester: Digester::Sha256,
        },
        level: 3,
        layout: Layout::Batched { size: 1000 },
    };
    let lens = [400, 400, 200, 1, 499, 500, 3, 400];
    let contents: Vec<Vec<u8>> = (0..).zip(lens).map(|(byte, len)| vec![byte; len]).collect();
    let (packed, bytes, blob) = pack(options, &contents);
    let blob = blob.unwrap();
    assert_eq!(packed.chunk_of_slot, (0..8).collect::<Vec<_>>());
    assert_eq!(blob.id, <[u8; 32]>::from(Sha256::digest(&bytes)));
    let is_shared = |chunk: &rafs::ChunkRef| chunk.codec == rafs::Codec::Shared;
    let shared: Vec<bool> = blob.chunks.iter().map(is_shared).collect();
    assert_eq!(shared, [true, true, true, true, true, false, true, true]);
    // Frames: 400 + 400 + 200, then 1 + 499 until the large file, then 3 + 400.
    let frames: Vec<usize> = [0..3, 3..5, 6..8]
        .map(|range| contents[range].iter().map(Vec::len).sum())
        .to_vec();
    assert_eq!(blob.meta.uncompressed_size, 8 * 24 + frames.len() as u64 * 40);
    let mut rest = &bytes[..];
    for content in [
        contents[..3].concat(),
        contents[3..5].concat(),
        contents[5].clone(),
        contents[6..].concat(),
    ] {
        let len = zstd::zstd_safe::find_frame_compressed_size(rest).unwrap();
        assert_eq!(zstd::decode_all(&rest[..len]).unwrap(), content);
        rest = &rest[len..];
    }
    assert_eq!(&rest[..10], b"image.blob");
}

#[test]
fn a_piece_of_a_larger_file_is_in_no_batch() {
    let options = ChunkOptions {
        layout: Layout::Batched { size: 1 << 20 },
        blob: BlobOptions {
            compressor: Compressor::Lz4Block,
            chunk_size: 1 << 20,
            ..OPTIONS.blob
        },
        ..OPTIONS
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (sender, _receiver) = tokio::sync::mpsc::channel(10);
    let mut packer = Packer::new(options, Arc::new(pool), sender);
    let piece = Cut {
        content: vec![1; 100],
        is_whole: false,
    };
    packer.push(piece).unwrap();
    packer.push(whole(&[2; 100])).unwrap();
    let blob = packer.finish(None).unwrap().1.unwrap().blob.unwrap();
    let codecs: Vec<_> = blob.chunks.iter().map(|chunk| chunk.codec).collect();
    assert_eq!(codecs, [rafs::Codec::Lz4Block, rafs::Codec::Shared]);
}

#[test]
fn a_layer_without_content_may_be_a_bootstrap() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(10);
    let packer = Packer::new(OPTIONS, Arc::new(pool), sender);
    let tree = Tree::new(rafs::tree::Attr::default());
    let (packed, file) = packer.finish(Some(&tree)).unwrap();
    let (file, bytes) = (file.unwrap(), receiver.try_recv().unwrap());
    assert!(file.blob.is_none());
    assert_eq!(packed.blob_len, bytes.len() as u64);
    assert_eq!(file.id, <[u8; 32]>::from(Sha256::digest(&bytes)));
}

#[test]
fn a_blob_without_small_files_is_as_without_batches() {
    let options = |layout| ChunkOptions {
        blob: BlobOptions {
            compressor: Compressor::Zstd,
            ..OPTIONS.blob
        },
        level: 3,
        layout,
    };
    let contents = [vec![1; 4000], vec![2; 3000]];
    let (_, single, _) = pack(options(Layout::Single), &contents);
    let (_, batched, _) = pack(options(Layout::Batched { size: 4096 }), &contents);
    assert_eq!(single, batched);
}

fn cuts() -> impl Strategy<Value = Vec<(u8, usize, bool)>> {
    let len = prop_oneof![3 => 1..1500_usize, 1 => 1500..=4096_usize];
    prop::collection::vec((0..4_u8, len, any::<bool>()), 0..120)
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop::sample::select(vec![Layout::Single, Layout::Batched { size: 2048 }, Layout::Flat])
}

proptest! {
    #[test]
    fn every_slot_has_its_content_whatever_the_pool(cuts in cuts(), layout in layouts()) {
        let compressor = if layout == Layout::Flat { Compressor::None } else { Compressor::Zstd };
        let options = ChunkOptions {
            blob: BlobOptions { compressor, ..OPTIONS.blob },
            level: 1,
            layout,
        };
        let pieces = || cuts.iter().map(|&(byte, len, is_whole)| Cut { content: vec![byte; len], is_whole });
        let (packed, bytes, blob) = pack_cuts(options, 1, pieces());
        let (again, same_bytes, _) = pack_cuts(options, 3, pieces());
        prop_assert_eq!(&bytes, &same_bytes);
        prop_assert_eq!(&packed.chunk_of_slot, &again.chunk_of_slot);
        prop_assert_eq!(packed.chunk_of_slot.len(), cuts.len());
        prop_assert_eq!(packed.blob_len, bytes.len() as u64);
        let chunks = blob.map_or_else(Vec::new, |blob| blob.chunks);
        for (piece, &number) in pieces().zip(&packed.chunk_of_slot) {
            let chunk = &chunks[number as usize];
            prop_assert_eq!(chunk.uncompressed.len as usize, piece.content.len());
            prop_assert_eq!(chunk.digest, Digester::Sha256.digest(&piece.content));
        }
        let stored: u64 = chunks.iter().map(|chunk| u64::from(chunk.uncompressed.len)).sum();
        prop_assert_eq!(stored + packed.repeated_len, packed.content_len);
    }
}
