use super::*;
use crate::build;
use crate::chunk::{Batch, Digester, encode};
use crate::image::{Image, check};
use crate::layout::TocEntry;
use crate::tree::{Attr, ChunkId, Content, Node, Tree};

fn options() -> BlobOptions {
    BlobOptions {
        chunk_size: 1 << 20,
        compressor: Compressor::Zstd,
        digester: Digester::Sha256,
    }
}

fn finished(contents: &[Vec<u8>]) -> (Vec<u8>, FinishedBlob) {
    let mut builder = BlobBuilder::new(options());
    let mut file = Vec::new();
    for content in contents {
        let chunk = encode(content.clone(), Compressor::Zstd, 3, Digester::Sha256);
        builder.push(&chunk).unwrap();
        file.extend_from_slice(&chunk.data);
    }
    let blob = builder.finish(Sha256::new_with_prefix(&file)).unwrap();
    file.extend_from_slice(&blob.tail);
    (file, blob)
}

#[test]
fn a_blob_without_chunks_is_no_blob() {
    assert!(BlobBuilder::new(options()).finish(Sha256::new()).is_none());
}

#[test]
fn the_id_is_the_digest_of_the_file() {
    let (file, blob) = finished(&[vec![1; 10_000], (0..=255).collect()]);
    assert_eq!(blob.info.id, <[u8; 32]>::from(Sha256::digest(&file)));
    assert_eq!(blob.info.compressed_size, file.len() as u64);
    assert_eq!(blob.info.uncompressed_size, 12288 + 4096);
}

#[test]
fn the_table_of_contents_says_where_sections_lie() {
    let (file, blob) = finished(&[vec![1; 10_000], vec![2; 20]]);
    let toc = &file[file.len() - blob.info.toc.size as usize..];
    assert_eq!(<[u8; 32]>::from(Sha256::digest(toc)), blob.info.toc.digest);
    let entry =
        |i: usize| <TocEntry as zerocopy::FromBytes>::read_from_bytes(&toc[128 * i..][..128]).unwrap();
    let section = |entry: &TocEntry| {
        let start = entry.compressed_offset.get() as usize;
        &file[start..start + entry.compressed_size.get() as usize]
    };

    assert_eq!(toc.len(), 4 * 128 + 512);
    assert_eq!(&toc[512..525], b"rafs.blob.toc");
    let names: Vec<_> = (0..4).map(|i| entry(i).name).collect();
    assert_eq!(&names[0], b"image.blob\0\0\0\0\0\0");
    assert_eq!(&names[2], b"blob.meta.header");
    let data_end = entry(0).compressed_size.get() as usize;
    assert_eq!(
        entry(0).digest,
        <[u8; 32]>::from(Sha256::digest(&file[..data_end + 512]))
    );
    let digests: Vec<u8> = blob.info.chunks.iter().flat_map(|chunk| chunk.digest.0).collect();
    assert_eq!(section(&entry(3)), digests);
    let header = section(&entry(2));
    assert_eq!(header[..4], MetaHeader::MAGIC.to_le_bytes());
    assert_eq!(header[4092..], MetaHeader::MAGIC.to_le_bytes());
    assert_eq!(entry(1).compressed_offset.get(), blob.info.meta.offset);
    assert_eq!(blob.info.meta.offset, data_end as u64 + 512);
    assert_eq!(blob.info.meta.uncompressed_size, 32);
}

#[test]
fn chunks_lie_back_to_back_and_page_aligned() {
    let (_, blob) = finished(&[vec![1; 10_000], vec![2; 20], vec![3; 4096]]);
    let places: Vec<_> = (blob.info.chunks.iter())
        .map(|chunk| (chunk.index, chunk.uncompressed.offset, chunk.uncompressed.len))
        .collect();
    assert_eq!(places, [(0, 0, 10_000), (1, 12288, 20), (2, 16384, 4096)]);
    for pair in blob.info.chunks.windows(2) {
        assert_eq!(
            pair[0].compressed.offset + u64::from(pair[0].compressed.len),
            pair[1].compressed.offset
        );
    }
}

#[test]
fn a_full_blob_refuses_chunks_and_can_be_finished() {
    let chunk = encode(vec![1; 4096], Compressor::None, 0, Digester::Sha256);
    let mut builder = BlobBuilder::new(options());
    builder.push(&chunk).unwrap();
    let lens = (builder.compressed_len, builder.uncompressed_len);
    for (compressed, uncompressed, limit) in [
        (COMPRESSED_MAX - 8192, 4096, COMPRESSED_MAX),
        (4096, UNCOMPRESSED_MAX, UNCOMPRESSED_MAX),
    ] {
        (builder.compressed_len, builder.uncompressed_len) = (compressed, uncompressed);
        let error = builder.push(&chunk).unwrap_err();
        assert!(
            matches!(error, BlobError::Full { limit: it, .. } if it == limit),
            "{error}"
        );
    }
    (builder.compressed_len, builder.uncompressed_len) = lens;
    assert!(builder.check_room(u64::from(CHUNKS_MAX) - 1, 0, 0).is_ok());
    assert!(builder.check_room(u64::from(CHUNKS_MAX), 0, 0).is_err());
    let blob = builder.finish(Sha256::new_with_prefix(&chunk.data)).unwrap();
    assert_eq!(blob.info.chunks.len(), 1);
}

