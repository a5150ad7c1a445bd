//! Writing layout folders: blobs by temporary file and rename, `index.json` last.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Digest, MediaType};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{BLOBS, INDEX, MARKER, MARKER_CONTENT, REF_NAME};
use crate::image::digest::Hasher;
use crate::image::local::{Slice, blob_path};
use crate::image::manifest::MANIFEST_LEN_MAX;
use crate::image::{Error, unfinished};

/// Layout files are for every user to read, as other tools write them.
const FILE_MODE: u32 = 0o644;

/// A layout folder being written. All methods block.
#[derive(Clone)]
pub(crate) struct Writer {
    folder: PathBuf,
}

impl Writer {
    /// Creates the folder and its marker, or opens what is there and removes what earlier runs left unfinished.
    pub(crate) fn create(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(BLOBS).join("sha256");
        fs::create_dir_all(&path).map_err(|source| Error::File { path, source })?;
        unfinished::sweep(folder);
        let writer = Self {
            folder: folder.to_owned(),
        };
        if !folder.join(MARKER).try_exists().map_err(Error::file(folder))? {
            writer.put_file(MARKER, MARKER_CONTENT)?;
        }
        Ok(writer)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.folder.join(BLOBS), digest)
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.path_of(digest);
        path.try_exists().map_err(Error::file(&path))
    }

    /// A file in the top folder.
    fn unfinished(&self) -> Result<NamedTempFile, Error> {
        unfinished::create_file(&self.folder, FILE_MODE).map_err(Error::file(&self.folder))
    }

    /// Starts a blob.
    pub(crate) fn start(&self) -> Result<BlobFile, Error> {
        Ok(BlobFile {
            file: self.unfinished()?,
            hasher: Hasher::sha256(),
        })
    }

    /// Ends a blob, which must have the digest `expected`; one that exists already is left alone.
    pub(crate) fn finish(&self, blob: BlobFile, expected: &Digest) -> Result<(), Error> {
        let actual = blob.hasher.finish();
        if actual != *expected {
            let what = format!("blob written to {}", self.folder.display());
            return Err(Error::DigestMismatch {
                what,
                expected: expected.clone(),
                actual,
            });
        }
        if self.has_blob(expected)? {
            return Ok(());
        }
        persist(blob.file, &self.path_of(expected))
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

    fn put_file(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let mut file = self.unfinished()?;
        file.write_all(content).map_err(Error::file(file.path()))?;
        persist(file, &self.folder.join(name))
    }

    /// Lists `root` in `index.json` under `tag`, in place of an earlier image of that name; other entries stay.
    pub(crate) fn set_root(&self, mut root: Descriptor, tag: Option<&str>) -> Result<(), Error> {
        // Held until the end: two programs that add images to one layout must not lose each other's entry.
        let marker = self.folder.join(MARKER);
        let lock = File::open(&marker).map_err(Error::file(&marker))?;
        lock.lock().map_err(Error::file(&marker))?;

        if let Some(tag) = tag {
            let mut annotations = root.annotations().clone().unwrap_or_default();
            annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            root.set_annotations(Some(annotations));
        }
        // As plain JSON, so that members of other entries which this program does not know survive.
        let invalid =
            |reason: String| Error::invalid(format!("{INDEX} in {}", self.folder.display()), &reason);
        let mut index = self.read_index()?;
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            return Err(invalid("it has no list of manifests".to_owned()));
        };
        entries.retain(|entry| entry["annotations"][REF_NAME].as_str() != tag);
        entries.push(serde_json::to_value(root).map_err(|error| invalid(error.to_string()))?);
        let text = serde_json::to_vec(&index).map_err(|error| invalid(error.to_string()))?;
        self.put_file(INDEX, &text)
    }

    fn read_index(&self) -> Result<Value, Error> {
        let content = match Slice::open(&self.folder.join(INDEX)) {
            Ok(slice) => slice.read(MANIFEST_LEN_MAX)?,
            Err(Error::NotFound { .. }) => {
                let media_type = MediaType::ImageIndex.as_ref();
                return Ok(json!({"schemaVersion": 2, "mediaType": media_type, "manifests": []}));
            }
            Err(error) => return Err(error),
        };
        let what = || format!("{INDEX} in {}", self.folder.display());
        serde_json::from_slice(&content).map_err(|error| Error::invalid(what(), &error))
    }
}

/// Makes a finished temporary file durable under its final name.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), Error> {
    file.as_file().sync_all().map_err(Error::file(path))?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file(parent))?;
    }
    file.persist(path)
        .map_err(|error| Error::file(path)(error.error))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            let folder = File::open(parent).map_err(Error::file(parent))?;
            folder.sync_all().map_err(Error::file(parent))
        }
        _ => Ok(()),
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
        self.file.write_all(bytes).map_err(Error::file(self.file.path()))
    }
}
