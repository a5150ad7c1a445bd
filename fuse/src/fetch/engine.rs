//! What all images of a node share: flights, the queue, decoders, and the tasks that fetch.

use std::sync::Arc;
use std::time::Duration;

use rafs::{ChunkRef, Digest};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::flight::Flights;
use super::queue::{Class, Limits, Queue};
use crate::cache::BlobId;
use crate::decode::VerifiedChunk;

/// Longest silence of a source before an attempt is given up, whatever the deadline of reads.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Silences that fit into a read's deadline: so many times a read can try a source that hangs.
const STALLS_PER_DEADLINE: u32 = 3;

/// How long the end of a server waits for tasks that were told to stop. They only finish the chunk they decode.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Requests below faults that one image may run at once.
pub(super) const WIDTH_MAX: usize = 7;

/// Requests that may run at once. Two of each image's own for faults, so that one slow answer does not stop a reader,
/// and one for the rest, so that it always goes on. Six more fill any line, others would only queue in the registry.
/// What a registry and a socket table bear without complaint are 32 for the node, a quarter kept for faults; 64 MiB of
/// ranges keep a line of 10 Gbit/s busy for several round trips.
const LIMITS: Limits = Limits {
    own_for_faults: 2,
    own: 1,
    shared: 32,
    shared_for_faults: 8,
    share_max: WIDTH_MAX - 1,
    bytes: 64 << 20,
    bytes_for_faults: 16 << 20,
};

/// What a flight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Errand {
    /// To bring a unit, named by the first of its chunks that the image lists.
    Fetch,
    /// To hash a chunk that an earlier process recorded.
    Check,
}

/// What single flight is about. The digest belongs to it: images may disagree about a chunk of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) errand: Errand,
    pub(super) blob: BlobId,
    pub(super) index: u32,
    pub(super) digest: Digest,
    /// Set when an image no longer waits for another image's source.
    pub(super) only_for: Option<u32>,
}

/// What a flight brought.
#[derive(Debug, Default)]
pub(super) struct Cargo {
    /// Chunks that were checked. Not all of the unit: those that are in the cache already are left out.
    pub(super) chunks: Vec<VerifiedChunk>,
    /// Why others are not among them, if they were not what their digests say.
    pub(super) refused: Option<Arc<Error>>,
}

impl Cargo {
    /// Finds a chunk. The leader may be another image, so all that both say about the chunk has to be the same.
    pub(super) fn find(&self, wanted: &ChunkRef) -> Option<&VerifiedChunk> {
        self.chunks.iter().find(|verified| {
            let chunk = verified.chunk();
            chunk.index == wanted.index
                && chunk.digest == wanted.digest
                && chunk.uncompressed == wanted.uncompressed
        })
    }
}

/// How a flight ends.
pub(super) type Landing = Result<Arc<Cargo>, Arc<Error>>;

/// Who may decode. Decoding and hashing saturate a core each; more at once only adds buffers. Two sets, so that what a
/// reader waits for never stands behind what nobody waits for.
struct Decoders {
    faults: Arc<Semaphore>,
    rest: Arc<Semaphore>,
}

/// The fetch engine of a node.
pub(crate) struct Engine {
    pub(super) flights: Flights<Key, Landing>,
    pub(super) queue: Arc<Queue>,
    decoders: Decoders,
    pub(super) read_deadline: Duration,
    pub(super) closed: CancellationToken,
    runtime: Handle,
    tasks: TaskTracker,
}

impl Engine {
    /// Makes an engine whose tasks run on `runtime`, which must have its timer enabled. A read that has not got its
    /// bytes after `read_deadline` fails.
    pub(crate) fn new(runtime: Handle, read_deadline: Duration) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Engine {
            flights: Flights::new(),
            queue: Queue::new(LIMITS),
            decoders: Decoders {
                faults: Arc::new(Semaphore::new(cores)),
                rest: Arc::new(Semaphore::new(cores)),
            },
            read_deadline,
            closed: CancellationToken::new(),
            runtime,
            tasks: TaskTracker::new(),
        })
    }

    /// Waits for the right to decode.
    pub(super) async fn decoder(&self, class: Class) -> OwnedSemaphorePermit {
        let decoders = match class {
            Class::Fault => &self.decoders.faults,
            Class::Readahead | Class::Hint | Class::Weights | Class::Fill => &self.decoders.rest,
        };
        let decoder = decoders.clone().acquire_owned().await;
        decoder.expect("the semaphores of this module are never closed")
    }

    /// Runs a task until it ends or the engine is closed; then it is dropped where it waits.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        let guarded = async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => {}
                () = task => {}
            }
        };
        self.tasks.spawn_on(guarded, &self.runtime);
    }

    /// Runs work that computes or touches the disk, off the threads that wait.
    pub(super) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.tasks.spawn_blocking_on(work, &self.runtime);
    }

    /// How long a source may be silent.
    pub(super) fn stall(&self) -> Duration {
        STALL_MAX.min(self.read_deadline / STALLS_PER_DEADLINE)
    }

    /// Stops all tasks and waits for them. Reads that wait end with [`Error::Closed`].
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        let tasks = self.tasks.clone();
        self.runtime.spawn(async move {
            tasks.wait().await;
            // The receiver is gone if it no longer waits; nothing is left to tell then.
            done.send(()).ok();
        });
        if is_done.recv_timeout(CLOSE_WAIT).is_err() {
            tracing::warn!("fetch tasks did not end in time");
        }
    }
}
