//! A tiny image, to find out by doing whether the kernel serves images.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proto::image::{ByteStream, Error};
use rafs::blob::{BlobBuilder, BlobOptions};
use rafs::build::{Options, bootstrap};
use rafs::tree::{Attr, ChunkId, Content, Node};
use rafs::{BlobIndex, Compressor, Digester, Tree};
use sha2::{Digest, Sha256};

use crate::source::BlobSource;

/// Bytes of the only file: one block.
const FILE_LEN: usize = 4096;

/// Name of the only file.
pub(crate) const FILE_NAME: &str = "probe";

/// The image.
pub(crate) struct Probe {
    /// Its bootstrap.
    pub(crate) bootstrap: Vec<u8>,
    /// Its blob, as a source.
    pub(crate) source: Memory,
}

/// A source that has one blob in memory.
pub(crate) struct Memory(Bytes);

impl Probe {
    /// Makes the image: always the same.
    pub(crate) fn new() -> Self {
        let (compressor, digester) = (Compressor::None, Digester::Sha256);
        let chunk_size = FILE_LEN as u32;
        let mut blob = BlobBuilder::new(BlobOptions {
            chunk_size,
            compressor,
            digester,
        });
        let chunk = rafs::chunk::encode(content(), compressor, 0, digester);
        let index = blob.push(&chunk).expect("a blob has room for one chunk");
        let mut tree = Tree::new(Attr {
            permissions: 0o700,
            ..Attr::default()
        });
        let file = tree.add(Node {
            attr: Attr::default(),
            content: Content::Regular {
                size: FILE_LEN as u64,
                chunks: vec![ChunkId {
                    blob: BlobIndex(0),
                    index,
                }],
            },
        });
        let names = tree.names_mut(Tree::ROOT).expect("the root is a directory");
        *names = BTreeMap::from([(FILE_NAME.as_bytes().to_vec(), file)]);
        let mut data = chunk.data;
        let blob = blob
            .finish(Sha256::new().chain_update(&data))
            .expect("a blob with a chunk is not empty");
        data.extend_from_slice(&blob.tail);
        let options = Options {
            chunk_size,
            compressor,
            digester,
            prefetch: Vec::new(),
        };
        Probe {
            bootstrap: bootstrap(&tree, &[blob.info], &options).expect("the image fits the format"),
            source: Memory(data.into()),
        }
    }
}

/// What the only file holds.
pub(crate) fn content() -> Vec<u8> {
    b"slipway\n".repeat(FILE_LEN / 8)
}

impl BlobSource for Memory {
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let part = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .filter(|(start, end)| start <= end && *end <= self.0.len())
            .map(|(start, end)| self.0.slice(start..end));
        let body = part.ok_or_else(|| Error::NotFound {
            what: format!("blob {blob}"),
            place: "memory".to_owned(),
        });
        futures::future::ready(body.map(|part| stream::iter([Ok(part)]).boxed())).boxed()
    }
}
