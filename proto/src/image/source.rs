//! Images opened for reading.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest};

use super::local::{Local, Slice, blocking};
use super::manifest::MANIFEST_LEN_MAX;
use super::{ByteStream, Error, Location, Options, RawManifest, Reference};
use super::{archive, docker_archive, layout, stream};
use crate::registry::Repository;

/// An image's place, opened for reading. Cheap to clone.
#[derive(Clone)]
pub struct ImageSource {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Registry {
        repository: Repository,
        reference: Arc<Reference>,
    },
    Local(Arc<Local>),
}

impl ImageSource {
    /// Opens a place. No network traffic yet for registries; archives are indexed.
    ///
    /// # Errors
    /// Of local places: [`Error::NotFound`] when file or tag are not there, [`Error::Invalid`] when the form is wrong.
    pub async fn open(location: &Location, options: &Options) -> Result<Self, Error> {
        type Open = fn(&Path, Option<&str>) -> Result<Local, Error>;
        let (open, path, tag): (Open, _, _) = match location {
            Location::Docker(reference) => {
                let reference = Arc::new(reference.clone());
                let (named, options) = (Arc::clone(&reference), options.clone());
                let repository =
                    blocking(move || Repository::new(&named.host, &named.repository, &options)).await?;
                return Ok(Self {
                    place: Place::Registry {
                        repository,
                        reference,
                    },
                });
            }
            Location::OciDir { path, tag } => (layout::open, path, tag),
            Location::OciArchive { path, tag } => (archive::open, path, tag),
            Location::DockerArchive { path, tag } => (docker_archive::open, path, tag),
        };
        let (path, tag) = (path.clone(), tag.clone());
        let local = blocking(move || open(&path, tag.as_deref())).await?;
        Ok(Self {
            place: Place::Local(Arc::new(local)),
        })
    }

    /// The manifest or index the location names.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], [`Error::DigestMismatch`], network errors.
    pub async fn root_manifest(&self) -> Result<RawManifest, Error> {
        match &self.place {
            Place::Registry {
                repository,
                reference,
            } => {
                repository
                    .manifest(reference.tag_or_digest(), reference.digest.as_ref())
                    .await
            }
            Place::Local(local) => Ok(local.root.clone()),
        }
    }

    /// A manifest or index by digest, checked.
    ///
    /// # Errors
    /// As [`ImageSource::root_manifest`].
    pub async fn manifest(&self, digest: &Digest) -> Result<RawManifest, Error> {
        match &self.place {
            Place::Registry { repository, .. } => repository.manifest(digest.as_ref(), Some(digest)).await,
            Place::Local(local) if local.root.digest == *digest => Ok(local.root.clone()),
            Place::Local(local) => {
                let slice = slice(local, digest).await?;
                let bytes = blocking(move || slice.read(MANIFEST_LEN_MAX)).await?;
                let what = format!("manifest {digest} in {}", local.place);
                RawManifest::checked(&what, bytes, Some(digest), None)
            }
        }
    }

    /// A whole blob as a stream. Length and digest are checked: a stream whose bytes differ ends in an error.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::LengthMismatch`], [`Error::Unauthorized`], network errors; the same and
    /// [`Error::DigestMismatch`] from within the stream.
    pub async fn blob(&self, descriptor: &Descriptor) -> Result<ByteStream, Error> {
        match &self.place {
            Place::Registry { repository, .. } => repository.blob(descriptor).await,
            Place::Local(local) => {
                let slice = slice(local, descriptor.digest()).await?;
                let (what, len) = (
                    format!("blob {} in {}", descriptor.digest(), local.place),
                    descriptor.size(),
                );
                if slice.len() != len {
                    return Err(Error::LengthMismatch {
                        what,
                        expected: len,
                        actual: slice.len(),
                    });
                }
                stream::checked(slice.stream(), what, len, descriptor.digest())
            }
        }
    }

    /// A small blob in memory (config), checked; refused beyond `len_max` bytes.
    ///
    /// # Errors
    /// As [`ImageSource::blob`], and [`Error::TooLarge`].
    pub async fn small_blob(&self, descriptor: &Descriptor, len_max: u64) -> Result<Bytes, Error> {
        let what = format!("blob {}", descriptor.digest());
        if descriptor.size() > len_max {
            return Err(Error::TooLarge { what, len_max });
        }
        stream::gather(self.blob(descriptor).await?, &what, len_max).await
    }

    /// A range of a blob, unchecked (the caller has chunk digests). The stream gives exactly the range or an error.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when the blob ends before the range does, else as [`ImageSource::blob`].
    pub async fn range(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, Error> {
        match &self.place {
            Place::Registry { repository, .. } => repository.range(digest, range).await,
            Place::Local(local) => Ok(slice(local, digest).await?.part(&range)?.stream()),
        }
    }

    /// Tells that the bytes of a range were not what they should be, so that the next request for the blob goes to
    /// another host, where there is one.
    pub fn distrust(&self, digest: &Digest, range: &Range<u64>) {
        if let Place::Registry { repository, .. } = &self.place {
            repository.distrust(digest, range);
        }
    }

    /// Length of a blob in bytes, without its bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], network errors.
    pub async fn blob_len(&self, digest: &Digest) -> Result<u64, Error> {
        match &self.place {
            Place::Registry { repository, .. } => repository.blob_len(digest).await,
            Place::Local(local) => Ok(slice(local, digest).await?.len()),
        }
    }
}

async fn slice(local: &Arc<Local>, digest: &Digest) -> Result<Slice, Error> {
    let (local, digest) = (Arc::clone(local), digest.clone());
    blocking(move || local.slice(&digest)).await
}
