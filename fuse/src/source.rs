//! Where blobs come from.

use std::ops::Range;

use futures::future::BoxFuture;
use proto::image::{ByteStream, Error, ImageSource};

/// A place that has blobs, by id (64 hex digits of the sha256). Unverified bytes: the engine checks each chunk.
pub trait BlobSource: Send + Sync + 'static {
    /// Streams exactly `range` of the blob, or fails.
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>>;
}

impl BlobSource for ImageSource {
    fn read(&self, _blob: &str, _range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        todo!()
    }
}
