//! A folder of blobs, on this machine or mounted from another.

use std::ops::Range;
use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use oci_spec::image::Digest;

use super::BlobStore;
use crate::image::{ByteStream, Error, Slice, blocking};

/// A folder with files that are named by their digest, in it or in `sha256/` in it.
pub(super) struct Dir {
    folder: PathBuf,
    name: String,
}

impl Dir {
    pub(super) fn new(folder: PathBuf) -> Self {
        let name = folder.display().to_string();
        Self { folder, name }
    }
}

impl BlobStore for Dir {
    fn name(&self) -> &str {
        &self.name
    }

    fn range(&self, digest: &Digest, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        // A parsed digest holds no slash and is no dot name.
        let plain = self.folder.join(digest.digest());
        let sorted = self
            .folder
            .join(digest.algorithm().as_ref())
            .join(digest.digest());
        let open = blocking(move || {
            let slice = match Slice::open(&plain) {
                Err(Error::NotFound { .. }) => Slice::open(&sorted),
                other => other,
            };
            slice?.part(&range)
        });
        open.map(|slice| Ok(slice?.stream())).boxed()
    }
}
