//! Images of one blob, written in a form of choice, and what both readers find in them.

use std::collections::BTreeMap;

use rafs::blob::{BlobBuilder, BlobInfo, BlobOptions, Units};
use rafs::build;
use rafs::chunk::{Batch, encode, verify};
use rafs::image::check;
use rafs::tree::{Attr, ChunkId, Content, Node, Timestamp};
use rafs::{BlobIndex, Compressor, Digester, Image, Tree};
use sha2::{Digest as _, Sha256};

use crate::second;

/// How an image is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) compressor: Compressor,
    pub(crate) digester: Digester,
    pub(crate) chunk_size: u32,
    pub(crate) batch_size: usize,
    pub(crate) is_flat: bool,
    pub(crate) is_layer: bool,
}

pub(crate) const FORM: Form = Form {
    compressor: Compressor::Zstd,
    digester: Digester::Sha256,
    chunk_size: 1 << 16,
    batch_size: 0,
    is_flat: false,
    is_layer: false,
};

/// A written image.
pub(crate) struct Written {
    pub(crate) bootstrap: Vec<u8>,
    pub(crate) info: BlobInfo,
    pub(crate) file: Vec<u8>,
}

pub(crate) fn noise(len: usize, seed: u32) -> Vec<u8> {
    let at = |at: u32| {
        at.wrapping_add(seed)
            .wrapping_mul(2_654_435_761)
            .rotate_left(seed % 13)
            >> 11
    };
    (0..len as u32).map(|byte| at(byte) as u8).collect()
}

/// Files of all lengths around blocks, chunks and batches; some shrink, some do not.
pub(crate) fn contents() -> BTreeMap<String, Vec<u8>> {
    let lens = [
        0, 1, 29, 4095, 4096, 4097, 9000, 16_383, 16_384, 40_000, 65_535, 65_536, 65_537, 200_000,
    ];
    let mut contents = BTreeMap::new();
    for (number, len) in (0..).zip(lens) {
        contents.insert(format!("noise-{number:02}"), noise(len, number));
        contents.insert(
            format!("text-{number:02}"),
            b"slipway ".iter().copied().cycle().take(len).collect(),
        );
    }
    for number in 0..100 {
        contents.insert(
            format!("small-{number:03}"),
            noise(100 + number as usize, number).repeat(3),
        );
    }
    contents
}

impl Form {
    fn blob_options(&self) -> BlobOptions {
        BlobOptions {
            chunk_size: self.chunk_size,
            compressor: self.compressor,
            digester: self.digester,
        }
    }

    pub(crate) fn write(&self, contents: &BTreeMap<String, Vec<u8>>) -> Written {
        let mut packing = Packing {
            form: *self,
            builder: match self.is_flat {
                true => BlobBuilder::flat(self.blob_options()),
                false => BlobBuilder::new(self.blob_options()),
            },
            batch: Batch::default(),
            file: Vec::new(),
            known: BTreeMap::new(),
        };
        let mut tree = Tree::new(Attr::default());
        for (name, content) in contents {
            let attr = Attr {
                permissions: 0o644,
                mtime: Timestamp { secs: -7, nanos: 5 },
                ..Attr::default()
            };
            let content = packing.content(content);
            let id = tree.add(Node { attr, content });
            tree.names_mut(Tree::ROOT)
                .unwrap()
                .insert(name.clone().into(), id);
        }
        packing.close_batch();
        let options = build::Options {
            chunk_size: self.chunk_size,
            compressor: self.compressor,
            digester: self.digester,
            prefetch: vec![Tree::ROOT],
        };
        let hash = Sha256::new_with_prefix(&packing.file);
        let finished = match self.is_layer {
            true => packing
                .builder
                .finish_layer(hash, |info| build::layer_bootstrap(&tree, Some(info), &options)),
            false => Ok(packing.builder.finish(hash)),
        };
        let finished = finished.unwrap().unwrap();
        let file = [packing.file, finished.tail].concat();
        let bootstrap = build::bootstrap(&tree, std::slice::from_ref(&finished.info), &options).unwrap();
        let info = finished.info;
        Written {
            bootstrap,
            info,
            file,
        }
    }
}

