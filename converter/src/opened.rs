//! A RAFS image opened for reading: its manifest, its bootstrap, and the way to its blobs.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use bytes::Bytes;
use oci_spec::image::Digest;
use proto::image::ImageSource;
use proto::lazy::{self, LazyManifest, Prefer};
use rafs::{BlobIndex, Image};

use crate::error::Error;
use crate::origin::{self, Found};
use crate::platform::Platform;

/// A RAFS image and where it lies.
pub struct RafsImage {
    /// The place.
    pub source: ImageSource,
    /// The manifest.
    pub found: Found,
    /// Its layers by their part.
    pub layers: LazyManifest,
    /// The bootstrap.
    pub bootstrap: Image<Bytes>,
}

impl RafsImage {
    /// Finds the manifest for `platform` (the host's if `None`) and reads the bootstrap. `place` is for messages.
    pub async fn open(source: ImageSource, place: &str, platform: Option<&Platform>) -> Result<Self, Error> {
        let found = origin::find(&source, platform, Prefer::Rafs).await?;
        let layers = LazyManifest::parse(&found.manifest).ok_or_else(|| Error::NotRafs {
            place: place.to_owned(),
            reason: "no layer of its manifest is marked as a bootstrap",
        })?;
        let failed = |source| Error::Io {
            doing: "keeping the bootstrap of",
            path: place.into(),
            source,
        };
        let mut file = tempfile::tempfile().map_err(failed)?;
        lazy::fetch_bootstrap(&source, &layers, &file).await?;
        let mut bootstrap = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut bootstrap))
            .map_err(failed)?;
        let bootstrap = Image::open(Bytes::from(bootstrap)).map_err(|source| Error::Bootstrap {
            place: place.to_owned(),
            source,
        })?;
        Ok(RafsImage {
            source,
            found,
            layers,
            bootstrap,
        })
    }

    /// Digest under which a blob of the blob table lies at the source.
    pub(crate) fn blob_digest(&self, blob: BlobIndex) -> Result<Digest, Error> {
        let blobs = self.bootstrap.blobs();
        let id = blobs.get(usize::from(blob.0)).map_or("", |blob| blob.id.as_str());
        format!("sha256:{id}").parse().map_err(|_| Error::NotRafs {
            place: format!("blob {id:?}"),
            reason: "blobs are named by 64 hex digits",
        })
    }
}

/// Opens a bootstrap file.
pub fn open_file(path: &Path) -> Result<Image<Bytes>, Error> {
    let failed = |source| Error::Io {
        doing: "reading",
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(failed)?;
    Image::open(Bytes::from(bytes)).map_err(|source| Error::Bootstrap {
        place: path.display().to_string(),
        source,
    })
}
