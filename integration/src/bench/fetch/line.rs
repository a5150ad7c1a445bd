//! A line to a registry, in this process: so many bytes a second for all requests together, so late the first of them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fuse::BlobSource;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proto::image::{ByteStream, Error};
use tokio::time::Instant;

/// Bytes that the line carries in one go, as large as an HTTP client hands out.
const PIECE_LEN: usize = 64 << 10;

/// One blob at the other end of a line.
pub struct Line {
    blob: Bytes,
    /// Bytes a second; `None`: as fast as they are taken.
    rate: Option<u64>,
    latency: Duration,
    /// When the line has carried all it was given.
    free_at: Arc<Mutex<Option<Instant>>>,
    requests: AtomicU64,
}

impl Line {
    /// A line that is idle.
    pub fn new(blob: Bytes, rate: Option<u64>, latency: Duration) -> Arc<Self> {
        Arc::new(Line {
            blob,
            rate,
            latency,
            free_at: Arc::default(),
            requests: AtomicU64::new(0),
        })
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What a line carries in this time comes in one burst, as sockets buffer: timers that go by milliseconds would otherwise
/// keep a single request far below the rate.
const BURST: Duration = Duration::from_millis(4);

/// Waits until the line has carried so many more bytes, or nearly.
async fn carry(free_at: &Mutex<Option<Instant>>, rate: u64, len: usize) {
    let until = {
        let mut free_at = free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let begin = free_at.map_or(now, |free_at| free_at.max(now));
        let until = begin + Duration::from_secs_f64(len as f64 / rate as f64);
        *free_at = Some(until);
        until
    };
    if until > Instant::now() + BURST {
        tokio::time::sleep_until(until).await;
    }
}

impl BlobSource for Line {
    fn read(&self, _blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let at = |offset: u64| usize::try_from(offset).map_or(self.blob.len(), |at| at.min(self.blob.len()));
        let bytes = self.blob.slice(at(range.start)..at(range.end));
        let (rate, free_at, latency) = (self.rate, Arc::clone(&self.free_at), self.latency);
        async move {
            tokio::time::sleep(latency).await;
            let pieces = stream::unfold(bytes, move |mut rest| {
                let free_at = Arc::clone(&free_at);
                async move {
                    if rest.is_empty() {
                        return None;
                    }
                    let piece = rest.split_to(PIECE_LEN.min(rest.len()));
                    if let Some(rate) = rate {
                        carry(&free_at, rate, piece.len()).await;
                    }
                    Some((Ok(piece), rest))
                }
            });
            Ok(pieces.boxed() as ByteStream)
        }
        .boxed()
    }
}
