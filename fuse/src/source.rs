//! Where blobs come from.

use std::ops::Range;
use std::str::FromStr;

use futures::future::BoxFuture;
use oci_spec::image::Digest;
use proto::image::{ByteStream, Error, ImageSource};

/// A place that has blobs, by id (64 hex digits of the sha256). Unverified bytes: the engine checks each chunk.
pub trait BlobSource: Send + Sync + 'static {
    /// Streams exactly `range` of the blob, or fails.
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>>;
}

impl BlobSource for ImageSource {
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let digest = Digest::from_str(&format!("sha256:{blob}")).map_err(|_| Error::InvalidName {
            name: blob.to_owned(),
            reason: "the id of a blob is the sha256 of its bytes",
        });
        Box::pin(async move { self.range(&digest?, range).await })
    }
}
