//! Images opened for writing.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, MediaType};

use super::archive::writer::ArchiveWriter;
use super::layout::writer::{BlobFile, Writer};
use super::local::blocking;
use super::{Error, Location, Options, Reference, digest};
use crate::registry::{Repository, Upload};

/// An image's place, opened for writing. Blobs may be written concurrently.
pub struct ImageTarget {
    place: Place,
}

enum Place {
    Registry {
        repository: Repository,
        reference: Reference,
    },
    Layout(Box<Layout>),
}

/// A layout being written, and what is to be listed in its index at the end.
struct Layout {
    files: Files,
    tag: Option<String>,
    root: Mutex<Option<Descriptor>>,
}

/// A layout folder, or one that becomes an archive.
enum Files {
    Folder(Writer),
    Archive(ArchiveWriter),
}

impl Files {
    fn layout(&self) -> &Writer {
        match self {
            Self::Folder(writer) => writer,
            Self::Archive(archive) => archive.layout(),
        }
    }
}

impl ImageTarget {
    /// Opens a place for writing. A layout folder is made with the first blob, and taken back if it was not there and
    /// the target is dropped before an image is listed; an archive is written by [`ImageTarget::finish`].
    ///
    /// # Errors
    /// [`Error::ReadOnly`] for docker archives, [`Error::Invalid`] when something else is in the place,
    /// [`Error::File`].
    pub async fn create(location: &Location, options: &Options) -> Result<Self, Error> {
        let (files, tag) = match location {
            Location::Docker(reference) => {
                let (named, options) = (reference.clone(), options.clone());
                let repository =
                    blocking(move || Repository::new(&named.host, &named.repository, &options)).await?;
                return Ok(Self {
                    place: Place::Registry {
                        repository,
                        reference: reference.clone(),
                    },
                });
            }
            Location::DockerArchive { .. } => {
                return Err(Error::ReadOnly {
                    place: location.to_string(),
                });
            }
            Location::OciDir { path, tag } => {
                let path = path.clone();
                (
                    blocking(move || Writer::open(&path).map(Files::Folder)).await?,
                    tag,
                )
            }
            Location::OciArchive { path, tag } => {
                let path = path.clone();
                (
                    blocking(move || ArchiveWriter::create(&path).map(Files::Archive)).await?,
                    tag,
                )
            }
        };
        let layout = Layout {
            files,
            tag: tag.clone(),
            root: Mutex::default(),
        };
        Ok(Self {
            place: Place::Layout(Box::new(layout)),
        })
    }

