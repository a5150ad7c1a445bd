//! Images for tests, built in memory or by the reference builder, and a source of their blobs that misbehaves on command.

mod reference;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proto::image::{ByteStream, Error};
use rafs::blob::{BlobBuilder, BlobOptions};
use rafs::build::{Options, bootstrap};
use rafs::tree::{Attr, ChunkId, Content, InodeId, Node};
use rafs::{BlobIndex, Compressor, Digester, FileType, Tree};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::source::BlobSource;
use crate::{ImageId, ImageSpec};

pub(crate) use reference::Reference;

/// Bytes per chunk of test images: small, so that few bytes are many chunks.
pub(crate) const CHUNK_LEN: usize = 4096;

/// Builds an image.
pub(crate) struct Builder {
    tree: Tree,
    blob: BlobBuilder,
    data: Vec<u8>,
}

/// A built image on disk, with the bytes of its one blob.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) blob_id: String,
    pub(crate) blob: Bytes,
}

pub(crate) fn mode(permissions: u16) -> Attr {
    Attr {
        permissions,
        ..Attr::default()
    }
}

/// Content that does not repeat and hardly shrinks.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder {
            tree: Tree::new(mode(0o755)),
            blob: BlobBuilder::new(BlobOptions {
                chunk_size: CHUNK_LEN as u32,
                compressor: Compressor::Zstd,
                digester: Digester::Sha256,
            }),
            data: Vec::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        parent: InodeId,
        name: impl Into<Vec<u8>>,
        attr: Attr,
        content: Content,
    ) -> InodeId {
        let id = self.tree.add(Node { attr, content });
        self.link(parent, name, id);
        id
    }

    pub(crate) fn link(&mut self, parent: InodeId, name: impl Into<Vec<u8>>, id: InodeId) {
        self.tree.names_mut(parent).unwrap().insert(name.into(), id);
    }

    pub(crate) fn dir(&mut self, parent: InodeId, name: impl Into<Vec<u8>>) -> InodeId {
        self.add(parent, name, mode(0o755), Content::Directory(BTreeMap::new()))
    }

    pub(crate) fn file(
        &mut self,
        parent: InodeId,
        name: impl Into<Vec<u8>>,
        attr: Attr,
        content: &[u8],
    ) -> InodeId {
        let chunks = content
            .chunks(CHUNK_LEN)
            .map(|content| {
                let chunk = rafs::chunk::encode(content.to_vec(), Compressor::Zstd, 3, Digester::Sha256);
                self.data.extend_from_slice(&chunk.data);
                ChunkId {
                    blob: BlobIndex(0),
                    index: self.blob.push(&chunk).unwrap(),
                }
            })
            .collect();
        self.add(
            parent,
            name,
            attr,
            Content::Regular {
                size: content.len() as u64,
                chunks,
            },
        )
    }

    pub(crate) fn special(&mut self, parent: InodeId, name: &str, file_type: FileType, rdev: u32) -> InodeId {
        self.add(parent, name, mode(0o620), Content::Special { file_type, rdev })
    }

    pub(crate) fn finish(self) -> Fixture {
        self.finish_as(None)
    }

    /// Finishes an image that gives its blob another's name.
    pub(crate) fn finish_as(self, name: Option<&str>) -> Fixture {
        let mut data = self.data;
        let mut hash = Sha256::new();
        hash.update(&data);
        let (blobs, blob_id) = match self.blob.finish(hash) {
            Some(mut blob) => {
                if let Some(name) = name {
                    hex::decode_to_slice(name, &mut blob.info.id).unwrap();
                }
                data.extend_from_slice(&blob.tail);
                let id = hex::encode(blob.info.id);
                (vec![blob.info], id)
            }
            None => (vec![], String::new()),
        };
        let options = Options {
            chunk_size: CHUNK_LEN as u32,
            compressor: Compressor::Zstd,
            digester: Digester::Sha256,
            prefetch: vec![],
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("bootstrap"),
            bootstrap(&self.tree, &blobs, &options).unwrap(),
        )
        .unwrap();
        Fixture {
            dir,
            blob_id,
            blob: data.into(),
        }
    }
}

impl Fixture {
    pub(crate) fn bootstrap(&self) -> PathBuf {
        self.dir.path().join("bootstrap")
    }

