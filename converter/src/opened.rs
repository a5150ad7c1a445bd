//! A RAFS image opened for reading: its manifest, its bootstrap, and the way to its blobs.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use oci_spec::image::Digest;
use proto::image::{ImageSource, Platform, open_regular};
use proto::lazy::{self, BOOTSTRAP_LEN_MAX, LazyManifest, Prefer};
use rafs::blob::{MetaError, Units};
use rafs::hints::TEXT_LEN_MAX;
use rafs::{BlobIndex, Image, image};
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::origin::{self, Found};

/// Most bytes of stored chunk infos. They shrink little, and the reader takes no more uncompressed.
const META_LEN_MAX: u64 = 256 << 20;

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
    /// By position of the blob, read when first asked for.
    units: Vec<OnceCell<Arc<Units>>>,
}

/// The parts of a RAFS image, whatever state its bootstrap is in.
pub struct RafsParts {
    /// Name of the place, for messages.
    pub place: String,
    /// The place.
    pub source: ImageSource,
    /// The manifest.
    pub found: Found,
    /// Its layers by their part.
    pub layers: LazyManifest,
    /// The file in the bootstrap layer.
    pub bootstrap: Bytes,
}

impl RafsParts {
    /// Finds the manifest for `platform` (the host's if `None`) and fetches the bootstrap.
    pub async fn fetch(source: ImageSource, place: &str, platform: Option<&Platform>) -> Result<Self, Error> {
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
        let file = tempfile::tempfile().map_err(failed)?;
        lazy::fetch_bootstrap(&source, &layers, &file).await?;
        let bootstrap = recognize_and_read(file, Path::new(place))?;
        Ok(RafsParts {
            place: place.to_owned(),
            source,
            found,
            layers,
            bootstrap,
        })
    }

    /// Reads the text of the hints beside the bootstrap, if there are any.
    pub async fn hints(&self) -> Result<Option<Vec<u8>>, Error> {
        let len_max = TEXT_LEN_MAX as u64;
        Ok(lazy::fetch_beside(&self.source, &self.layers, lazy::HINTS_NAME, len_max).await?)
    }

    /// Opens the bootstrap.
    pub fn open(self) -> Result<RafsImage, Error> {
        let bootstrap = Image::open(self.bootstrap).map_err(|source| Error::Bootstrap {
            place: self.place,
            source,
        })?;
        let units = bootstrap.blobs().iter().map(|_| OnceCell::new()).collect();
        Ok(RafsImage {
            source: self.source,
            found: self.found,
            layers: self.layers,
            bootstrap,
            units,
        })
    }
}

impl RafsImage {
    /// Finds the manifest for `platform` (the host's if `None`) and reads the bootstrap. `place` is for messages.
    pub async fn open(source: ImageSource, place: &str, platform: Option<&Platform>) -> Result<Self, Error> {
        RafsParts::fetch(source, place, platform).await?.open()
    }

    /// What the chunks of a blob are cut from. Reads the blob's chunk infos if they are needed for that.
    pub(crate) async fn units(&self, blob: BlobIndex) -> Result<Arc<Units>, Error> {
        let number = usize::from(blob.0);
        let (Some(cell), Some(table)) = (self.units.get(number), self.bootstrap.blobs().get(number)) else {
            return Err(no_blob(number));
        };
        let read = cell.get_or_try_init(|| async {
            match table.has_shared_units() {
                true => self.infos(blob).await.map(Arc::new),
                false => Ok(Arc::new(Units::single(table))),
            }
        });
        read.await.cloned()
    }

    /// Reads a blob's chunk infos, whether its chunks can be read without them or not.
    pub(crate) async fn infos(&self, blob: BlobIndex) -> Result<Units, Error> {
        let number = usize::from(blob.0);
        let table = self.bootstrap.blobs().get(number);
        let table = table.ok_or_else(|| no_blob(number))?;
        let failed = |source| Error::BlobMeta {
            blob: table.id.clone(),
            source,
        };
        let (id, range) = table.meta_range();
        let len = range.end - range.start;
        if len > META_LEN_MAX {
            let limit = META_LEN_MAX;
            return Err(failed(MetaError::TooLarge { len, limit }));
        }
        let mut stored = Vec::new();
        let mut stream = self.source.range(&sha256(id)?, range).await?;
        while let Some(bytes) = stream.next().await {
            stored.extend_from_slice(&bytes?);
        }
        Units::read(table, &stored).map_err(failed)
    }

    /// Digest of the separate blob that holds a blob's chunk infos, if there is one.
    pub(crate) fn infos_digest(&self, blob: BlobIndex) -> Result<Option<Digest>, Error> {
        let table = self.bootstrap.blobs().get(usize::from(blob.0));
        let separate = table.and_then(|table| table.meta_blob.as_ref());
        separate.map(|separate| sha256(&separate.id)).transpose()
    }

    /// Digest under which a blob of the blob table lies at the source.
    pub(crate) fn blob_digest(&self, blob: BlobIndex) -> Result<Digest, Error> {
        let number = usize::from(blob.0);
        let table = self.bootstrap.blobs().get(number);
        sha256(&table.ok_or_else(|| no_blob(number))?.id)
    }
}

fn no_blob(number: usize) -> Error {
    Error::NotRafs {
        place: format!("blob {number}"),
        reason: "the blob table does not list it",
    }
}

fn sha256(id: &str) -> Result<Digest, Error> {
    format!("sha256:{id}").parse().map_err(|_| Error::NotRafs {
        place: format!("blob {id:?}"),
        reason: "blobs are named by 64 hex digits",
    })
}

/// Reads a bootstrap file: a regular one that starts like a bootstrap and is no longer than one may be.
pub fn read_file(path: &Path) -> Result<Bytes, Error> {
    recognize_and_read(open_regular(path)?, path)
}

/// Reads a file that may be no bootstrap, or not any more: a regular one, no longer than a bootstrap may be.
pub fn read_any(path: &Path) -> Result<Bytes, Error> {
    read(open_regular(path)?, path)
}

/// Reads a bootstrap. `path` is for messages.
fn recognize_and_read(file: File, path: &Path) -> Result<Bytes, Error> {
    let mut head = Vec::new();
    (&file)
        .rewind()
        .and_then(|()| (&file).take(image::HEAD_LEN).read_to_end(&mut head))
        .map_err(reading(path))?;
    image::recognize(&head).map_err(|source| Error::Bootstrap {
        place: path.display().to_string(),
        source,
    })?;
    read(file, path)
}

fn read(mut file: File, path: &Path) -> Result<Bytes, Error> {
    let len = file.metadata().map_err(reading(path))?.len();
    if len > BOOTSTRAP_LEN_MAX {
        return Err(Error::Image(proto::image::Error::TooLarge {
            what: format!("bootstrap {}", path.display()),
            len_max: BOOTSTRAP_LEN_MAX,
        }));
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(len).unwrap_or(usize::MAX);
    bytes
        .try_reserve_exact(room)
        .map_err(|error| reading(path)(io::Error::new(io::ErrorKind::OutOfMemory, error)))?;
    // A file that grows meanwhile is read as far as it was.
    file.rewind()
        .and_then(|()| file.take(len).read_to_end(&mut bytes))
        .map_err(reading(path))?;
    Ok(bytes.into())
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    |source| Error::Io {
        doing: "reading",
        path,
        source,
    }
}

/// Opens a bootstrap file.
pub fn open_file(path: &Path) -> Result<Image<Bytes>, Error> {
    Image::open(read_file(path)?).map_err(|source| Error::Bootstrap {
        place: path.display().to_string(),
        source,
    })
}