/// A blob in the making.
struct Packing {
    form: Form,
    builder: BlobBuilder,
    batch: Batch,
    file: Vec<u8>,
    known: BTreeMap<([u8; 32], usize), u32>,
}

impl Packing {
    fn content(&mut self, content: &[u8]) -> Content {
        let pieces = content.chunks(self.form.chunk_size as usize);
        let is_small = content.len() < self.form.batch_size / 2;
        let chunks = pieces.map(|piece| self.chunk(piece, is_small)).collect();
        let size = content.len() as u64;
        Content::Regular { size, chunks }
    }

    fn chunk(&mut self, piece: &[u8], is_small: bool) -> ChunkId {
        let blob = BlobIndex(0);
        let digest = self.form.digester.digest(piece);
        let next = self.known.len() as u32;
        let index = *self.known.entry((digest.0, piece.len())).or_insert(next);
        if index < next {
            return ChunkId { blob, index };
        }
        if is_small {
            if self.batch.len() + piece.len() > self.form.batch_size {
                self.close_batch();
            }
            self.batch.push(digest, piece);
            return ChunkId { blob, index };
        }
        self.close_batch();
        let mut chunk = encode(piece.to_vec(), self.form.compressor, 3, self.form.digester);
        if self.form.is_flat {
            chunk.pad();
        }
        assert_eq!(self.builder.push(&chunk).unwrap(), index);
        self.file.extend_from_slice(&chunk.data);
        ChunkId { blob, index }
    }

    fn close_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            let batch = batch.encode(self.form.compressor, 3);
            self.builder.push_batch(&batch).unwrap();
            self.file.extend_from_slice(&batch.data);
        }
    }
}

impl Written {
    /// What this crate's reader finds.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let image = Image::open(self.bootstrap.clone()).unwrap();
        assert_eq!(check(image.bytes()), Ok(Vec::new()));
        let blob = &image.blobs()[0];
        let meta = blob.meta_range().1;
        let units = Units::read(blob, &self.file[meta.start as usize..meta.end as usize]).unwrap();
        let root = image.inode(image.root()).unwrap();
        let entries = image.entries_from(&root, 0).unwrap().map(Result::unwrap);
        let named = entries.filter(|entry| !matches!(entry.name, b"." | b".."));
        let content = |nid| {
            let mut content = Vec::new();
            for extent in image.extents(&image.inode(nid).unwrap(), 0..u64::MAX).unwrap() {
                let chunk = extent.unwrap().chunk;
                let piece = units.piece(&chunk).unwrap();
                let stored =
                    &self.file[piece.unit.stored.offset as usize..][..piece.unit.stored.len as usize];
                let mut out = vec![0; piece.unit.len as usize];
                units.expand(&piece.unit, stored, &mut out).unwrap();
                let cut = piece.cut(&out).unwrap();
                verify(&chunk, blob.digester, cut).unwrap();
                content.extend_from_slice(cut);
            }
            content
        };
        named
            .map(|entry| {
                (
                    String::from_utf8(entry.name.to_vec()).unwrap(),
                    content(entry.nid),
                )
            })
            .collect()
    }

    /// What the second reader finds in `bootstrap`.
    pub(crate) fn seconded(&self, bootstrap: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let (_, entries) = second::read(bootstrap, |id| {
            assert_eq!(id, hex::encode(self.info.id));
            self.file.clone()
        });
        let named = entries.into_iter().filter(|entry| !entry.path.is_empty());
        named
            .map(|entry| (String::from_utf8(entry.path).unwrap(), entry.data))
            .collect()
    }

    /// The uncompressed image of the blob.
    pub(crate) fn device(&self) -> Vec<u8> {
        let mut device = vec![0; self.info.uncompressed_size as usize];
        let (_, entries) = second::read(&self.bootstrap, |_| self.file.clone());
        let contents: BTreeMap<_, _> = (entries.iter())
            .flat_map(|entry| entry.data.chunks(self.info.options.chunk_size as usize))
            .map(|piece| (self.info.options.digester.digest(piece).0, piece))
            .collect();
        for chunk in &self.info.chunks {
            let content = contents[&chunk.digest.0];
            device[chunk.uncompressed.offset as usize..][..content.len()].copy_from_slice(content);
        }
        device
    }
}
