//! Contents to chunks to blob: hashed in a pool, each distinct content once compressed in the pool, appended in order.
//!
//! ```text
//! push --> [pool: hash] --in order: known already?--> open batch --> [pool: compress] --in order--> blob
//! ```
//! What becomes of a content depends on those before it only, never on the pool, so that the same layer gives the
//! same blob.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use rafs::blob::{BlobBuilder, BlobInfo, layer_without_data};
use rafs::build;
use rafs::chunk::{Batch, EncodedBatch, EncodedChunk, compress};
use rafs::{Digest, Tree};
use sha2::{Digest as _, Sha256};

use crate::error::LayerError;
use crate::layer::Cut;

mod option;

pub use option::{ChunkOptions, Layout};

/// Content a layer may have in the pool, in full chunks for each thread: one at work, one to follow it, one between
/// hash and compression.
const FULL_CHUNKS_PER_THREAD: usize = 3;
/// The same for small files, whose chunks are short: enough that no thread waits for the reader.
const CHUNKS_PER_THREAD: usize = 64;

/// Builds one layer's blob.
pub(crate) struct Packer {
    options: ChunkOptions,
    pool: Arc<rayon::ThreadPool>,
    /// Contents being hashed, in order.
    hashing: VecDeque<Hashing>,
    /// Small contents that will share a frame.
    open: Batch,
    /// Chunks and batches being compressed, in the order of the blob.
    encoding: VecDeque<Encoding>,
    /// Bytes of content in the three above.
    in_flight_len: usize,
    /// Numbers given out; the blob has fewer chunks while some are in flight.
    numbered_count: u32,
    builder: BlobBuilder,
    hash: Sha256,
    known: HashMap<(Digest, usize), u32>,
    packed: Packed,
    /// Where the blob's bytes go.
    output: tokio::sync::mpsc::Sender<Bytes>,
}

/// A content whose digest is being computed.
struct Hashing {
    len: usize,
    is_whole: bool,
    hashed: mpsc::Receiver<(Vec<u8>, Digest)>,
}

/// A chunk or a batch in the pool.
struct Encoding {
    len: usize,
    encoded: mpsc::Receiver<Encoded>,
}

