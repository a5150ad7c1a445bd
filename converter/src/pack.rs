//! Contents to chunks to blob: encoded in a pool, appended in order, each distinct chunk once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use rafs::Digest;
use rafs::blob::{BlobBuilder, BlobOptions, FinishedBlob};
use rafs::chunk::{EncodedChunk, encode};
use sha2::{Digest as _, Sha256};

use crate::error::LayerError;

/// Content a layer may have in the pool, in full chunks for each thread: one at work, one waiting.
const FULL_CHUNKS_PER_THREAD: usize = 2;
/// The same for small files, whose chunks are short: enough that no thread waits for the reader.
const CHUNKS_PER_THREAD: usize = 64;

/// How chunks are made.
#[derive(Clone, Copy, Debug)]
pub struct ChunkOptions {
    /// Size, compressor, digest function.
    pub blob: BlobOptions,
    /// Compression level; meaning and range are the compressor's.
    pub level: i32,
}

/// Builds one layer's blob.
pub(crate) struct Packer {
    options: ChunkOptions,
    pool: Arc<rayon::ThreadPool>,
    /// Chunks in the pool, in the order of their contents.
    in_flight: VecDeque<InFlight>,
    in_flight_len: usize,
    builder: BlobBuilder,
    hash: Sha256,
    known: HashMap<(Digest, u32), u32>,
    packed: Packed,
    /// Where the blob's bytes go.
    output: tokio::sync::mpsc::Sender<Bytes>,
}

/// A chunk in the pool.
struct InFlight {
    len: usize,
    encoded: mpsc::Receiver<EncodedChunk>,
}

/// What became of a layer's contents.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    /// Chunk number in the blob, by slot.
    pub(crate) chunk_of_slot: Vec<u32>,
    /// Bytes of content not stored because the blob has them already.
    pub(crate) repeated_len: u64,
    /// Bytes of content.
    pub(crate) content_len: u64,
    /// Bytes of the blob's file.
    pub(crate) blob_len: u64,
}

impl Packer {
    pub(crate) fn new(
        options: ChunkOptions,
        pool: Arc<rayon::ThreadPool>,
        output: tokio::sync::mpsc::Sender<Bytes>,
    ) -> Self {
        Packer {
            options,
            pool,
            in_flight: VecDeque::new(),
            in_flight_len: 0,
            builder: BlobBuilder::new(options.blob),
            hash: Sha256::new(),
            known: HashMap::new(),
            packed: Packed::default(),
            output,
        }
    }

