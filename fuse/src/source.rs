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

    /// Takes note that the bytes of `range` were not what their digests say, so that another place is asked next.
    fn distrust(&self, _blob: &str, _range: Range<u64>) {}
}

impl BlobSource for ImageSource {
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let digest = digest(blob);
        Box::pin(async move { self.range(&digest?, range).await })
    }

    fn distrust(&self, blob: &str, range: Range<u64>) {
        if let Ok(digest) = digest(blob) {
            ImageSource::distrust(self, &digest, &range);
        }
    }
}

fn digest(blob: &str) -> Result<Digest, Error> {
    Digest::from_str(&format!("sha256:{blob}")).map_err(|_| Error::InvalidName {
        name: blob.to_owned(),
        reason: "the id of a blob is the sha256 of its bytes",
    })
}
