//! One layer through the pipeline: fetch, decompress, read, cut, encode, upload, all at the same time.
//!
//! ```text
//! source --pieces--> [blocking thread: decompress, hash, tar, cut] --chunks--> pool --in order--> --bytes--> target
//! ```
//! Every arrow is bounded, so memory does not grow with the layer.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use oci_spec::image::{Descriptor, Digest};
use proto::image::{BlobUpload, ByteStream, ImageSource, ImageTarget};
use rafs::tree::ChunkId;
use rafs::{BlobIndex, Tree};
use tokio::sync::mpsc;

use super::Options;
use crate::decompress::Decoder;
use crate::error::{Error, LayerError};
use crate::layer::{self, Budget, Change};
use crate::overlay;
use crate::pack::{ChunkOptions, LayerFile, Packed, Packer};
use crate::pipe::{HashReader, Piece, PipeReader, pipe};
use crate::progress::{Event, Observer};
use crate::tarball::{Reader, TarError};
use crate::task;

/// Chunks between packer and target: one on the wire, some ready.
const OUTPUT_COUNT_MAX: usize = 4;

/// What all layers share.
pub(super) struct Workshop<'a> {
    source: &'a ImageSource,
    target: &'a ImageTarget,
    cutting: Cutting,
    pool: Arc<rayon::ThreadPool>,
    budget: Arc<Budget>,
    observer: Arc<dyn Observer>,
}

/// What the reader of a layer needs.
struct Task {
    cutting: Cutting,
    budget: Arc<Budget>,
}

/// How a layer becomes a file.
#[derive(Clone, Copy)]
struct Cutting {
    chunks: ChunkOptions,
    /// Whether the file carries the layer's own bootstrap.
    has_bootstrap: bool,
}

/// A layer whose file, if it has one, is in the target.
#[derive(Debug)]
pub(super) struct Worked {
    pub(super) changes: Vec<Change>,
    pub(super) packed: Packed,
    pub(super) file: Option<LayerFile>,
    /// Bytes of the uncompressed layer.
    pub(super) tar_len: u64,
}

impl<'a> Workshop<'a> {
    pub(super) fn new(
        source: &'a ImageSource,
        target: &'a ImageTarget,
        options: &Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.jobs)
            .thread_name(|number| format!("encode-{number}"))
            .build()
            .map_err(|error| Error::Threads(error.to_string()))?;
        Ok(Workshop {
            source,
            target,
            cutting: Cutting {
                chunks: options.chunks,
                has_bootstrap: options.layer_bootstraps,
            },
            pool: Arc::new(pool),
            budget: Arc::default(),
            observer,
        })
    }

    /// Converts one layer.
    pub(super) async fn work(
        &self,
        number: usize,
        layer: &Descriptor,
        diff_id: &Digest,
    ) -> Result<Worked, Error> {
        let digest = layer.digest().to_string();
        self.observer.event(Event::LayerStarted {
            layer: number,
            digest: &digest,
            len: layer.size(),
        });
        let stream = self.source.blob(layer).await?;
        let (pieces, pipe) = pipe();
        let (output, chunks) = mpsc::channel(OUTPUT_COUNT_MAX);
        let packer = Packer::new(self.cutting.chunks, Arc::clone(&self.pool), output);
        let (task, diff_id) = (self.task(), diff_id.clone());
        let reader = tokio::task::spawn_blocking(move || read(pipe, packer, &task, &diff_id));
        let (pumped, uploaded) = futures::join!(self.pump(number, stream, pieces), self.upload(chunks));
        let read = task::joined(reader).await?;
        // In this order the cause comes before what it made fail.
        pumped?;
        let upload = uploaded?;
        let worked = read.map_err(|source| Error::Layer {
            layer: digest,
            source,
        })?;
        if let (Some(file), Some(upload)) = (&worked.file, upload) {
            upload.finish(&sha256(file.id)).await?;
        }
        self.observer.event(Event::LayerDone {
            layer: number,
            blob_len: worked.packed.blob_len,
        });
        Ok(worked)
    }

    fn task(&self) -> Task {
        Task {
            cutting: self.cutting,
            budget: Arc::clone(&self.budget),
        }
    }

    /// Moves the layer's bytes to the reader. When the reader has given up, the rest is left where it is.
    async fn pump(
        &self,
        number: usize,
        mut stream: ByteStream,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<(), Error> {
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            let len = bytes.len() as u64;
            if pieces.send(Piece::Data(bytes)).await.is_err() {
                return Ok(());
            }
            self.observer.event(Event::LayerRead { layer: number, len });
        }
        // The reader may be gone here too; it has said why.
        let _ = pieces.send(Piece::End).await;
        Ok(())
    }

    /// Moves the blob's bytes to the target. A layer without contents starts no upload.
    async fn upload(&self, mut chunks: mpsc::Receiver<Bytes>) -> Result<Option<BlobUpload>, Error> {
        let mut upload: Option<BlobUpload> = None;
        while let Some(bytes) = chunks.recv().await {
            let started = match &mut upload {
                Some(started) => started,
                None => upload.insert(self.target.start_blob().await?),
            };
            started.write(bytes).await?;
        }
        Ok(upload)
    }
}