    /// Whether the blob is there already.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], network and file errors.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        match &self.place {
            Place::Registry { repository, .. } => repository.has_blob(digest).await,
            Place::Layout(layout) => {
                let (writer, digest) = (layout.files.layout().clone(), digest.clone());
                blocking(move || writer.has_blob(&digest)).await
            }
        }
    }

    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// [`Error::File`] when no file can be made.
    pub async fn start_blob(&self) -> Result<BlobUpload, Error> {
        let kind = match &self.place {
            Place::Registry { repository, .. } => Kind::Registry(repository.start_upload()),
            Place::Layout(layout) => {
                let writer = layout.files.layout().clone();
                let (writer, file) = blocking(move || writer.start().map(|file| (writer, file))).await?;
                Kind::Layout(writer, Some(file))
            }
        };
        Ok(BlobUpload { kind })
    }

    /// Writes a small blob.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], network and file errors.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<Digest, Error> {
        match &self.place {
            Place::Registry { repository, .. } => repository.put_blob(bytes).await,
            Place::Layout(layout) => put_file(layout.files.layout(), bytes).await,
        }
    }

    /// Writes a manifest or index. `is_root`: under the location's tag; else by digest only.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when the location names another digest, [`Error::Refused`] when the registry misses
    /// a blob, network and file errors.
    pub async fn put_manifest(
        &self,
        bytes: Bytes,
        media_type: &MediaType,
        is_root: bool,
    ) -> Result<Digest, Error> {
        let digest = digest::sha256_of(&bytes);
        match &self.place {
            Place::Registry {
                repository,
                reference,
            } => {
                let id = if is_root {
                    root_id(reference, &digest)?
                } else {
                    digest.as_ref()
                };
                repository.put_manifest(id, bytes, media_type).await?;
            }
            Place::Layout(layout) => {
                let len = bytes.len() as u64;
                put_file(layout.files.layout(), bytes).await?;
                if is_root {
                    let descriptor = Descriptor::new(media_type.clone(), len, digest.clone());
                    *layout.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(descriptor);
                }
            }
        }
        Ok(digest)
    }

    /// Makes all that was written visible (an archive is closed and renamed into place).
    ///
    /// # Errors
    /// File errors; the place is then as it was before.
    pub async fn finish(self) -> Result<(), Error> {
        let Place::Layout(layout) = self.place else {
            return Ok(());
        };
        let Layout { files, tag, root } = *layout;
        let root = root.into_inner().unwrap_or_else(PoisonError::into_inner);
        blocking(move || {
            if let Some(root) = root {
                files.layout().set_root(root, tag.as_deref())?;
            }
            match files {
                Files::Folder(_) => Ok(()),
                Files::Archive(archive) => archive.finish(),
            }
        })
        .await
    }
}

/// The name to store a root manifest under. A digest in the location must be its own.
fn root_id<'a>(reference: &'a Reference, digest: &'a Digest) -> Result<&'a str, Error> {
    match (&reference.digest, &reference.tag) {
        (Some(expected), _) if expected != digest => {
            let (what, expected) = (format!("manifest for {reference}"), expected.clone());
            Err(Error::DigestMismatch {
                what,
                expected,
                actual: digest.clone(),
            })
        }
        (_, Some(tag)) => Ok(tag),
        (_, None) => Ok(digest.as_ref()),
    }
}

async fn put_file(writer: &Writer, bytes: Bytes) -> Result<Digest, Error> {
    let writer = writer.clone();
    blocking(move || {
        let digest = digest::sha256_of(&bytes);
        writer.put_blob(&bytes, &digest)?;
        Ok(digest)
    })
    .await
}

/// A blob on its way in. Dropped unfinished: no blob appears. (A registry keeps the bytes it got until its own
/// expiry, unless [`BlobUpload::abort`] tells it.)
pub struct BlobUpload {
    kind: Kind,
}

enum Kind {
    Registry(Upload),
    /// The file is away only while a write is running or was abandoned.
    Layout(Writer, Option<BlobFile>),
}

fn abandoned() -> Error {
    Error::Io(std::io::Error::other(
        "an earlier write of this blob failed or was abandoned",
    ))
}

impl BlobUpload {
    /// Appends bytes.
    ///
    /// # Errors
    /// Network and file errors; the blob cannot be finished then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        match &mut self.kind {
            Kind::Registry(upload) => upload.write(&bytes).await,
            Kind::Layout(_, file) => {
                let mut taken = file.take().ok_or_else(abandoned)?;
                *file = Some(blocking(move || taken.write(&bytes).map(|()| taken)).await?);
                Ok(())
            }
        }
    }

    /// Ends the blob, which must have this digest.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], network and file errors.
    pub async fn finish(self, digest: &Digest) -> Result<(), Error> {
        match self.kind {
            Kind::Registry(upload) => upload.finish(digest).await,
            Kind::Layout(writer, file) => {
                let (file, digest) = (file.ok_or_else(abandoned)?, digest.clone());
                blocking(move || writer.finish(file, &digest)).await
            }
        }
    }

    /// Gives the blob up and clears what a registry already holds of it.
    pub async fn abort(self) {
        if let Kind::Registry(upload) = self.kind {
            upload.abort().await;
        }
    }
}
