use super::*;
use crate::chunk::{Digester, encode};

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
        builder.push(&chunk);
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
