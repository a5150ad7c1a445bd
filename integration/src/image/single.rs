//! An image of one large file, made in memory in no time: no layers, no converter.

use anyhow::{Context, Result};
use bytes::Bytes;
use rafs::blob::{BlobBuilder, BlobOptions};
use rafs::build::{Options, bootstrap};
use rafs::tree::{Attr, ChunkId, Content, Node};
use rafs::{BlobIndex, Compressor, Digester, Tree};
use sha2::{Digest, Sha256};

/// Name of the file.
pub const FILE_NAME: &str = "weights";

/// An image and its blob.
pub struct Single {
    /// The bootstrap.
    pub bootstrap: Vec<u8>,
    /// The blob. It begins with the content of the file, which is stored raw.
    pub blob: Bytes,
    /// The blob's id, 64 hex digits.
    pub blob_id: String,
    len: usize,
}

impl Single {
    /// A file of so many bytes that do not shrink, the same on every run.
    pub fn make(len: usize, chunk_len: usize) -> Result<Self> {
        let chunk_size = u32::try_from(chunk_len).context("chunks are shorter than 4 GiB")?;
        let mut builder = BlobBuilder::new(BlobOptions {
            chunk_size,
            compressor: Compressor::Zstd,
            digester: Digester::Sha256,
        });
        let mut data = Vec::with_capacity(len);
        let mut chunks = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        while data.len() < len {
            let mut content = Vec::with_capacity(chunk_len);
            while content.len() < chunk_len.min(len - data.len()) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                content.extend_from_slice(&state.to_le_bytes());
            }
            let chunk = rafs::chunk::encode(content, Compressor::None, 0, Digester::Sha256);
            data.extend_from_slice(&chunk.data);
            chunks.push(ChunkId {
                blob: BlobIndex(0),
                index: builder.push(&chunk)?,
            });
        }
        let mut tree = Tree::new(attr(0o755));
        let file = tree.add(Node {
            attr: attr(0o644),
            content: Content::Regular {
                size: len as u64,
                chunks,
            },
        });
        let names = tree.names_mut(Tree::ROOT).context("the root is a folder")?;
        names.insert(FILE_NAME.into(), file);
        let mut hash = Sha256::new();
        hash.update(&data);
        let blob = builder.finish(hash).context("the file is not empty")?;
        data.extend_from_slice(&blob.tail);
        let options = Options {
            chunk_size,
            compressor: Compressor::Zstd,
            digester: Digester::Sha256,
            prefetch: vec![],
        };
        Ok(Single {
            blob_id: hex::encode(blob.info.id),
            bootstrap: bootstrap(&tree, &[blob.info], &options)?,
            blob: data.into(),
            len,
        })
    }

    /// What the file holds.
    pub fn content(&self) -> &[u8] {
        &self.blob[..self.len]
    }
}

fn attr(permissions: u16) -> Attr {
    Attr {
        permissions,
        ..Attr::default()
    }
}