enum Encoded {
    Chunk(EncodedChunk),
    Batch(EncodedBatch),
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

/// The file that a layer becomes.
#[derive(Debug)]
pub(crate) struct LayerFile {
    /// Digest of its bytes.
    pub(crate) id: [u8; 32],
    /// What it holds; `None` if no data.
    pub(crate) blob: Option<BlobInfo>,
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
            hashing: VecDeque::new(),
            open: Batch::default(),
            encoding: VecDeque::new(),
            in_flight_len: 0,
            numbered_count: 0,
            builder: options.builder(),
            hash: Sha256::new(),
            known: HashMap::new(),
            packed: Packed::default(),
            output,
        }
    }

    /// Takes the next content. Waits while the pool has enough of this layer.
    pub(crate) fn push(&mut self, cut: Cut) -> Result<(), LayerError> {
        let Cut { content, is_whole } = cut;
        let len = content.len();
        self.place_hashed();
        while self.is_full(len) {
            match self.encoding.pop_front() {
                Some(oldest) => self.append(&oldest)?,
                None => self.place_oldest()?,
            }
            self.place_hashed();
        }
        let digester = self.options.blob.digester;
        let hashed = self.in_pool(move || {
            let digest = digester.digest(&content);
            (content, digest)
        });
        self.hashing.push_back(Hashing {
            len,
            is_whole,
            hashed,
        });
        self.in_flight_len += len;
        Ok(())
    }

    /// Appends what is still in flight. After it, every slot has its chunk.
    pub(crate) fn drain(&mut self) -> Result<(), LayerError> {
        while !self.hashing.is_empty() {
            self.place_oldest()?;
        }
        self.close_batch();
        while let Some(oldest) = self.encoding.pop_front() {
            self.append(&oldest)?;
        }
        Ok(())
    }

    /// The chunk numbers, by slot, of all contents that were drained.
    pub(crate) fn chunk_of_slot(&self) -> &[u32] {
        &self.packed.chunk_of_slot
    }

    /// Appends the trailing sections of the blob, with the bootstrap of `layer` among them if given. Without content
    /// the file is that bootstrap, or there is none.
    pub(crate) fn finish(mut self, layer: Option<&Tree>) -> Result<(Packed, Option<LayerFile>), LayerError> {
        self.drain()?;
        let image = self.options.image();
        let bootstrap = |tree: &Tree, blob: Option<&BlobInfo>| {
            build::layer_bootstrap(tree, blob, &image).map_err(LayerError::Build)
        };
        let finished = match layer {
            Some(tree) => (self.builder).finish_layer(self.hash, |blob| bootstrap(tree, Some(blob)))?,
            None => self.builder.finish(self.hash),
        };
        let (tail, file) = match (finished, layer) {
            (Some(finished), _) => {
                let (id, blob) = (finished.info.id, Some(finished.info));
                (finished.tail, LayerFile { id, blob })
            }
            (None, Some(tree)) => {
                let (id, bytes) = layer_without_data(&bootstrap(tree, None)?);
                (bytes, LayerFile { id, blob: None })
            }
            (None, None) => return Ok((self.packed, None)),
        };
        self.packed.blob_len += tail.len() as u64;
        self.output
            .blocking_send(Bytes::from(tail))
            .map_err(|_| LayerError::Interrupted)?;
        Ok((self.packed, Some(file)))
    }

    fn is_full(&self, len: usize) -> bool {
        let threads = self.pool.current_num_threads();
        let len_max = FULL_CHUNKS_PER_THREAD * threads * self.options.blob.chunk_size as usize;
        let count = self.hashing.len() + self.encoding.len();
        // A batch that is open does not count alone: it may close only when its layer says so.
        count >= CHUNKS_PER_THREAD * threads || count > 0 && self.in_flight_len + len > len_max
    }

    /// Places contents that have their digests, up to the first that does not.
    fn place_hashed(&mut self) {
        while let Some(front) = self.hashing.front()
            && let Ok((content, digest)) = front.hashed.try_recv()
        {
            let is_whole = front.is_whole;
            self.hashing.pop_front();
            self.place(content, digest, is_whole);
        }
    }

    fn place_oldest(&mut self) -> Result<(), LayerError> {
        let Some(oldest) = self.hashing.pop_front() else {
            return Ok(());
        };
        let (content, digest) = oldest.hashed.recv().map_err(|_| LayerError::Interrupted)?;
        debug_assert_eq!(oldest.len, content.len());
        self.place(content, digest, oldest.is_whole);
        Ok(())
    }

    /// Decides what becomes of the next content: a reference, a part of a batch, or a chunk of its own.
    fn place(&mut self, content: Vec<u8>, digest: Digest, is_whole: bool) {
        let len = content.len();
        self.packed.content_len += len as u64;
        if let Some(&number) = self.known.get(&(digest, len)) {
            self.packed.repeated_len += len as u64;
            self.packed.chunk_of_slot.push(number);
            self.in_flight_len -= len;
            return;
        }
        let number = self.numbered_count;
        self.numbered_count += 1;
        self.known.insert((digest, len), number);
        self.packed.chunk_of_slot.push(number);
        if is_whole && let Some(size) = self.options.batch_for(len) {
            if self.open.len() + len > size {
                self.close_batch();
            }
            self.open.push(digest, &content);
            return;
        }
        // Chunks lie in the order of their numbers.
        self.close_batch();
        let ChunkOptions { blob, level, layout } = self.options;
        let encoded = self.in_pool(move || {
            let mut chunk = compress(digest, content, blob.compressor, level);
            if layout == Layout::Flat {
                chunk.pad();
            }
            Encoded::Chunk(chunk)
        });
        self.encoding.push_back(Encoding { len, encoded });
    }

    fn close_batch(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.open);
        let len = batch.len();
        let ChunkOptions { blob, level, .. } = self.options;
        let encoded = self.in_pool(move || Encoded::Batch(batch.encode(blob.compressor, level)));
        self.encoding.push_back(Encoding { len, encoded });
    }

    /// Waits for a chunk or batch and appends it to the blob.
    fn append(&mut self, oldest: &Encoding) -> Result<(), LayerError> {
        let encoded = oldest.encoded.recv().map_err(|_| LayerError::Interrupted)?;
        self.in_flight_len -= oldest.len;
        let data = match encoded {
            Encoded::Chunk(chunk) => {
                self.builder.push(&chunk)?;
                chunk.data
            }
            Encoded::Batch(batch) => {
                self.builder.push_batch(&batch)?;
                batch.data
            }
        };
        self.hash.update(&data);
        self.packed.blob_len += data.len() as u64;
        self.output
            .blocking_send(Bytes::from(data))
            .map_err(|_| LayerError::Interrupted)
    }

    /// Starts work in the pool.
    fn in_pool<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.pool.spawn(move || {
            // Nobody waits any more when the layer was given up.
            let _ = sender.send(work());
        });
        receiver
    }
}

#[cfg(test)]
mod tests;
