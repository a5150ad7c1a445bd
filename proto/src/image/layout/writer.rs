//! Writing layout folders: blobs by temporary file and rename, `index.json` last.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, Digest, MediaType};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::folder::Folder;
use super::{BLOBS, INDEX, MARKER, REF_NAME};
use crate::image::digest::Hasher;
use crate::image::local::{Slice, blob_path};
use crate::image::manifest::MANIFEST_LEN_MAX;
use crate::image::{Error, open_regular};

/// A layout folder being written. All methods block. Clones write to the same layout.
///
/// Nothing is made before the first write. A layout that was not there before goes again, with all that was written to
/// it, when the last clone is dropped before an image is listed.
#[derive(Clone)]
pub(crate) struct Writer {
    folder: Arc<Folder>,
}

impl Writer {
    /// Looks at the folder: it must be one, or not be there yet.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        match fs::metadata(folder) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(Error::invalid(folder.display().to_string(), "not a folder"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(folder)(error)),
        }
        Ok(Self {
            folder: Arc::new(Folder::new(folder)),
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.folder().join(BLOBS), digest)
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        match open_regular(&self.path_of(digest)) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts a blob.
    pub(crate) fn start(&self) -> Result<BlobFile, Error> {
        Ok(BlobFile {
            file: self.folder.unfinished()?,
            hasher: Hasher::sha256(),
        })
    }

    /// Ends a blob, which must have the digest `expected`; one that exists already is left alone.
    pub(crate) fn finish(&self, blob: BlobFile, expected: &Digest) -> Result<(), Error> {
        let actual = blob.hasher.finish();
        if actual != *expected {
            let what = format!("blob written to {}", self.folder().display());
            return Err(Error::DigestMismatch {
                what,
                expected: expected.clone(),
                actual,
            });
        }
        if self.has_blob(expected)? {
            return Ok(());
        }
        self.folder.keep(blob.file, &self.path_of(expected))
    }

    /// Writes a small blob whose digest is known.
    pub(crate) fn put_blob(&self, bytes: &[u8], digest: &Digest) -> Result<(), Error> {
        if self.has_blob(digest)? {
            return Ok(());
        }
        let mut blob = self.start()?;
        blob.write(bytes)?;
        self.finish(blob, digest)
    }

    /// Lists `root` in `index.json` under `tag`, in place of an earlier image of that name; other entries stay.
    pub(crate) fn set_root(&self, mut root: Descriptor, tag: Option<&str>) -> Result<(), Error> {
        // Held until the end: two programs that add images to one layout must not lose each other's entry.
        let marker = self.folder().join(MARKER);
        let lock = open_regular(&marker)?;
        lock.lock().map_err(Error::file(&marker))?;

        if let Some(tag) = tag {
            let mut annotations = root.annotations().clone().unwrap_or_default();
            annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            root.set_annotations(Some(annotations));
        }
        // As plain JSON, so that members of other entries which this program does not know survive.
        let invalid =
            |reason: String| Error::invalid(format!("{INDEX} in {}", self.folder().display()), &reason);
        let mut index = self.read_index()?;
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            return Err(invalid("it has no list of manifests".to_owned()));
        };
        entries.retain(|entry| entry["annotations"][REF_NAME].as_str() != tag);
        entries.push(serde_json::to_value(root).map_err(|error| invalid(error.to_string()))?);
        let text = serde_json::to_vec(&index).map_err(|error| invalid(error.to_string()))?;
        self.folder.put_file(INDEX, &text)?;
        self.folder.finish();
        Ok(())
    }

    fn read_index(&self) -> Result<Value, Error> {
        let content = match Slice::open(&self.folder().join(INDEX)) {
            Ok(slice) => slice.read(MANIFEST_LEN_MAX)?,
            Err(Error::NotFound { .. }) => {
                let media_type = MediaType::ImageIndex.as_ref();
                return Ok(json!({"schemaVersion": 2, "mediaType": media_type, "manifests": []}));
            }
            Err(error) => return Err(error),
        };
        let what = || format!("{INDEX} in {}", self.folder().display());
        serde_json::from_slice(&content).map_err(|error| Error::invalid(what(), &error))
    }
}

/// A blob on its way into a layout. Dropped, its file is gone.
pub(crate) struct BlobFile {
    file: NamedTempFile,
    hasher: Hasher,
}

impl BlobFile {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        let written = self.file.as_file_mut().write_all(bytes);
        written.map_err(Error::file(self.file.path()))
    }
}
