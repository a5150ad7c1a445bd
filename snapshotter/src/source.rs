//! Where the blobs of an image come from: the node's stores first, then its registry.

use std::ops::Range;
use std::str::FromStr;

use fuse::BlobSource;
use futures::future::BoxFuture;
use oci_spec::image::Digest;
use proto::image::{ByteStream, Error, ImageSource};
use proto::store::Stores;

/// The stores of the node, and behind them an image's own place.
pub struct Layered {
    stores: Stores,
    image: ImageSource,
}

impl Layered {
    /// Asks the stores before the image's own place.
    pub fn new(stores: Stores, image: ImageSource) -> Self {
        Self { stores, image }
    }
}

impl BlobSource for Layered {
    fn read(&self, blob: &str, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let blob = blob.to_owned();
        Box::pin(async move {
            if let Ok(digest) = Digest::from_str(&format!("sha256:{blob}"))
                && let Some(stream) = self.stores.range(&digest, &range).await
            {
                return Ok(stream);
            }
            self.image.read(&blob, range).await
        })
    }

    fn distrust(&self, blob: &str, range: Range<u64>) {
        let digest = Digest::from_str(&format!("sha256:{blob}"));
        if !digest.is_ok_and(|digest| self.stores.distrust(&digest, &range)) {
            BlobSource::distrust(&self.image, blob, range);
        }
    }
}