/// The blocking part of the pipeline.
fn read(mut pipe: PipeReader, packer: Packer, task: &Task, diff_id: &Digest) -> Result<Worked, LayerError> {
    let result = read_layer(&mut pipe, packer, task, diff_id);
    if result.as_ref().is_err_and(is_damage) {
        // Let the source check the whole blob: a wrong digest explains the damage better than we can.
        pipe.drain();
    }
    result
}

fn read_layer(
    pipe: &mut PipeReader,
    mut packer: Packer,
    task: &Task,
    diff_id: &Digest,
) -> Result<Worked, LayerError> {
    let mut reader = Reader::new(HashReader::new(Decoder::new(pipe)?));
    let chunk_size = task.cutting.chunks.blob.chunk_size;
    let changes = layer::read(&mut reader, chunk_size, &task.budget, |cut| packer.push(cut))?;
    let offset = reader.offset();
    let rest = reader.into_inner().finish();
    let (tar_len, hash) = rest.map_err(|source| TarError::Io { offset, source })?;
    let actual = sha256(hash);
    if actual != *diff_id {
        return Err(LayerError::DiffId {
            expected: diff_id.to_string(),
            actual: actual.to_string(),
        });
    }
    packer.drain()?;
    let alone = match task.cutting.has_bootstrap {
        true => alone(&changes, packer.chunk_of_slot())?,
        false => None,
    };
    let (packed, file) = packer.finish(alone.as_ref())?;
    Ok(Worked {
        changes,
        packed,
        file,
        tar_len,
    })
}

/// The layer without those below it, or `None` if it makes no sense without them.
fn alone(changes: &[Change], chunk_of_slot: &[u32]) -> Result<Option<Tree>, LayerError> {
    let blob = BlobIndex(0);
    let chunks: Vec<ChunkId> = (chunk_of_slot.iter())
        .map(|&index| ChunkId { blob, index })
        .collect();
    match overlay::single(changes, &chunks) {
        Ok(tree) => Ok(Some(tree)),
        Err(error @ LayerError::Entry { .. }) => {
            tracing::warn!(%error, "a layer that needs the layers below it gets no bootstrap of its own");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the bytes may have been damaged on their way.
fn is_damage(error: &LayerError) -> bool {
    match error {
        LayerError::Tar(TarError::UnsupportedType { .. }) => false,
        LayerError::Tar(_) | LayerError::Decompress(_) | LayerError::DiffId { .. } => true,
        LayerError::UnsupportedCompression(_)
        | LayerError::Entry { .. }
        | LayerError::TooManyChunks { .. }
        | LayerError::Blob(_)
        | LayerError::Build(_)
        | LayerError::TooManyMembers { .. }
        | LayerError::Interrupted => false,
    }
}

fn sha256(hash: [u8; 32]) -> Digest {
    format!("sha256:{}", hex::encode(hash))
        .parse()
        .expect("64 hex digits behind the algorithm's name")
}