#[test]
fn a_flat_blob_is_its_uncompressed_image() {
    let options = BlobOptions {
        compressor: Compressor::None,
        ..options()
    };
    let mut builder = BlobBuilder::flat(options);
    let mut file = Vec::new();
    for len in [10_000, 1, 4096] {
        let mut chunk = encode(vec![len as u8; len], Compressor::None, 0, Digester::Sha256);
        if len % 4096 != 0 {
            let error = builder.push(&chunk).unwrap_err();
            assert!(matches!(error, BlobError::Misfit { .. }));
        }
        chunk.pad();
        builder.push(&chunk).unwrap();
        file.extend_from_slice(&chunk.data);
    }
    let packed = encode(vec![1; 10_000], Compressor::Zstd, 3, Digester::Sha256);
    assert!(builder.push(&packed).is_err());
    let blob = builder.finish(Sha256::new_with_prefix(&file)).unwrap();
    assert_eq!(blob.info.uncompressed_size, file.len() as u64);
    for chunk in &blob.info.chunks {
        assert_eq!(chunk.compressed, chunk.uncompressed);
        assert_eq!(chunk.codec, Codec::Raw);
    }
}

#[test]
fn batches_need_compression() {
    let mut batch = Batch::default();
    batch.push(Digester::Sha256.digest(b"x"), b"x");
    let batch = batch.encode(Compressor::Zstd, 3);
    let none = BlobOptions {
        compressor: Compressor::None,
        ..options()
    };
    for mut builder in [BlobBuilder::new(none), BlobBuilder::flat(none)] {
        assert!(builder.push_batch(&batch).is_err());
    }
}

#[test]
fn a_layer_carries_its_bootstrap() {
    let chunk = encode(vec![1; 4096], Compressor::Zstd, 3, Digester::Sha256);
    let mut builder = BlobBuilder::new(options());
    let index = builder.push(&chunk).unwrap();
    let mut tree = Tree::new(Attr::default());
    let content = Content::Regular {
        size: 4096,
        chunks: vec![ChunkId {
            blob: BlobIndex(0),
            index,
        }],
    };
    let id = tree.add(Node {
        attr: Attr::default(),
        content,
    });
    tree.names_mut(Tree::ROOT).unwrap().insert(b".wh.x".to_vec(), id);
    let image = build::Options {
        chunk_size: options().chunk_size,
        compressor: options().compressor,
        digester: options().digester,
        prefetch: Vec::new(),
    };
    let hash = Sha256::new_with_prefix(&chunk.data);
    let blob = builder
        .finish_layer(hash, |info| build::layer_bootstrap(&tree, Some(info), &image))
        .unwrap()
        .unwrap();
    let file = [chunk.data, blob.tail].concat();
    let toc = crate::blob::Toc::read(&file[file.len() - 4096..], file.len() as u64).unwrap();
    let names: Vec<_> = (toc.sections().iter())
        .map(|section| section.name.as_str())
        .collect();
    let wanted = [
        "image.blob",
        "blob.meta",
        "blob.meta.header",
        "blob.digest",
        "image.boot",
    ];
    assert_eq!(names, wanted);
    let section = toc.section("image.boot").unwrap();
    let stored = &file[section.range.start as usize..section.range.end as usize];
    let mut bootstrap = section.expand(stored).unwrap();
    assert_eq!(blob.info.compressed_size, section.range.start);
    assert_eq!(blob.info.features & BLOB_INLINED_META, 0);
    assert_eq!(blob.info.toc, TocPlace::default());

    // Patched with the id, it is a bootstrap like any other.
    let places = |bytes: &[u8], id: &[u8]| bytes.windows(64).filter(|window| *window == id).count();
    assert_eq!(places(&bootstrap, &crate::layout::LAYER_ID), 2);
    crate::image::name_layer(&mut bootstrap, blob.info.id);
    let name = crate::Digest(blob.info.id).to_string();
    assert_eq!(places(&bootstrap, &crate::layout::LAYER_ID), 0);
    assert_eq!(places(&bootstrap, name.as_bytes()), 2);
    let image = Image::open(bootstrap).unwrap();
    assert_eq!(check(image.bytes()), Ok(Vec::new()));
    assert_eq!(image.blobs()[0].features, blob.info.features | BLOB_INLINED_META);
    assert_eq!(image.blobs()[0].compressed_size, section.range.start);
}

#[test]
fn a_layer_without_data_is_a_bootstrap() {
    let (id, file) = layer_without_data(&[0; 8192]);
    assert_eq!(id, <[u8; 32]>::from(Sha256::digest(&file)));
    let toc = crate::blob::Toc::read(&file, file.len() as u64).unwrap();
    let [section] = toc.sections() else {
        panic!("{toc:?}")
    };
    let stored = &file[section.range.start as usize..section.range.end as usize];
    assert_eq!(section.expand(stored).unwrap(), [0; 8192]);
}
