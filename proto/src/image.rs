//! OCI images wherever they lie: a registry, a layout folder, an archive file. Skopeo's names for places.

use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;

use bytes::Bytes;
use futures::Stream;
use oci_spec::image::{Descriptor, Digest, MediaType};

/// A stream of blob bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A docker-style reference: `host/repository[:tag][@digest]`, with docker's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and optional port, such as `registry.example:5000`.
    pub host: String,
    /// Repository, such as `library/python`.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest.
    pub digest: Option<Digest>,
}

/// Where an image lies. `Display` prints what `FromStr` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `docker://host/repo:tag`, also without the prefix.
    Docker(Reference),
    /// `oci:DIR[:TAG]`.
    OciDir {
        /// Folder with `oci-layout` and `index.json`.
        path: PathBuf,
        /// Name in `index.json`; may be left out when there is one image.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`.
    OciArchive {
        /// Tar of a layout folder.
        path: PathBuf,
        /// Name in `index.json`.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:REFERENCE]`, as `docker save` writes; source only.
    DockerArchive {
        /// Tar with `manifest.json`.
        path: PathBuf,
        /// Which image, when there are several.
        tag: Option<String>,
    },
}

impl FromStr for Reference {
    type Err = Error;
    fn from_str(_text: &str) -> Result<Self, Error> {
        todo!()
    }
}

impl FromStr for Location {
    type Err = Error;
    fn from_str(_text: &str) -> Result<Self, Error> {
        todo!()
    }
}

/// How to reach registries.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Plain HTTP instead of HTTPS. (Loopback hosts fall back to plain HTTP by themselves, as docker does.)
    pub plain_http: bool,
    /// User and password; without it docker's, podman's and containerd's credential files are read.
    pub credentials: Option<(String, String)>,
}

/// Why an image operation failed. Variants are decisions (retry, re-authenticate, give up); facts in fields.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be read.
    #[error("invalid image name {name:?}: {reason}")]
    InvalidName {
        /// As given.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// It is not there.
    #[error("{what} not found in {place}")]
    NotFound {
        /// Manifest, blob or file.
        what: String,
        /// Where it was looked for.
        place: String,
    },
    /// The proto author adds: Unauthorized, Throttled{retry_after}, Status, Network, DigestMismatch, Invalid, Io, ReadOnly...
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A manifest, index or config as bytes whose digest was checked.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// Media type: of the reply, else of the document itself.
    pub media_type: MediaType,
    /// sha256 of `bytes`.
    pub digest: Digest,
    /// The document.
    pub bytes: Bytes,
}

/// An image's place, opened for reading. Cheap to clone.
#[derive(Clone)]
pub struct ImageSource {}

impl ImageSource {
    /// Opens a place. No network traffic yet for registries; archives are indexed.
    pub async fn open(_location: &Location, _options: &Options) -> Result<Self, Error> {
        todo!()
    }

    /// The manifest or index the location names.
    pub async fn root_manifest(&self) -> Result<RawManifest, Error> {
        todo!()
    }

    /// A manifest or index by digest, checked.
    pub async fn manifest(&self, _digest: &Digest) -> Result<RawManifest, Error> {
        todo!()
    }

    /// A whole blob as a stream. Length and digest are checked: a stream whose bytes differ ends in an error.
    pub async fn blob(&self, _descriptor: &Descriptor) -> Result<ByteStream, Error> {
        todo!()
    }

    /// A small blob in memory (config), checked; refused beyond `len_max` bytes.
    pub async fn small_blob(&self, _descriptor: &Descriptor, _len_max: u64) -> Result<Bytes, Error> {
        todo!()
    }

    /// A range of a blob, unchecked (the caller has chunk digests). The stream gives exactly the range or an error.
    pub async fn range(&self, _digest: &Digest, _range: Range<u64>) -> Result<ByteStream, Error> {
        todo!()
    }

    /// Length of a blob, without its bytes.
    pub async fn blob_len(&self, _digest: &Digest) -> Result<u64, Error> {
        todo!()
    }
}

/// An image's place, opened for writing.
pub struct ImageTarget {}

impl ImageTarget {
    /// Opens a place for writing (creates the layout folder; an archive is written by [`ImageTarget::finish`]).
    pub async fn create(_location: &Location, _options: &Options) -> Result<Self, Error> {
        todo!()
    }

    /// Whether the blob is there already.
    pub async fn has_blob(&self, _digest: &Digest) -> Result<bool, Error> {
        todo!()
    }

    /// Starts a blob whose digest is not known yet.
    pub async fn start_blob(&self) -> Result<BlobUpload, Error> {
        todo!()
    }

    /// Writes a small blob.
    pub async fn put_blob(&self, _bytes: Bytes) -> Result<Digest, Error> {
        todo!()
    }

    /// Writes a manifest or index. `is_root`: under the location's tag; else by digest only.
    pub async fn put_manifest(
        &self,
        _bytes: Bytes,
        _media_type: &MediaType,
        _is_root: bool,
    ) -> Result<Digest, Error> {
        todo!()
    }

    /// Makes all that was written visible (an archive is closed and renamed into place).
    pub async fn finish(self) -> Result<(), Error> {
        todo!()
    }
}

/// A blob on its way in. Dropped unfinished: nothing is left behind.
pub struct BlobUpload {}

impl BlobUpload {
    /// Appends bytes.
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), Error> {
        todo!()
    }

    /// Ends the blob, which must have this digest.
    pub async fn finish(self, _digest: &Digest) -> Result<(), Error> {
        todo!()
    }
}