    pub(crate) fn source(&self) -> Arc<FakeSource> {
        FakeSource::of([(self.blob_id.clone(), self.blob.clone())].into())
    }

    pub(crate) fn spec(&self, id: u32, source: &Arc<FakeSource>) -> ImageSpec {
        ImageSpec {
            id: ImageId(id),
            bootstrap: self.bootstrap(),
            source: source.clone(),
        }
    }
}

/// What a source does wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Never answers.
    Hang,
    /// Answers, sends so many bytes, and then nothing more.
    Stall(usize),
    /// Ends so many bytes early.
    Short(usize),
    /// Refuses as a broken connection.
    Refuse,
    /// Says that there is no such blob.
    Missing,
    /// Flips a bit of every byte at a multiple of this.
    Flip(usize),
    /// The first `.0` requests fail with `.1`, the rest is fine.
    First(usize, Box<Fault>),
}

/// A source whose faults can be changed while it is in use.
pub(crate) struct FakeSource {
    blobs: BTreeMap<String, Bytes>,
    fault: Mutex<Fault>,
    reads: Mutex<Vec<(String, Range<u64>)>>,
    calls: AtomicUsize,
}

impl FakeSource {
    /// A source of blobs by id.
    pub(crate) fn of(blobs: BTreeMap<String, Bytes>) -> Arc<Self> {
        Arc::new(FakeSource {
            blobs,
            fault: Mutex::new(Fault::None),
            reads: Mutex::default(),
            calls: AtomicUsize::new(0),
        })
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.calls.store(0, Ordering::SeqCst);
        *self.fault.lock().unwrap() = fault;
    }

    /// The ranges that were asked for.
    pub(crate) fn reads(&self) -> Vec<Range<u64>> {
        let reads = self.reads.lock().unwrap();
        reads.iter().map(|(_, range)| range.clone()).collect()
    }

    /// The ranges of a blob that were asked for.
    pub(crate) fn reads_of(&self, blob: &str) -> Vec<Range<u64>> {
        let reads = self.reads.lock().unwrap();
        let of_blob = reads.iter().filter(|(id, _)| id == blob);
        of_blob.map(|(_, range)| range.clone()).collect()
    }

    fn answer(
        &self,
        fault: &Fault,
        blob: &str,
        range: Range<u64>,
    ) -> BoxFuture<'static, Result<ByteStream, Error>> {
        let mut bytes = self.blobs[blob][range.start as usize..range.end as usize].to_vec();
        let is_endless = match fault {
            Fault::None => false,
            Fault::Hang => return futures::future::pending().boxed(),
            Fault::Refuse => {
                let source = Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
                let error = Error::Network {
                    place: "test".into(),
                    source,
                };
                return futures::future::ready(Err(error)).boxed();
            }
            Fault::Missing => {
                let error = Error::NotFound {
                    what: "blob".into(),
                    place: "test".into(),
                };
                return futures::future::ready(Err(error)).boxed();
            }
            Fault::Stall(len) => {
                bytes.truncate(*len);
                true
            }
            Fault::Short(len) => {
                bytes.truncate(bytes.len().saturating_sub(*len));
                false
            }
            Fault::Flip(step) => {
                for byte in bytes.iter_mut().step_by(*step) {
                    *byte ^= 0x10;
                }
                false
            }
            Fault::First(count, fault) => {
                let is_faulty = self.calls.fetch_add(1, Ordering::SeqCst) < *count;
                return self.answer(if is_faulty { fault } else { &Fault::None }, blob, range);
            }
        };
        // Odd pieces, so that chunks straddle them.
        let pieces: Vec<_> = bytes
            .chunks(1499)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let body = stream::iter(pieces);
        let body: ByteStream = if is_endless {
            body.chain(stream::pending()).boxed()
        } else {
            body.boxed()
        };
        async move {
            tokio::task::yield_now().await;
            Ok(body)
        }
        .boxed()
    }
}

impl BlobSource for FakeSource {
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        (self.reads.lock().unwrap()).push((blob.to_owned(), range.clone()));
        let fault = self.fault.lock().unwrap().clone();
        self.answer(&fault, blob, range)
    }
}
