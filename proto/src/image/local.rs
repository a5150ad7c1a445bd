//! Images on local disks: blobs as slices of files.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::Digest;

use super::{ByteStream, Error, RawManifest, open_regular};

/// Bytes read at a time: large enough that the hop to a blocking thread does not matter.
const READ_LEN: u64 = 512 << 10;

/// A run of bytes in an open file.
#[derive(Clone)]
pub(crate) struct Slice {
    pub(crate) file: Arc<File>,
    pub(crate) path: Arc<Path>,
    pub(crate) range: Range<u64>,
}

/// Where the blobs of a local image are.
pub(crate) enum Blobs {
    /// `<folder>/<algorithm>/<hex>`, one file for each.
    Folder(PathBuf),
    /// Members of an uncompressed tar.
    Slices(HashMap<Digest, Slice>),
}

/// An image in a layout folder or an archive.
pub(crate) struct Local {
    /// The place's name for errors, as the user wrote it.
    pub(crate) place: String,
    pub(crate) root: RawManifest,
    pub(crate) blobs: Blobs,
}

impl Local {
    /// Finds a blob. Blocking.
    pub(crate) fn slice(&self, digest: &Digest) -> Result<Slice, Error> {
        self.blobs.slice(digest, &self.place)
    }
}

impl Blobs {
    /// Finds a blob. Blocking.
    pub(crate) fn slice(&self, digest: &Digest, place: &str) -> Result<Slice, Error> {
        let absent = || Error::NotFound {
            what: format!("blob {digest}"),
            place: place.to_owned(),
        };
        match self {
            Self::Slices(slices) => slices.get(digest).cloned().ok_or_else(absent),
            Self::Folder(folder) => {
                let path = blob_path(folder, digest);
                match Slice::open(&path) {
                    Err(Error::NotFound { .. }) => Err(absent()),
                    other => other,
                }
            }
        }
    }
}

/// A blob's file below `blobs`. Neither half of a parsed digest can hold a slash or be a dot name.
pub(crate) fn blob_path(blobs: &Path, digest: &Digest) -> PathBuf {
    blobs.join(digest.algorithm().as_ref()).join(digest.digest())
}

impl Slice {
    /// The whole of a regular file. Blocking.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = open_regular(path)?;
        let len = file.metadata().map_err(Error::file(path))?.len();
        Ok(Self {
            file: Arc::new(file),
            path: path.into(),
            range: 0..len,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// The part `range` of this slice; fails when it reaches beyond the end.
    pub(crate) fn part(&self, range: &Range<u64>) -> Result<Self, Error> {
        if range.start > range.end || range.end > self.len() {
            let what = format!("{} at {}..{}", self.path.display(), range.start, range.end);
            let actual = self.len().saturating_sub(range.start);
            return Err(Error::LengthMismatch {
                what,
                expected: range.end.saturating_sub(range.start),
                actual,
            });
        }
        let start = self.range.start;
        Ok(Self {
            range: start + range.start..start + range.end,
            ..self.clone()
        })
    }

    /// Reads the whole slice into memory, unless it is longer than `len_max`. Blocking.
    pub(crate) fn read(&self, len_max: u64) -> Result<Bytes, Error> {
        let what = || self.path.display().to_string();
        if self.len() > len_max {
            return Err(Error::TooLarge {
                what: what(),
                len_max,
            });
        }
        let len = usize::try_from(self.len()).map_err(|_| Error::TooLarge {
            what: what(),
            len_max,
        })?;
        self.read_at(self.range.start, len)
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, Error> {
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(Error::file(&self.path))?;
        Ok(bytes.into())
    }

    /// Reads the next piece and steps behind it; `None` at the end. Blocking.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, Error> {
        let len = self.len().min(READ_LEN);
        if len == 0 {
            return Ok(None);
        }
        let bytes = self.read_at(self.range.start, len as usize)?;
        self.range.start += len;
        Ok(Some(bytes))
    }

    /// Streams the slice; each piece is read on a blocking thread when it is asked for.
    pub(crate) fn stream(self) -> ByteStream {
        Box::pin(futures::stream::try_unfold(self, |mut slice| {
            blocking(move || Ok(slice.next_piece()?.map(|bytes| (bytes, slice))))
        }))
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Io(std::io::Error::other(error))),
    }
}