    /// Takes the next piece of content. Waits while the pool has enough of this layer.
    pub(crate) fn push(&mut self, content: Vec<u8>) -> Result<(), LayerError> {
        let len = content.len();
        while self.is_full(len) {
            self.take_oldest()?;
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let ChunkOptions { blob, level } = self.options;
        self.pool.spawn(move || {
            // Nobody waits any more when the layer was given up.
            let _ = sender.send(encode(content, blob.compressor, level, blob.digester));
        });
        self.in_flight.push_back(InFlight {
            len,
            encoded: receiver,
        });
        self.in_flight_len += len;
        Ok(())
    }

    /// Appends what is still in the pool and the blob's trailing sections. No blob if there was no content.
    pub(crate) fn finish(mut self) -> Result<(Packed, Option<FinishedBlob>), LayerError> {
        while !self.in_flight.is_empty() {
            self.take_oldest()?;
        }
        let Some(mut blob) = self.builder.finish(self.hash) else {
            return Ok((self.packed, None));
        };
        let tail = Bytes::from(std::mem::take(&mut blob.tail));
        self.packed.blob_len += tail.len() as u64;
        self.output
            .blocking_send(tail)
            .map_err(|_| LayerError::Interrupted)?;
        Ok((self.packed, Some(blob)))
    }

    fn is_full(&self, len: usize) -> bool {
        let threads = self.pool.current_num_threads();
        let len_max = FULL_CHUNKS_PER_THREAD * threads * self.options.blob.chunk_size as usize;
        self.in_flight.len() >= CHUNKS_PER_THREAD * threads
            || !self.in_flight.is_empty() && self.in_flight_len + len > len_max
    }

    fn take_oldest(&mut self) -> Result<(), LayerError> {
        let Some(oldest) = self.in_flight.pop_front() else {
            return Ok(());
        };
        self.in_flight_len -= oldest.len;
        let chunk = oldest.encoded.recv().map_err(|_| LayerError::Interrupted)?;
        self.packed.content_len += u64::from(chunk.len);
        if let Some(number) = self.known.get(&(chunk.digest, chunk.len)) {
            self.packed.repeated_len += u64::from(chunk.len);
            self.packed.chunk_of_slot.push(*number);
            return Ok(());
        }
        if self.builder.chunk_count() == CHUNK_COUNT_MAX {
            return Err(LayerError::TooManyChunks {
                limit: CHUNK_COUNT_MAX,
            });
        }
        let number = self.builder.push(&chunk);
        self.known.insert((chunk.digest, chunk.len), number);
        self.packed.chunk_of_slot.push(number);
        self.hash.update(&chunk.data);
        self.packed.blob_len += chunk.data.len() as u64;
        self.output
            .blocking_send(Bytes::from(chunk.data))
            .map_err(|_| LayerError::Interrupted)
    }
}

/// The format's limit, 24 bits less one.
const CHUNK_COUNT_MAX: u32 = 0xFF_FFFF;

#[cfg(test)]
mod tests {
    use rafs::{Compressor, Digester};

    use super::*;

    const OPTIONS: ChunkOptions = ChunkOptions {
        blob: BlobOptions {
            chunk_size: 4096,
            compressor: Compressor::None,
            digester: Digester::Sha256,
        },
        level: 0,
    };

    /// Packs `contents`; gives chunks by slot, the blob's bytes and the blob.
    fn pack(contents: &[Vec<u8>]) -> (Packed, Vec<u8>, Option<FinishedBlob>) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let collector = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while let Some(part) = receiver.blocking_recv() {
                bytes.extend_from_slice(&part);
            }
            bytes
        });
        let mut packer = Packer::new(OPTIONS, Arc::new(pool), sender);
        contents
            .iter()
            .for_each(|content| packer.push(content.clone()).unwrap());
        let (packed, blob) = packer.finish().unwrap();
        (packed, collector.join().unwrap(), blob)
    }

    #[test]
    fn chunks_keep_their_order_whatever_the_pool_does() {
        let contents: Vec<Vec<u8>> = (0..500u32)
            .map(|number| number.to_le_bytes().repeat(1 + number as usize))
            .collect();
        let (packed, bytes, blob) = pack(&contents);
        assert_eq!(packed.chunk_of_slot, (0..500).collect::<Vec<_>>());
        assert!(bytes.starts_with(&contents.concat()));
        assert_eq!(packed.blob_len, bytes.len() as u64);
        assert_eq!(blob.unwrap().info.id, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }

    #[test]
    fn equal_contents_are_one_chunk() {
        let (packed, bytes, blob) = pack(&[b"one".to_vec(), b"two".to_vec(), b"one".to_vec()]);
        assert_eq!(packed.chunk_of_slot, [0, 1, 0]);
        assert_eq!((packed.content_len, packed.repeated_len), (9, 3));
        assert!(bytes.starts_with(b"onetwo"));
        assert_eq!(blob.unwrap().info.chunks.len(), 2);
    }

    #[test]
    fn no_content_is_no_blob() {
        let (packed, bytes, blob) = pack(&[]);
        assert!(packed.chunk_of_slot.is_empty() && bytes.is_empty() && blob.is_none());
    }

    #[test]
    fn a_target_that_is_gone_stops_the_packer() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(receiver);
        let mut packer = Packer::new(OPTIONS, Arc::new(pool), sender);
        packer.push(vec![1]).unwrap();
        assert!(matches!(packer.finish(), Err(LayerError::Interrupted)));
    }
}
