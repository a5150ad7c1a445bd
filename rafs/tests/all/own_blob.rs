//! The blobs written here are read like those of others: by their tables, chunk infos and digests.

use rafs::blob::{BlobInfo, TOC_TAIL_MAX, Toc, Units};
use rafs::chunk::{decode, verify};
use rafs::tree::{Attr, ChunkId, Content, Node};
use rafs::{BlobIndex, Digester, Image, Tree};

use crate::model::{self, CHUNK_SIZE};

/// Contents of three chunks: one that shrinks, one that does not, a short one.
fn contents() -> Vec<Vec<u8>> {
    let noise = (0..CHUNK_SIZE).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8);
    vec![vec![1; CHUNK_SIZE as usize], noise.collect(), b"short".to_vec()]
}

/// An image of one file that is all of a blob.
fn image(blob: &BlobInfo) -> Image<Vec<u8>> {
    let mut tree = Tree::new(Attr::default());
    let chunks = (0..blob.chunks.len() as u32)
        .map(|index| ChunkId {
            blob: BlobIndex(0),
            index,
        })
        .collect();
    let size = contents().iter().map(|content| content.len() as u64).sum();
    let id = tree.add(Node {
        attr: Attr::default(),
        content: Content::Regular { size, chunks },
    });
    tree.names_mut(Tree::ROOT).unwrap().insert(b"file".to_vec(), id);
    Image::open(model::write(&tree, std::slice::from_ref(blob))).unwrap()
}

#[test]
fn content_comes_back_from_the_file() {
    let (info, file) = model::blob(&contents());
    let image = image(&info);
    let blob = &image.blobs()[0];
    assert_eq!(blob.id, hex::encode(info.id));
    assert_eq!(blob.compressed_size, file.len() as u64);
    let (id, range) = blob.meta_range();
    assert_eq!(id, blob.id);
    let units = Units::read(blob, &file[range.start as usize..range.end as usize]).unwrap();
    let root = image.inode(image.root()).unwrap();
    let inode = image.lookup(&root, b"file").unwrap().unwrap().nid;
    let extents = image.extents(&image.inode(inode).unwrap(), 0..u64::MAX).unwrap();
    let mut whole = Vec::new();
    for chunk in extents.map(|extent| extent.unwrap().chunk) {
        let piece = units.piece(&chunk).unwrap();
        let start = piece.unit.stored.offset as usize;
        let stored = &file[start..start + piece.unit.stored.len as usize];
        let mut out = vec![0; piece.unit.len as usize];
        units.expand(&piece.unit, stored, &mut out).unwrap();
        verify(&chunk, Digester::Sha256, piece.cut(&out).unwrap()).unwrap();
        decode(&chunk, Digester::Sha256, stored, &mut out).unwrap();
        whole.extend_from_slice(&out);
    }
    assert_eq!(whole, contents().concat());
}

#[test]
fn the_table_of_contents_is_read() {
    let (info, file) = model::blob(&contents());
    let tail = &file[file.len().saturating_sub(TOC_TAIL_MAX as usize)..];
    let toc = Toc::read(tail, file.len() as u64).unwrap();
    assert_eq!(toc.digest, info.toc.digest);
    let names: Vec<_> = toc
        .sections()
        .iter()
        .map(|section| section.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["image.blob", "blob.meta", "blob.meta.header", "blob.digest"]
    );
    for section in &toc.sections()[1..] {
        let stored = &file[section.range.start as usize..section.range.end as usize];
        let content = section.expand(stored).unwrap();
        if section.name == "blob.digest" {
            let digests: Vec<u8> = info.chunks.iter().flat_map(|chunk| chunk.digest.0).collect();
            assert_eq!(content, digests);
        }
    }
}
